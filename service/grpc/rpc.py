"""What all calls have in common: the gate they pass, messages as bytes, and errors that clients are told.

Handlers see messages and raise `InferError`. Messages are read and written here rather than by an engine, so
that one that cannot be read is answered with the status it deserves.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, TypeVar

import structlog
from google.protobuf.message import DecodeError, EncodeError, Message

from ...proto import kserve_grpc
from ...proto.errors import Fault, InferError, internal, invalid
from ...proto.kserve_grpc import MAX_MESSAGE_SIZE
from ...proto.schema import grpc_service_pb2 as pb
from .call import Piece

log: Final = structlog.stdlib.get_logger(__name__)

Asked = TypeVar("Asked", bound=Message)


class Gate:
    """Whether calls are taken at all, and how many are being answered."""

    __slots__ = ("_closed", "_empty", "_inside")

    def __init__(self) -> None:
        self._closed = False
        self._inside = 0
        self._empty = asyncio.Event()

    def __enter__(self) -> None:
        """Let a call in; raises InferError once the server is going down."""
        self.enter()

    def __exit__(self, *exception: object) -> None:
        self.leave()

    def enter(self) -> None:
        """Let a call in that will leave; raises InferError once the server is going down."""
        if self._closed:
            raise shutting_down()
        self._inside += 1

    def leave(self) -> None:
        """Let a call out that came in."""
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


def read_infer(body: Piece) -> tuple[pb.ModelInferRequest, Sequence[Piece]]:
    """Return a request for inference and its raw contents; raises InferError for what is none."""
    try:
        return kserve_grpc.read_infer(body)
    except DecodeError:
        raise internal("Unable to parse request") from None


def read_message(message_type: type[Asked], body: Piece) -> Asked:
    """Return the message that bytes are; raises InferError for those that are none."""
    try:
        return message_type.FromString(body)  # type: ignore[arg-type]  # any buffer, whatever the stubs say
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
