"""What the lane makes of gRPC on the wire, seen by a client that knows HTTP/2 and nothing of gRPC."""

import asyncio
import gzip
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

from deuteron.proto.schema import grpc_service_pb2 as pb
from deuteron.service.doorway import Doorway
from deuteron.service.grpc import stream
from deuteron.service.grpc.front import GrpcFront, grpc_front
from deuteron.service.grpc.lane import link, packing
from deuteron.service.grpc.lane.heads import Head, head_reader
from deuteron.service.grpc.status import Status
from deuteron.service.http2.errors import ErrorCode, StreamFault
from deuteron.service.http2.frames import ACK, DATA, END_STREAM, GOAWAY, PING, frame
from deuteron.service.http2.frames import HEADERS as HEADERS_FRAME
from deuteron.service.settings import GrpcEngine, GrpcSettings, KeepaliveSettings

from .http2_peer import sent_frames

HERE = "127.0.0.1"
SERVICE = "/inference.GRPCInferenceService/"
HEADERS = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", f"{SERVICE}ModelInfer"),
    (":authority", "here"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)
Open = Callable[..., Awaitable[GrpcFront]]
Until = Callable[[Callable[[], object]], Awaitable[None]]


def framed(body: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + len(body).to_bytes(4) + body


def request(model: str = "simple", size: int = 4) -> bytes:
    asked = pb.ModelInferRequest(model_name=model, id="7")
    shape = {"large": [size], "simple": [1, 4]}.get(model, [4])
    asked.inputs.add(name="INPUT0", datatype="UINT8" if model == "large" else "FP32", shape=shape)
    asked.raw_input_contents.append(bytes(size if model == "large" else 16))
    return asked.SerializeToString()


@dataclass
class Answer:
    """What came back on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    reset: int | None = None

    @property
    def status(self) -> tuple[Status, str]:
        """The status of the call, and its message as it travelled."""
        told = {**self.headers, **self.trailers}
        return Status(int(told["grpc-status"])), told.get("grpc-message", "")


class Wire:
    """A connection, and what was heard on it so far."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.events: list[Event] = []
        self.makes_room = True
        self.raw = b""
        self.only_listens = False
        """Whether what comes is written down and not answered: h2 knows no life after GOAWAY."""
        self.closed = False
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self._writer.write(self.h2.data_to_send())

    def send_raw(self, data: bytes) -> None:
        self._writer.write(data)

    def call(self, *bodies: bytes, headers: object = HEADERS, ends: bool = True, path: str = "") -> int:
        stream_id = self.h2.get_next_available_stream_id()
        named = dict(headers) | ({":path": SERVICE + path} if path else {})  # type: ignore[call-overload]
        self.h2.send_headers(stream_id, list(named.items()))
        for body in bodies:
            self.h2.send_data(stream_id, body)
        if ends:
            self.h2.end_stream(stream_id)
        self.flush()
        return stream_id

    async def listen(self) -> None:
        """Hear more."""
        async with asyncio.timeout(10):
            try:
                data = await self._reader.read(65536)
            except ConnectionError:
                data = b""
        if not data:
            self.closed = True
            return
        self.raw += data
        if self.only_listens:
            return
        for event in self.h2.receive_data(data):
            self.events.append(event)
            if isinstance(event, DataReceived) and self.makes_room:
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        self.flush()

    async def until(self, is_so: Callable[[], object]) -> None:
        """Listen until something is the case, or the connection is closed."""
        while not is_so() and not self.closed:
            await self.listen()
        assert is_so(), self.events

    async def answer(self, stream_id: int) -> Answer:
        """Return all that comes on a stream."""
        await self.until(lambda: any(self._of(stream_id, StreamEnded, StreamReset)))
        answer = Answer()
        for event in self._of(stream_id, ResponseReceived, TrailersReceived, DataReceived, StreamReset):
            match event:
                case ResponseReceived():
                    answer.headers = dict(event.headers)  # type: ignore[arg-type]
                case TrailersReceived():
                    answer.trailers = dict(event.headers)  # type: ignore[arg-type]
                case DataReceived():
                    answer.body += event.data
                case StreamReset():
                    answer.reset = int(event.error_code or 0)
        return answer

    async def infer(self, *bodies: bytes, **extra: str) -> Answer:
        headers = [*HEADERS, *((name.replace("_", "-"), value) for name, value in extra.items())]
        return await self.answer(self.call(*bodies, headers=headers))

    async def end(self) -> tuple[int, bytes]:
        """Wait until the connection is closed; return the last farewell."""
        await self.until(lambda: self.closed)
        farewell = [event for event in self.events if isinstance(event, ConnectionTerminated)][-1]
        return int(farewell.error_code or 0), farewell.additional_data or b""

    def told(self, kind: int) -> list[bytes]:
        """Return the payloads of the frames of a kind that came so far."""
        return [payload for each, _, _, payload in sent_frames(self.raw) if each == kind]

    def _of(self, stream_id: int, *kinds: type) -> list[Any]:
        return [e for e in self.events if isinstance(e, kinds) and getattr(e, "stream_id", 0) == stream_id]


@asynccontextmanager
async def connected(front: GrpcFront) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection(HERE, front.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


@pytest.fixture
async def open_lane(doorway: Doorway) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack_:

        async def open_(**keepalive: Any) -> GrpcFront:  # noqa: ANN401 - milliseconds, numbers and flags
            settings = GrpcSettings(address=HERE, port=0, engine=GrpcEngine.LANE)
            front = grpc_front(doorway, settings, KeepaliveSettings(**keepalive))
            await front.start()
            stack_.push_async_callback(front.close, 1.0)
            return front

        yield open_


@pytest.fixture
async def wire(open_lane: Open) -> AsyncIterator[Wire]:
    async with connected(await open_lane()) as wire:
        yield wire


# --- calls ---


async def test_an_answer_has_headers_one_message_and_trailers(wire: Wire) -> None:
    for _ in range(3):
        answer = await wire.infer(framed(request()))
        assert answer.headers == {
            ":status": "200",
            "content-type": "application/grpc",
            "grpc-accept-encoding": "identity, deflate, gzip",
        }
        assert answer.trailers == {"grpc-status": "0"}
        assert pb.ModelInferResponse.FromString(answer.body[5:]).id == "7"
        assert answer.body[:5] == framed(answer.body[5:])[:5]


async def test_an_error_is_told_in_one_header_block_and_percent_encoded(wire: Wire) -> None:
    answer = await wire.infer(framed(pb.ModelInferRequest(model_name="é%\n~").SerializeToString()))
    assert not answer.trailers
    assert answer.status == (
        Status.NOT_FOUND,
        "Request for unknown model: '%C3%A9%25%0A~' is not found",
    )


async def test_a_message_may_come_in_any_pieces(wire: Wire) -> None:
    body = framed(request())
    answer = await wire.infer(*(body[at : at + 1] for at in range(len(body))))
    assert answer.status == (Status.OK, "")
    answer = await wire.infer(body[:3], b"", body[3:9], body[9:])
    assert answer.status == (Status.OK, "")


@pytest.mark.parametrize("packed", [gzip.compress, zlib.compress])
async def test_packed_messages_are_unpacked(wire: Wire, packed: Callable[[bytes], bytes]) -> None:
    encoding = "gzip" if packed is gzip.compress else "deflate"
    answer = await wire.infer(framed(packed(request()), 1), grpc_encoding=encoding)
    assert answer.status == (Status.OK, "")
    answer = await wire.infer(framed(request(), 0), grpc_encoding=encoding)
    assert answer.status == (Status.OK, "")


BROKEN_BODIES = {
    "nothing": ((), {}, Status.INTERNAL),
    "half a prefix": ((b"\0\0",), {}, Status.INTERNAL),
    "half a message": ((framed(request())[:-1],), {}, Status.INTERNAL),
    "two messages": ((framed(request()) * 2,), {}, Status.UNIMPLEMENTED),
    "two messages in turn": ((framed(request()), framed(request())), {}, Status.UNIMPLEMENTED),
    "a flag that is none": ((framed(request(), 2),), {}, Status.INTERNAL),
    "more than may come": ((b"\0\xff\xff\xff\xff",), {}, Status.RESOURCE_EXHAUSTED),
    "packed by nobody knows what": ((framed(b"x", 1),), {"grpc_encoding": "br"}, Status.UNIMPLEMENTED),
    "packed without a word": ((framed(b"x", 1),), {}, Status.INTERNAL),
    "not packed at all": ((framed(b"x", 1),), {"grpc_encoding": "gzip"}, Status.INTERNAL),
    "packed and cut": (
        (framed(gzip.compress(b"x")[:-4], 1),),
        {"grpc_encoding": "gzip"},
        Status.INTERNAL,
    ),
}


@pytest.mark.parametrize(("bodies", "headers", "status"), BROKEN_BODIES.values(), ids=BROKEN_BODIES)
async def test_a_body_that_is_no_message_ends_its_call_alone(
    wire: Wire, bodies: tuple[bytes, ...], headers: dict[str, str], status: Status
) -> None:
    assert (await wire.infer(*bodies, **headers)).status[0] is status
    assert (await wire.infer(framed(request()))).status[0] is Status.OK


async def test_a_bomb_is_not_unpacked(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MOST_UNPACKED", 1000)
    bomb = framed(gzip.compress(bytes(1_000_000)), 1)
    answer = await wire.infer(bomb, grpc_encoding="gzip")
    assert answer.status[0] is Status.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({":method": "GET"}, "405"),
        ({"content-type": "application/json"}, "415"),
        ({"content-type": "application/grpcx"}, "415"),
    ],
)
async def test_what_is_no_call_is_told_so_as_http_does(
    wire: Wire, headers: dict[str, str], status: str
) -> None:
    stream_id = wire.call(headers=tuple((dict(HEADERS) | headers).items()))
    assert (await wire.answer(stream_id)).headers[":status"] == status


# --- deadlines ---


async def test_a_call_ends_at_its_deadline_and_its_request_is_taken_back(
    wire: Wire, doorway: Doorway, until: Until
) -> None:
    slow = doorway.repository.find("slow")
    calls = [
        wire.call(framed(request("slow")), headers=(*HEADERS, ("grpc-timeout", "20m"))) for _ in range(20)
    ]
    answers = [await wire.answer(each) for each in calls]
    assert answers[-1].status == (Status.DEADLINE_EXCEEDED, "Deadline Exceeded")
    await until(lambda: not slow.statistics.pending)
    assert slow.statistics.failures["CANCELED"] > 10


async def test_a_stream_ends_at_its_deadline(wire: Wire) -> None:
    headers = tuple((dict(HEADERS) | {":path": f"{SERVICE}ModelStreamInfer", "grpc-timeout": "60m"}).items())
    stream_id = wire.call(framed(request()), headers=headers, ends=False)
    answer = await wire.answer(stream_id)
    assert answer.status[0] is Status.DEADLINE_EXCEEDED
    assert pb.ModelStreamInferResponse.FromString(answer.body[5:]).infer_response.id == "7"


# --- what headers say ---


def head_of(*headers: tuple[str, str]) -> Head:
    named = dict(HEADERS)
    return head_reader({})([(n.encode(), v.encode()) for n, v in (*named.items(), *headers)])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1H", 3600), ("2M", 120), ("3S", 3), ("4m", 0.004), ("5u", 5e-6), ("6n", 6e-9), ("99999999H", 1e9)],
)
def test_timeouts_are_read(text: str, seconds: float) -> None:
    assert head_of(("grpc-timeout", text)).timeout_s == pytest.approx(seconds)


def test_metadata_is_what_the_client_said_beside_the_call() -> None:
    head = head_of(("user-agent", "me"), ("a", "1"), ("a", "é"), ("b-bin", "AAE="), ("c-bin", "AAE,/w"))
    assert head.metadata == (
        ("user-agent", "me"),
        ("a", "1"),
        ("a", "é".encode().decode("latin-1")),
        ("b-bin", b"\0\1"),
        ("c-bin", b"\0\1"),
        ("c-bin", b"\xff"),
    )


MALFORMED = {
    "no path": [(":method", "POST"), (":scheme", "http")],
    "an empty path": [(":method", "POST"), (":scheme", "http"), (":path", "")],
    "two paths": [*HEADERS[:3], (":path", "/b")],
    "a pseudo-header that is none": [*HEADERS[:4], (":status", "200")],
    "a pseudo-header too late": [*HEADERS[:3], ("a", "1"), HEADERS[3]],
    "capitals": [*HEADERS, ("Accept", "x")],
    "a blank in a name": [*HEADERS, ("a b", "x")],
    "an empty name": [*HEADERS, ("", "x")],
    "a line break in a value": [*HEADERS, ("a", "x\r\ny: z")],
    "a header of connections": [*HEADERS, ("connection", "close")],
    "te that is more": [*HEADERS[:4], ("te", "gzip")],
    "a timeout without unit": [*HEADERS, ("grpc-timeout", "5")],
    "a timeout of nothing": [*HEADERS, ("grpc-timeout", "")],
    "a timeout too long": [*HEADERS, ("grpc-timeout", "123456789S")],
    "a negative timeout": [*HEADERS, ("grpc-timeout", "-1S")],
    "binary metadata that is none": [*HEADERS, ("a-bin", "&&&")],
}


@pytest.mark.parametrize("headers", MALFORMED.values(), ids=MALFORMED)
def test_malformed_headers_end_their_stream(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(StreamFault) as caught:
        head_reader({})([(name.encode(), value.encode()) for name, value in headers])
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR


async def test_a_malformed_request_is_reset_and_the_connection_goes_on(wire: Wire) -> None:
    wire.h2.config.validate_outbound_headers = False
    answer = await wire.answer(wire.call(headers=(*HEADERS, ("grpc-timeout", "soon"))))
    assert answer.reset == ErrorCode.PROTOCOL_ERROR
    assert (await wire.infer(framed(request()))).status[0] is Status.OK


# --- windows ---


async def test_an_answer_waits_for_the_window_of_its_client(wire: Wire) -> None:
    wire.makes_room = False
    body = framed(request("large", 60_000))
    pieces = [body[at : at + 16_000] for at in range(0, len(body), 16_000)]
    stream_id = wire.call(*pieces)
    assert (await wire.answer(stream_id)).status[0] is Status.OK
    await wire.until(lambda: wire.h2.outbound_flow_control_window > 65_535)
    second = wire.call(*pieces)
    await wire.until(lambda: sum(len(e.data) for e in wire.events if isinstance(e, DataReceived)) == 65_535)
    third = wire.call(framed(pb.ModelInferRequest(model_name="no").SerializeToString()))
    assert (await wire.answer(third)).status[0] is Status.NOT_FOUND
    wire.h2.increment_flow_control_window(100_000)
    wire.flush()
    assert (await wire.answer(second)).status[0] is Status.OK


async def test_a_stream_whose_requests_wait_is_allowed_no_more(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is slow and the client quick: the window stays shut until the model has caught up."""
    monkeypatch.setattr(stream, "MAX_OPEN", 1)
    call = wire.call(ends=False, path="ModelStreamInfer")
    await wire.until(lambda: wire.h2.remote_settings.initial_window_size > 65_535)
    slow = pb.ModelInferRequest.FromString(request("slow"))
    slow.parameters["ballast"].string_param = "x" * 1_000_000
    body, sent = framed(slow.SerializeToString()), 0
    while sent < 8 * len(body):
        room = min(wire.h2.local_flow_control_window(call), wire.h2.max_outbound_frame_size)
        if not room:
            break
        at = sent % len(body)
        piece = body[at : at + room]
        wire.h2.send_data(call, piece)
        sent += len(piece)
    wire.flush()
    assert sent == 4 << 20
    answered = 0
    while sent < 8 * len(body):
        await wire.listen()
        answered = sum(isinstance(e, DataReceived) for e in wire.events)
        room = min(wire.h2.local_flow_control_window(call), wire.h2.max_outbound_frame_size)
        piece = body[sent % len(body) :][:room]
        if piece:
            wire.h2.send_data(call, piece)
            wire.flush()
        sent += len(piece)
    assert answered
    wire.h2.end_stream(call)
    wire.flush()
    answer = await wire.answer(call)
    assert answer.status[0] is Status.OK


# --- how connections are kept ---


async def test_a_silent_client_is_probed_and_hung_up_on_when_it_does_not_answer(open_lane: Open) -> None:
    front = await open_lane(time_ms=20, timeout_ms=20, permit_without_calls=True)
    async with connected(front) as wire:
        await wire.until(lambda: sum(isinstance(event, PingReceived) for event in wire.events) > 2)
        assert not wire.closed  # it answers: the package h2 does by itself
        wire.flush = lambda: None  # type: ignore[method-assign]
        await wire.until(lambda: wire.closed)


async def test_a_client_without_calls_is_not_probed_where_that_is_not_permitted(open_lane: Open) -> None:
    front = await open_lane(time_ms=10, timeout_ms=10)
    async with connected(front) as wire:
        call = wire.call(ends=False, path="ModelStreamInfer")
        await wire.until(lambda: any(isinstance(event, PingReceived) for event in wire.events))
        wire.h2.end_stream(call)
        wire.flush()
        await wire.answer(call)
        wire.events.clear()
        for _ in range(3):
            assert (await wire.infer(framed(request("slow")))).status[0] is Status.OK
        assert sum(isinstance(event, PingReceived) for event in wire.events) <= 3 * 2


async def test_a_connection_of_age_is_told_to_come_anew_after_its_calls(open_lane: Open) -> None:
    """First that it is about to end, then, as soon as that was heard, with which call."""
    front = await open_lane(max_connection_age_ms=20)
    async with connected(front) as wire:
        wire.only_listens = True
        call = wire.call(ends=False, path="ModelStreamInfer")
        await wire.until(lambda: wire.told(PING))
        assert [int.from_bytes(payload[:4]) for payload in wire.told(GOAWAY)] == [2**31 - 1]
        wire.send_raw(frame(PING, ACK, 0, wire.told(PING)[0]))
        await wire.until(lambda: len(wire.told(GOAWAY)) > 1)
        assert int.from_bytes(wire.told(GOAWAY)[1][:4]) == call
        assert not wire.told(HEADERS_FRAME)
        wire.send_raw(frame(DATA, END_STREAM, call))
        await wire.until(lambda: wire.closed)
        assert len(wire.told(HEADERS_FRAME)) == 2


async def test_a_connection_of_age_is_hung_up_on_after_its_grace(open_lane: Open) -> None:
    front = await open_lane(max_connection_age_ms=10, max_connection_age_grace_ms=10)
    async with connected(front) as wire:
        wire.only_listens = True
        wire.call(ends=False, path="ModelStreamInfer")
        await wire.until(lambda: wire.told(PING))
        wire.send_raw(frame(PING, ACK, 0, wire.told(PING)[0]))
        await wire.until(lambda: wire.closed)


async def test_a_client_that_probes_too_often_is_hung_up_on(open_lane: Open) -> None:
    front = await open_lane(max_ping_strikes=1)
    async with connected(front) as wire, connected(front) as other:
        for _ in range(4):
            wire.h2.ping(b"12345678")
        wire.flush()
        assert await wire.end() == (ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings")
        assert (await other.infer(framed(request()))).status[0] is Status.OK


async def test_who_does_not_greet_in_time_is_hung_up_on(
    open_lane: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "GREETING_S", 0.02)
    reader, writer = await asyncio.open_connection(HERE, (await open_lane()).port)
    writer.write(b"PRI * HT")
    async with asyncio.timeout(5):
        assert (await reader.read()).endswith(ErrorCode.SETTINGS_TIMEOUT.to_bytes(4))
    writer.close()


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\nHost: me\r\n\r\n", bytes(100), b"\x16\x03\x01\x02"])
async def test_who_speaks_something_else_is_hung_up_on(open_lane: Open, words: bytes) -> None:
    reader, writer = await asyncio.open_connection(HERE, (await open_lane()).port)
    writer.write(words)
    async with asyncio.timeout(5):
        assert b"no HTTP/2" in await reader.read()
    writer.close()


async def test_a_client_that_reads_nothing_is_hung_up_on(
    open_lane: Open, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """Its windows are wide open and its socket is full."""
    monkeypatch.setattr(link, "STALLED_S", 0.02)
    front = await open_lane()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (HERE, front.port))
        client = H2Connection(H2Configuration(client_side=True))
        client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 30})
        client.initiate_connection()
        client.increment_flow_control_window(1 << 30)
        sent = client.data_to_send()
        for number in range(1, 9, 2):
            client.send_headers(number, HEADERS)
            body = framed(request("large", 3_000_000))
            frames_ = [body[at : at + 16_000] for at in range(0, len(body), 16_000)]
            sent += client.data_to_send()
            sent += b"".join(len(each).to_bytes(3) + b"\0\0" + number.to_bytes(4) + each for each in frames_)
            sent += b"\0\0\0\0\1" + number.to_bytes(4)
        async with asyncio.timeout(10):
            with suppress(ConnectionError):
                while True:
                    await asyncio.get_running_loop().sock_sendall(sock, sent)
                    sent = frame(PING, ACK, 0, bytes(8))


async def test_calls_in_flight_are_taken_back_when_their_connection_is_lost(
    open_lane: Open, doorway: Doorway, until: Until
) -> None:
    slow = doorway.repository.find("slow")
    async with connected(await open_lane()) as wire:
        for _ in range(20):
            wire.call(framed(request("slow")))
        await until(lambda: slow.statistics.pending > 10)
    await until(lambda: not slow.statistics.pending)
    assert slow.statistics.failures["CANCELED"] > 5
