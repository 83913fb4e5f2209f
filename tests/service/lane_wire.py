"""A client of gRPC that knows HTTP/2 and nothing of gRPC: it shows what is on the wire."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from deuteron.proto.schema import grpc_service_pb2 as pb
from deuteron.service.grpc.front import GrpcFront
from deuteron.service.grpc.status import Status

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
