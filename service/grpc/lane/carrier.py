"""What a call needs of the connection that carries it, and how calls end on the wire."""

from collections.abc import Sequence
from typing import Final, Protocol

from ...http2.connection import Connection
from ...http2.headers import Fields
from ...http2.outbox import Outbox
from ...http2.stream import Buffer, Stream
from ..call import Piece
from ..status import Status
from .heads import Head
from .packing import ENCODINGS, PREFIX, percent_encoded

MAX_HELD: Final = 4 << 30
"""Bytes of unfinished messages that one connection may have sent."""

_OPENING: Final[Fields] = (
    (":status", "200"),
    ("content-type", "application/grpc"),
    ("grpc-accept-encoding", ENCODINGS),
)
_OPENINGS: Final = {packing: (*_OPENING, ("grpc-encoding", packing)) for packing in ("gzip", "deflate")}
_WELL: Final[Fields] = (("grpc-status", "0"),)


class Carrier(Protocol):
    """A connection, as its calls see it."""

    connection: Connection[Head]
    held: int
    """Bytes of unfinished messages."""

    def wake(self) -> None:
        """Have what can be sent handed to the transport soon."""


def opening(outbox: Outbox, packing: str = "") -> bytes:
    """Return the headers before answers, which may be packed."""
    return outbox.headers.constant(_OPENINGS[packing] if packing else _OPENING)


def answer(outbox: Outbox, stream: Stream, message: Sequence[Piece]) -> None:
    """Send the one message that answers a call, and end it well."""
    headers = outbox.headers
    outbox.answer(
        stream,
        headers.constant(_OPENING),
        framed(message),
        headers.constant(_WELL),
    )


def answer_packed(outbox: Outbox, stream: Stream, body: bytes, packing: str) -> None:
    """Send the one message that answers a call, packed already and with its prefix, and end it well."""
    outbox.answer(stream, opening(outbox, packing), (body,), outbox.headers.constant(_WELL))


def end_well(outbox: Outbox, stream: Stream) -> None:
    """End a call on which all was sent."""
    outbox.block(stream, outbox.headers.constant(_WELL), ends=True)


def end_with(outbox: Outbox, stream: Stream, status: Status, told: str, *, opened: bool) -> None:
    """End a call with a status, before or after its headers were sent."""
    fields: Fields = (("grpc-status", str(status.value)), ("grpc-message", percent_encoded(told)))
    if not opened:
        fields = (_OPENING[0], _OPENING[1], *fields)
    outbox.block(stream, outbox.headers.once(fields), ends=True)


def end_as_http(outbox: Outbox, stream: Stream, status: str) -> None:
    """End a request that is no call of gRPC."""
    outbox.block(stream, outbox.headers.once(((":status", status), ("content-length", "0"))), ends=True)


def framed(message: Sequence[Piece]) -> Sequence[Buffer]:
    """Return a message as it travels."""
    return PREFIX.pack(0, sum(map(len, message))), *message
