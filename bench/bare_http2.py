"""A gRPC door that does the least that works: frames by slicing, header blocks looked up as they stand.

It serves well-behaved clients of unary calls and nobody else: no limits, no errors, windows that are opened
wide once. What a real server spends above it is the price of everything that it leaves out.
"""

import asyncio
import struct
from collections.abc import Callable, Mapping

import hpack

HEAD = struct.Struct(">HBBBL")
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
ACK, END_STREAM, END_HEADERS = 1, 1, 4
PREFACE = 24  # bytes
WIDE = 2**31 - 1 - 65_535

Answer = Callable[[bytes], bytes]


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return HEAD.pack(len(payload) >> 8, len(payload) & 255, kind, flags, stream_id) + payload


class Door(asyncio.Protocol):
    """One connection; `answers` are by path."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = answers
        self.decoder = hpack.Decoder()
        self.encoder = hpack.Encoder()
        self.known: dict[bytes, Answer] = {}
        self.begun: dict[int, Answer] = {}
        self.rest = b""
        self.greeted = False
        self.consumed = 0
        self.opening = self.closing = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open all windows."""
        self.transport = transport
        values = struct.pack(">HLHLHL", 3, 2**31 - 1, 4, 2**31 - 1, 5, 2**24 - 1)
        self.write(frame(SETTINGS, 0, 0, values) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">L", WIDE)))

    def write(self, data: bytes) -> None:
        """Send."""
        self.transport.write(data)  # type: ignore[attr-defined]  # uvloop's transports have no type

    def data_received(self, data: bytes) -> None:
        """Answer every call that is complete."""
        data = self.rest + data
        at = 0
        if not self.greeted:
            at, self.greeted = PREFACE, True
        while len(data) - at >= HEAD.size:
            high, low, kind, flags, stream_id = HEAD.unpack_from(data, at)
            end = at + HEAD.size + (high << 8 | low)
            if end > len(data):
                break
            payload = data[at + HEAD.size : end]
            at = end
            if kind == HEADERS:
                self.begun[stream_id] = self.known.get(payload) or self.read(payload)
            elif kind == DATA:
                self.answer(stream_id, payload)
            elif kind == PING and not flags & ACK:
                self.write(frame(PING, ACK, 0, payload))
            elif kind == SETTINGS and not flags & ACK:
                self.write(frame(SETTINGS, ACK, 0))
        self.rest = data[at:]

    def read(self, block: bytes) -> Answer:
        """Look up what a header block asks for, and remember it unless the table has changed."""
        entries = len(self.decoder.header_table.dynamic_entries)
        path = {str(name): str(value) for name, value in self.decoder.decode(block)}[":path"]
        if len(self.decoder.header_table.dynamic_entries) != entries:
            self.known.clear()
        else:
            self.known[block] = self.answers[path]
        return self.answers[path]

    def answer(self, stream_id: int, message: bytes) -> None:
        """Send the answer to a message that came in one frame."""
        self.consumed += len(message)
        if self.consumed > WIDE // 2:
            self.write(frame(WINDOW_UPDATE, 0, 0, struct.pack(">L", self.consumed)))
            self.consumed = 0
        if len(self.closing) != 1:  # until all is references to the table
            self.opening = self.encoder.encode(
                [
                    (":status", "200"),
                    ("content-type", "application/grpc"),
                    ("grpc-accept-encoding", "identity"),
                ]
            )
            self.closing = self.encoder.encode([("grpc-status", "0")])
        body = self.begun.pop(stream_id)(message[5:])
        self.write(
            b"".join(
                (
                    frame(HEADERS, END_HEADERS, stream_id, self.opening),
                    frame(DATA, 0, stream_id, b"\0" + len(body).to_bytes(4) + body),
                    frame(HEADERS, END_HEADERS | END_STREAM, stream_id, self.closing),
                )
            )
        )
