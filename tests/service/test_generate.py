"""The generate extension answers plain values: one object, or a stream of server-sent events."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from deuteron.actors import reply
from deuteron.actors.loading import LoadOptions
from deuteron.actors.repository import Repository
from deuteron.backends.catalog import Catalog
from deuteron.service.doorway import Doorway
from deuteron.service.http import responses
from deuteron.service.http.door import http_front
from deuteron.service.http.front import HttpFront
from deuteron.service.settings import ControlMode, HttpSettings

Until = Callable[[Callable[[], object]], Awaitable[None]]
Post = Callable[..., Awaitable[tuple[int, str, str]]]

CONFIG = """
name: "NAME"
backend: "python"
OPTIONS
input [
  { name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "COUNT" data_type: TYPE_INT32 dims: [ 1 ] }
]
output [ { name: "PIECE" data_type: TYPE_STRING dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""

DECOUPLED = '''
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """COUNT responses, each TEXT; parameters say which fail, and whether to go on until cancelled."""

    def execute(self, requests):
        for request in requests:
            text = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().reshape(1)
            count = int(pb_utils.get_input_tensor_by_name(request, "COUNT").as_numpy().item())
            told = json.loads(request.parameters())
            sender = request.get_response_sender()
            piece = pb_utils.InferenceResponse([pb_utils.Tensor("PIECE", text)])
            sent = 0
            while sent < count or told.get("endless"):
                if sent == told.get("fails_at"):
                    sender.send(pb_utils.InferenceResponse(
                        error=pb_utils.TritonError("no", pb_utils.TritonError.UNAVAILABLE)))
                else:
                    sender.send(piece)
                sent += 1
                if sender.is_cancelled():
                    break
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
'''

PLAIN = '''
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """TEXT, and the parameters of the request; COUNT below zero is an error."""

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        text = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        if pb_utils.get_input_tensor_by_name(request, "COUNT").as_numpy().item() < 0:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("below zero"))
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("PIECE", text)], parameters={"heard": request.parameters()})
'''

MODELS = {
    "stream": (DECOUPLED, "model_transaction_policy { decoupled: true }"),
    "plain": (PLAIN, ""),
    "batching": (PLAIN, "max_batch_size: 4"),
}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[HttpFront]:
    """Open the HTTP door of a house of Python models."""
    for name, (code, options) in MODELS.items():
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "model.py").write_text(code)
        config = CONFIG.replace("NAME", name, 1).replace("OPTIONS", options)
        (tmp_path / name / "config.pbtxt").write_text(config)
    async with AsyncExitStack() as stack:
        repository = await stack.enter_async_context(Repository([tmp_path], Catalog(), LoadOptions()))
        assert not await repository.load_at_start(None)
        doorway = Doorway(repository, ControlMode.NONE, "house", "1.2.3")
        front = http_front(doorway, HttpSettings(address="127.0.0.1", port=0))
        await front.start()
        stack.push_async_callback(front.close, 1.0)
        yield front


@pytest.fixture
async def post(http: HttpFront) -> AsyncIterator[Post]:
    """Ask for a path below the models; return status, content type and text."""
    async with ClientSession(f"http://{http.address}") as session:

        async def ask(path: str, body: object, **headers: str) -> tuple[int, str, str]:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            async with session.post(f"/v2/models/{path}", data=data, headers=named) as answer:
                return answer.status, answer.headers["Content-Type"], await answer.text()

        yield ask


def events(text: str) -> list[Any]:
    """Return the JSON of each event, parsed as the rules for server-sent events say."""
    assert text.endswith("\n\n") or not text
    blocks = text.split("\n\n")[:-1]
    for block in blocks:
        assert block.startswith("data: ")
        assert "\n" not in block
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def asked(count: int, **parameters: object) -> dict[str, object]:
    return (
        {"TEXT": "tea", "COUNT": count, "parameters": parameters}
        if parameters
        else {
            "TEXT": "tea",
            "COUNT": count,
        }
    )


def connect(http: HttpFront, body: object, path: str, version: str = "1.1") -> socket.socket:
    """Send a request over a socket of its own, one that takes little before it is read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", http.port))
    text = json.dumps(body).encode()
    head = f"POST /v2/models/{path} HTTP/{version}\r\nHost: here\r\nContent-Length: {len(text)}\r\n\r\n"
    sock.sendall(head.encode() + text)
    return sock


def read_to_end(sock: socket.socket) -> bytes:
    sock.settimeout(20)
    with sock:
        return b"".join(iter(lambda: sock.recv(65536), b""))


# --- one object ---


async def test_plain_values_go_in_and_one_object_comes_out(post: Post) -> None:
    status, kind, text = await post("plain/generate", {"id": "7", "TEXT": "tea", "COUNT": 1, "sugar": True})
    assert (status, kind) == (200, "application/json")
    told = json.loads(text)
    assert json.loads(told.pop("heard")) == {"id": "7", "sugar": True}
    assert list(told.items()) == [
        ("PIECE", "tea"),
        ("id", "7"),
        ("model_name", "plain"),
        ("model_version", "1"),
    ]


async def test_a_version_may_be_named_and_a_batch_dimension_is_worked_out(post: Post) -> None:
    status, _, text = await post("batching/versions/1/generate", {"TEXT": ["tea"], "COUNT": [1]})
    assert (status, json.loads(text)["PIECE"]) == (200, "tea")


async def test_a_decoupled_model_that_answers_once_is_generated_from_too(post: Post) -> None:
    status, _, text = await post("stream/generate", asked(1))
    assert (status, json.loads(text)["PIECE"]) == (200, "tea")


@pytest.mark.parametrize("count", [0, 2, 5])
async def test_any_other_number_of_responses_is_told_under_the_status_of_the_first(
    post: Post, count: int
) -> None:
    status, kind, text = await post("stream/generate", asked(count))
    assert (status, kind) == (200, "application/json")
    assert json.loads(text)["error"].startswith("generate expects model to produce exactly 1 response, use")
    status, _, text = await post("stream/generate", asked(2, fails_at=0))
    assert (status, "exactly 1 response" in text) == (503, True)


async def test_the_error_of_a_model_has_its_status(post: Post) -> None:
    assert await post("plain/generate", asked(-1)) == (500, "application/json", '{"error":"below zero"}')
    assert (await post("stream/generate", asked(1, fails_at=0)))[::2] == (503, '{"error":"no"}')


# --- a stream of events ---


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
async def test_every_response_of_a_decoupled_model_is_an_event(post: Post, count: int) -> None:
    status, kind, text = await post("stream/generate_stream", asked(count))
    assert (status, kind) == (200, "text/event-stream; charset=utf-8")
    assert events(text) == [{"PIECE": "tea", "model_name": "stream", "model_version": "1"}] * count


async def test_a_plain_model_is_streamed_as_one_event(post: Post) -> None:
    status, kind, text = await post("plain/generate_stream", asked(1))
    assert (status, kind) == (200, "text/event-stream; charset=utf-8")
    assert [told["PIECE"] for told in events(text)] == ["tea"]


async def test_the_first_response_decides_the_status_of_a_stream(post: Post) -> None:
    status, kind, text = await post("stream/generate_stream", asked(2, fails_at=0))
    assert (status, kind) == (503, "text/event-stream; charset=utf-8")
    assert [told.get("error") for told in events(text)] == ["no", None]
    status, _, text = await post("stream/generate_stream", asked(3, fails_at=1))
    assert (status, [told.get("error") for told in events(text)]) == (200, [None, "no", None])


async def test_what_a_model_never_heard_of_is_refused_in_json(post: Post) -> None:
    for path in ("stream/generate_stream", "stream/generate"):
        answer = await post(path, {"TEXT": "tea"})
        assert answer[:2] == (400, "application/json")
        assert "expected 2 inputs but got 1 inputs for model 'stream'" in answer[2]
        status, kind, text = await post(path, b"{")
        assert (status, kind) == (500, "application/json")
        assert "failed to parse the request JSON buffer" in text
        assert (await post(path, asked(1), Content_Encoding="gzip")) == (
            400,
            "application/json",
            '{"error":"Unsupported content-encoding, only \'identity\' is supported."}',
        )
        assert (await post(path.replace("stream/", "none/"), asked(1)))[0] == 404


async def test_the_connection_is_kept_after_a_stream(http: HttpFront) -> None:
    loop = asyncio.get_running_loop()
    sock = connect(http, asked(2), "stream/generate_stream")
    body = json.dumps(asked(1)).encode()
    sock.sendall(
        b"POST /v2/models/plain/generate HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    heard = await loop.run_in_executor(None, read_to_end, sock)
    first, second, third = heard.split(b"HTTP/1.1 200 OK\r\n")
    assert first == b""
    head, _, chunks = second.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    event = b'data: {"PIECE":"tea","model_name":"stream","model_version":"1"}\n\n'
    assert chunks == (b"%x\r\n%b\r\n" % (len(event), event)) * 2 + b"0\r\n\r\n"
    assert b"Connection: close" in third


async def test_http_1_0_gets_its_events_without_chunks(http: HttpFront) -> None:
    sock = connect(http, asked(2), "stream/generate_stream", version="1.0")
    heard = await asyncio.get_running_loop().run_in_executor(None, read_to_end, sock)
    head, _, body = heard.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert len(events(body.decode())) == 2


# --- clients that leave, and clients that are slow ---


@pytest.mark.parametrize("path", ["stream/generate_stream", "stream/generate"])
async def test_a_client_that_leaves_ends_its_request(http: HttpFront, post: Post, path: str) -> None:
    """The only instance is busy for as long as the endless request runs."""
    sock = connect(http, asked(0, endless=True), path)
    if path == "stream/generate_stream":
        assert await asyncio.get_running_loop().run_in_executor(None, sock.recv, 15) == b"HTTP/1.1 200 OK"
    sock.close()
    assert (await post("stream/generate", asked(1)))[0] == 200


async def test_a_client_that_reads_slowly_gets_everything(http: HttpFront) -> None:
    big = {"TEXT": "t" * 10_000, "COUNT": 500}
    sock = connect(http, big, "stream/generate_stream", version="1.0")
    heard = await asyncio.get_running_loop().run_in_executor(None, read_to_end, sock)
    assert [len(told["PIECE"]) for told in events(heard.partition(b"\r\n\r\n")[2].decode())] == [10_000] * 500


@pytest.mark.parametrize("bound", ["STREAM_BACKLOG", "STREAM_BACKLOG_BYTES"])
async def test_a_client_too_far_behind_loses_its_stream_with_a_reason(
    http: HttpFront, post: Post, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """What waits is bounded by number and by bytes, and the request behind it ends."""
    monkeypatch.setattr(reply, bound, 50)
    sock = connect(http, {"TEXT": "t" * 10_000, **asked(0, endless=True)}, "stream/generate_stream", "1.0")
    assert (await post("plain/generate", asked(1)))[0] == 200
    heard = await asyncio.get_running_loop().run_in_executor(None, read_to_end, sock)
    assert "wait to be read" in events(heard.partition(b"\r\n\r\n")[2].decode())[-1]["error"]
    monkeypatch.undo()
    assert (await post("stream/generate", asked(1)))[0] == 200


async def test_a_client_that_reads_nothing_is_hung_up_on(
    http: HttpFront, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses, "STALLED_S", 0.05)
    sock = connect(http, {**asked(0, endless=True), "TEXT": "t" * 100_000}, "stream/generate_stream")
    assert (await post("stream/generate", asked(1)))[0] == 200
    heard = await asyncio.get_running_loop().run_in_executor(None, read_to_end, sock)
    assert not heard.endswith(b"0\r\n\r\n")
