"""Which heads the lane reads, and which it leaves to aiohttp because somebody might read them differently."""

import pytest

from deuteron.service.http.heads import MAX_HEAD, REMEMBERED, HeadReader
from deuteron.service.policy import Requirement

INFER = "/v2/models/m/infer"


def head(*headers: str, method: str = "POST", path: str = INFER, version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: here", *headers, "", ""]).encode("latin-1")


def test_a_plain_inference_request_is_the_lanes() -> None:
    text = head("Content-Length: 12", "Inference-Header-Content-Length: 7")
    read = HeadReader().read(text + b"the body itself")
    assert read is not None
    assert (read.size, read.body_size, read.json_length) == (len(text), 12, "7")
    assert read.infer is not None
    assert (read.infer.model, read.infer.version) == ("m", -1)
    assert read.headers[0] == (b"Host", b"here")


def test_a_head_is_read_once() -> None:
    reader = HeadReader()
    text = head("Content-Length: 0")
    assert reader.read(text) is reader.read(text + b"more")


def test_the_memory_of_heads_is_bounded() -> None:
    reader = HeadReader()
    for each in range(3 * REMEMBERED):
        reader.read(head(f"X: {each}"))
    assert len(reader._known) <= REMEMBERED


@pytest.mark.parametrize(
    "other",
    [
        head(method="GET", path="/v2/health/live"),
        head("Content-Length: 5", path="/v2/models/m/generate"),
        head("Content-Length: 5", path="/nowhere"),
        head("Content-Length: 5", path="/v2/models/m/versions/99999999999999999999/infer"),
        head("Content-Length: 5", method="GET"),
        head("Content-Length: 5", "Content-Encoding: gzip"),
        head("Content-Length: 5", "Accept-Encoding: gzip"),
        head("Content-Length: 5", "Connection: Keep-Alive", path="/v2/models/m/generate_stream"),
    ],
)
def test_what_else_has_a_certain_end_is_lent(other: bytes) -> None:
    read = HeadReader().read(other)
    assert read is not None
    assert read.infer is None
    assert read.body_size == (5 if b"Length" in other else 0)


@pytest.mark.parametrize(
    "doubtful",
    [
        head("Content-Length: 5").replace(b"Host: here", b"Guest: here"),
        head("Content-Length: 5", "Content-Length: 6"),
        head("Content-Length: 5", "content-length: 5"),
        head("Content-Length: +5"),
        head("Content-Length: 5, 5"),
        head("Content-Length: 0x5"),
        head("Content-Length: -1"),
        head("Content-Length:"),
        head("Content-Length: 9999999999999999999"),
        head("Content-Length : 5"),
        head("Content-Length: 5", "Transfer-Encoding: chunked"),
        head("Transfer-Encoding: chunked"),
        head("Transfer-Encoding: identity", "Content-Length: 5"),
        head("Content-Length: 5", "Expect: 100-continue"),
        head("Content-Length: 5", "Upgrade: h2c"),
        head("Content-Length: 5", "Connection: close"),
        head("Content-Length: 5", "Connection: upgrade"),
        head("Content-Length: 5", "X: a\nTransfer-Encoding: chunked"),
        head("Content-Length: 5", "X: a\rTransfer-Encoding: chunked"),
        head("Content-Length: 5", "X: folded", " Transfer-Encoding: chunked"),
        head("Content-Length: 5", "X: nul\0"),
        head("Content-Length: 5", ": nameless"),
        head("Content-Length: 5", "no colon"),
        head("Content-Length: 5", "na me: x"),
        head("Content-Length: 5", version="1.0"),
        head("Content-Length: 5", version="2.0"),
        head("Content-Length: 5", path="/a b"),
        head("Content-Length: 5", path="http://here/v2"),
        head("Content-Length: 5", method="post"),
        head("Content-Length: 5", method="PUT"),
        head("Content-Length: 5", *["X: y"] * 128),
        head("Content-Length: 5", "X: " + "y" * MAX_HEAD),
        head("Content-Length: 5")[:-1],
        b"\r\n" + head("Content-Length: 5"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"",
    ],
)
def test_what_somebody_might_read_differently_is_not_read(doubtful: bytes) -> None:
    assert HeadReader().read(doubtful) is None


def test_without_its_key_inference_is_left_to_who_refuses_it() -> None:
    reader = HeadReader(Requirement("X-Key", "open sesame"))
    for headers, passes in [
        (["x-key: open sesame"], True),
        (["X-Key: closed"], False),
        ([], False),
    ]:
        read = reader.read(head("Content-Length: 5", *headers))
        assert read is not None
        assert (read.infer is not None) is passes
