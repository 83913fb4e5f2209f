"""How a remote procedure call begins and ends: bytes to a message, and whatever goes wrong to a status.

Handlers see messages and raise `InferError`. Messages are read and written here rather than by grpcio, so
that one that cannot be read is answered with the status it deserves.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError, EncodeError, Message

from ...proto.errors import Fault, InferError, internal, invalid
from ...proto.kserve_grpc import MAX_MESSAGE_SIZE

log: Final = structlog.stdlib.get_logger(__name__)

MAX_DETAILS: Final = 4000
"""Bytes of the message of a status on its way: it travels in a header, and clients take 8 KiB of those."""
_MAX_ESCAPED: Final = 12
"""Bytes that one character may become there: up to four bytes of UTF-8, each escaped with three."""

STATUS_OF: Final = {
    Fault.UNKNOWN: grpc.StatusCode.UNKNOWN,
    Fault.INTERNAL: grpc.StatusCode.INTERNAL,
    Fault.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Fault.INVALID_ARG: grpc.StatusCode.INVALID_ARGUMENT,
    Fault.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Fault.UNSUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    Fault.ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Fault.CANCELLED: grpc.StatusCode.CANCELLED,
}
"""The gRPC status of each fault, as Triton maps them."""

Asked = TypeVar("Asked", bound=Message)
Context = grpc.aio.ServicerContext[bytes, bytes]
Unary = Callable[[bytes, Context], Awaitable[bytes]]


class Gate:
    """Whether calls are taken at all, and how many are being answered; each is a `with` block."""

    __slots__ = ("_closed", "_empty", "_inside")

    def __init__(self) -> None:
        self._closed = False
        self._inside = 0
        self._empty = asyncio.Event()

    def __enter__(self) -> None:
        """Let a call in; raises InferError once the server is going down."""
        if self._closed:
            raise shutting_down()
        self._inside += 1

    def __exit__(self, *exception: object) -> None:
        self._inside -= 1
        self._reconcile()

    def close(self) -> None:
        """Let nobody in from now on."""
        self._closed = True
        self._reconcile()

    async def wait_until_empty(self) -> None:
        """Wait until the gate is closed and every call is answered."""
        await self._empty.wait()

    def _reconcile(self) -> None:
        if self._closed and not self._inside:
            self._empty.set()


def shutting_down() -> InferError:
    """Return the error of whoever comes too late."""
    return InferError(
        Fault.UNAVAILABLE, "GRPC server is shutting down and has stopped accepting new requests."
    )


def unary(
    gate: Gate,
    message_type: type[Asked],
    answer: Callable[[Asked, Context], Awaitable[Message]],
) -> Unary:
    """Return the call that reads one message and sends what `answer` makes of it, or the error it raises."""
    read = message_type.FromString

    async def call(body: bytes, context: Context) -> bytes:
        try:
            with gate:
                return written(await answer(_read(read, body), context))
        except Exception as error:  # noqa: BLE001 - an error ends its own call and nothing else
            await end_with(context, error)

    return call


def _read(read: Callable[[bytes], Asked], body: bytes) -> Asked:
    try:
        return read(body)
    except DecodeError:
        raise internal("Unable to parse request") from None


def written(message: Message) -> bytes:
    """Return the bytes of a message; raises InferError for one that gRPC cannot carry."""
    try:
        return message.SerializeToString()
    except EncodeError:
        # protobuf has the limit of gRPC, and no words for it.
        raise invalid(
            f"Response has a byte size which exceeds gRPC's byte size limit {MAX_MESSAGE_SIZE}."
        ) from None


def as_infer_error(error: Exception) -> InferError:
    """Return what a client is told of an error; one that is not made for clients goes to the log."""
    if isinstance(error, InferError):
        return error
    log.error("call failed by an error of the server", exc_info=error)
    return internal(f"unexpected error of the server: {type(error).__name__}")


def as_text(message: str) -> str:
    """Return a message as protobuf can carry it: half characters, which model code may make, become `?`."""
    return message.encode(errors="replace").decode()


async def end_with(context: Context, error: Exception) -> NoReturn:
    """End a call with the status of an error."""
    told = as_infer_error(error)
    await context.abort(STATUS_OF[told.fault], _details(told.message))


def _details(message: str) -> str:
    """Return as much of a message as fits into a header."""
    text = as_text(message)
    if len(text) * _MAX_ESCAPED <= MAX_DETAILS:
        return text
    room = MAX_DETAILS
    for at, character in enumerate(text):
        is_plain = " " <= character <= "~" and character != "%"
        room -= 1 if is_plain else 3 * len(character.encode())
        if room < 0:
            return f"{text[:at]}…"
    return text
