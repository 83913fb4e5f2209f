"""What happens on the wire below requests: how bodies come, how connections end, and what strangers send."""

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from deuteron.proto.errors import Fault, InferError
from deuteron.service.doorway import Doorway
from deuteron.service.http import bodies
from deuteron.service.http.door import http_front
from deuteron.service.http.front import HttpFront
from deuteron.service.http.lane import Turn
from deuteron.service.settings import HttpSettings

Open = Callable[..., Awaitable[HttpFront]]
Until = Callable[[Callable[[], object]], Awaitable[None]]

ROW = {"name": "INPUT0", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4]}
BODY = json.dumps({"inputs": [{**ROW, "shape": [1, 4]}]}).encode()
SLOW_BODY = json.dumps({"inputs": [ROW]}).encode()


class Wire:
    """A connection on which bytes are sent and responses are read as they come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *pieces: bytes) -> None:
        self.writer.write(b"".join(pieces))

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the next response."""
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.rstrip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(status.split(" ")[1]), headers, body

    async def is_closed(self) -> bool:
        """Wait until the other side closes; return whether it sent nothing more."""
        async with asyncio.timeout(5):
            return not await self.reader.read()


@asynccontextmanager
async def connected(front: HttpFront) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


@pytest.fixture
async def wire(http: HttpFront) -> AsyncIterator[Wire]:
    async with connected(http) as wire:
        yield wire


def post(path: str, *headers: str, body: bytes = b"", version: str = "1.1") -> bytes:
    """Return a request; without a `Content-Length` of its own it gets the true one."""
    lines = [f"POST {path} HTTP/{version}", "Host: here", *headers]
    if not any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


INFER = "/v2/models/simple/infer"


# --- how bodies come ---


async def test_connections_are_kept_and_requests_may_be_pipelined(wire: Wire) -> None:
    wire.send(*[post(INFER, body=BODY)] * 5)
    for _ in range(5):
        assert (await wire.response())[0] == 200


async def test_a_body_may_come_byte_by_byte(wire: Wire) -> None:
    for byte in post(INFER, body=BODY):
        wire.send(bytes([byte]))
        await wire.writer.drain()
        await asyncio.sleep(0)
    assert (await wire.response())[0] == 200


async def test_a_body_may_come_in_chunks(wire: Wire) -> None:
    wire.send(post(INFER, "Transfer-Encoding: chunked"))
    for start in range(0, len(BODY), 7):
        piece = BODY[start : start + 7]
        wire.send(f"{len(piece):x}\r\n".encode(), piece, b"\r\n")
    wire.send(b"0\r\n\r\n")
    assert (await wire.response())[0] == 200


async def test_a_client_that_waits_for_leave_to_send_gets_it(wire: Wire) -> None:
    wire.send(post(INFER, "Expect: 100-continue", f"Content-Length: {len(BODY)}"))
    assert (await wire.response())[0] == 100
    wire.send(BODY)
    assert (await wire.response())[0] == 200


async def test_a_client_that_waits_is_refused_before_it_sends(wire: Wire) -> None:
    wire.send(post("/v2/models/no/infer", "Expect: 100-continue", "Content-Length: 1000"))
    assert (await wire.response())[0] == 404


async def test_http_1_0_is_spoken_too(http: HttpFront) -> None:
    async with connected(http) as wire:
        wire.send(post(INFER, body=BODY, version="1.0"))
        status, headers, _ = await wire.response()
        assert (status, headers["connection"]) == (200, "close")
        assert await wire.is_closed()
    async with connected(http) as wire:
        wire.send(*[post(INFER, "Connection: keep-alive", body=BODY, version="1.0")] * 2)
        for _ in range(2):
            status, headers, _ = await wire.response()
            assert (status, headers["connection"]) == (200, "keep-alive")


async def test_a_client_may_ask_for_the_end_of_the_connection(wire: Wire) -> None:
    wire.send(post(INFER, "Connection: close", body=BODY))
    status, headers, _ = await wire.response()
    assert (status, headers["connection"]) == (200, "close")
    assert await wire.is_closed()


async def test_a_response_waits_for_a_client_that_reads_slowly(http: HttpFront) -> None:
    """What does not fit into the socket waits in the server, and comes whole when it is read."""
    size = 8_000_000
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "INPUT0",
                    "datatype": "UINT8",
                    "shape": [size],
                    "parameters": {"binary_data_size": size},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", http.port))
    reader, writer = await asyncio.open_connection(sock=sock)
    wire = Wire(reader, writer)
    wire.send(
        post(
            "/v2/models/large/infer",
            f"Inference-Header-Content-Length: {len(header)}",
            body=header + bytes(size),
        )
    )
    status, _, body = await wire.response()
    assert (status, body[-size:]) == (200, bytes(size))
    writer.close()


# --- what is refused ---


async def test_a_body_that_is_announced_too_large_is_refused_unread(
    doorway: Doorway, open_http: Open
) -> None:
    async with connected(await open_http(doorway, max_input_size=1000)) as wire:
        wire.send(post(INFER, "Content-Length: 99999999999"))
        status, headers, body = await wire.response()
        assert (status, headers["connection"]) == (400, "close")
        assert b"request JSON size of 99999999999 bytes exceeds the maximum" in body


async def test_a_body_that_grows_too_large_is_refused_while_it_grows(
    doorway: Doorway, open_http: Open
) -> None:
    async with connected(await open_http(doorway, max_input_size=1000)) as wire:
        wire.send(post(INFER, "Transfer-Encoding: chunked"))
        for _ in range(11):
            wire.send(b"64\r\n", bytes(100), b"\r\n")
        status, headers, body = await wire.response()
        assert (status, headers["connection"]) == (400, "close")
        assert b"exceeds the maximum allowed input size of 1000 bytes" in body


async def test_no_tensor_makes_a_body_larger_than_a_body_may_be(wire: Wire) -> None:
    wire.send(post(INFER, "Inference-Header-Content-Length: 10", f"Content-Length: {2**31}"))
    status, _, body = await wire.response()
    assert status == 400
    assert b"request body of 2147483648 bytes exceeds the 2147483647 bytes" in body


async def test_too_many_chunks_are_refused(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_CHUNKS", 10)
    wire.send(post(INFER, "Transfer-Encoding: chunked"))
    await asyncio.sleep(0)
    for _ in range(12):
        wire.send(b"1\r\n \r\n")
    status, headers, body = await wire.response()
    assert (status, headers["connection"]) == (400, "close")
    assert b"Chunked request body exceeds maximum of 10 non-empty chunks." in body


async def test_a_body_that_stops_growing_is_given_up(
    http: HttpFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "SILENCE_S", 0.05)
    async with connected(http) as wire:
        wire.send(post(INFER, "Content-Length: 100"), b"only this")
        status, headers, body = await wire.response()
    assert (status, headers["connection"]) == (400, "close")
    assert json.loads(body) == {"error": "the request body did not arrive in time"}


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /v2 HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ],
    ids=lambda sent: sent[:40],
)
async def test_what_is_no_http_is_refused_in_json_and_the_connection_ends(
    wire: Wire, http: HttpFront, sent: bytes
) -> None:
    wire.send(sent)
    status, headers, body = await wire.response()
    assert (status, headers["content-type"], headers["connection"]) == (400, "application/json", "close")
    assert json.loads(body)["error"]
    assert await wire.is_closed()
    async with connected(http) as other:
        other.send(post(INFER, body=BODY))
        assert (await other.response())[0] == 200


async def test_a_broken_chunk_ends_its_request_only(wire: Wire, http: HttpFront) -> None:
    wire.send(post(INFER, "Transfer-Encoding: chunked"), b"5\r\n{")
    await wire.writer.drain()
    wire.send(b"\r\nnot a chunk\r\n\r\n")
    status, headers, _ = await wire.response()
    assert (status, headers["connection"]) == (400, "close")
    async with connected(http) as other:
        other.send(post(INFER, body=BODY))
        assert (await other.response())[0] == 200


async def test_a_path_that_is_no_text_still_gets_json(wire: Wire) -> None:
    wire.send(b"GET /v2/models/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n")
    status, _, body = await wire.response()
    assert status in (400, 404)
    assert "error" in json.loads(body)


PIECES = (
    b"POST /v2/models/simple/infer HTTP/1.1\r\n",
    b"GET /v2/models/simple HTTP/1.1\r\n",
    b"Host: x\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Accept-Encoding: gzip\r\n",
    b"Inference-Header-Content-Length: 3\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    b"\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    BODY,
)


async def test_no_noise_ends_the_server(http: HttpFront) -> None:
    """Whatever comes, its connection ends, and the next one is served."""
    dice = random.Random(20_26)
    for _ in range(300):
        noise = [
            dice.choice(PIECES) if dice.random() < 0.8 else dice.randbytes(dice.randrange(40))
            for _ in range(dice.randrange(12))
        ]
        async with connected(http) as wire:
            wire.send(*noise)
            wire.writer.write_eof()
            async with asyncio.timeout(5):
                with suppress(ConnectionError):
                    await wire.reader.read()
    async with connected(http) as wire:
        wire.send(post(INFER, body=BODY))
        assert (await wire.response())[0] == 200


# --- who goes away ---


async def test_a_lost_client_takes_its_request_along(doorway: Doorway, http: HttpFront, until: Until) -> None:
    """Those that wait are taken out of the queue, and their neighbours are answered."""
    slow = doorway.repository.find("slow")
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connected(http)) for _ in range(20)]
        for wire in wires:
            wire.send(post("/v2/models/slow/infer", body=SLOW_BODY))
        await until(lambda: slow.statistics.pending > 9)
        for wire in wires[1::2]:
            wire.writer.close()
        for wire in wires[::2]:
            assert (await wire.response())[0] == 200
    await until(lambda: not slow.statistics.pending)
    assert slow.statistics.failures["CANCELED"] > 0
    assert slow.statistics.success.count >= 10


async def test_a_client_that_is_lost_while_it_sends_leaves_nothing_behind(
    doorway: Doorway, http: HttpFront
) -> None:
    for length in (0, 1, 10):
        async with connected(http) as wire:
            wire.send(post(INFER, "Content-Length: 100"), b"x" * length)
            await wire.writer.drain()
    async with connected(http) as wire:
        wire.send(post(INFER, body=BODY))
        assert (await wire.response())[0] == 200
    assert doorway.repository.find("simple").statistics.success.count == 1


# --- how a front opens and closes ---


async def test_a_port_that_is_taken_is_an_error(doorway: Doorway, http: HttpFront) -> None:
    second = http_front(doorway, HttpSettings(address="127.0.0.1", port=http.port))
    with pytest.raises(InferError) as caught:
        await second.start()
    assert caught.value.fault is Fault.UNAVAILABLE
    assert caught.value.message == f"Socket '127.0.0.1:{http.port}' already in use "
    await second.close(0)


async def test_an_address_that_is_not_here_is_an_error(doorway: Doorway) -> None:
    front = http_front(doorway, HttpSettings(address="203.0.113.1", port=0))
    with pytest.raises(InferError, match=r"cannot listen at '203.0.113.1:0'"):
        await front.start()


async def test_a_port_may_be_shared_when_both_say_so(doorway: Doorway) -> None:
    first = http_front(doorway, HttpSettings(address="127.0.0.1", port=0, reuse_port=True))
    await first.start()
    second = http_front(doorway, HttpSettings(address="127.0.0.1", port=first.port, reuse_port=True))
    await second.start()
    assert first.address == second.address
    for front in (first, second):
        await front.close(0)


async def test_a_front_that_stops_accepting_still_serves_who_is_there(
    doorway: Doorway, open_http: Open
) -> None:
    front = await open_http(doorway)
    async with connected(front) as wire:
        wire.send(post(INFER, body=BODY))
        await wire.response()
        await front.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", front.port)
        wire.send(post(INFER, body=BODY))
        assert (await wire.response())[0] == 200


async def test_a_front_that_closes_answers_what_it_holds_and_ends_the_idle(
    doorway: Doorway, open_http: Open, until: Until
) -> None:
    front = await open_http(doorway)
    slow = doorway.repository.find("slow")
    async with connected(front) as busy, connected(front) as idle:
        idle.send(post(INFER, body=BODY))
        await idle.response()
        busy.send(post("/v2/models/slow/infer", body=SLOW_BODY))
        await until(lambda: slow.busy)
        closing = asyncio.ensure_future(front.close(5))
        assert await idle.is_closed()
        status, headers, _ = await busy.response()
        assert (status, headers["connection"]) == (200, "close")
        assert await busy.is_closed()
        await asyncio.wait_for(closing, 1)


def in_a_body(front: HttpFront) -> bool:
    """Whether the lane has a part of a body."""
    return front._lane is not None and any(
        connection._turn is Turn.BODY for connection in front._lane.connections
    )


@pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/nothing"])
async def test_the_answer_to_head_has_no_body(http: HttpFront, path: str) -> None:
    async with connected(http) as wire:
        for _ in range(2):  # the second is read where the first one ended
            wire.send(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            wire.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = await wire.reader.readuntil(b"\r\n\r\n")
            assert head.startswith((b"HTTP/1.1 405", b"HTTP/1.1 404"))
            assert (await wire.response())[0] in (200, 404)


async def test_after_its_grace_a_front_waits_for_nobody(
    doorway: Doorway, open_http: Open, until: Until
) -> None:
    front = await open_http(doorway)
    async with connected(front) as wire:
        wire.send(post(INFER, "Content-Length: 100"), b"never more than this")
        await until(lambda: front._server.requests_count or in_a_body(front))
        await asyncio.wait_for(front.close(0.05), 2)
        assert await wire.is_closed()
