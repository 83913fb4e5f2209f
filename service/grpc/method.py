"""What stands behind the path of a call: how it behaves, who may call it, and whether answers are compressed.

Engines carry calls, this says what calls are; so all engines serve the same.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from ...proto.errors import Fault, InferError
from ..policy import Requirement
from ..settings import Compression
from .call import Call, Metadata, Piece
from .inference import Inference
from .rpc import Gate, read_message, written


@dataclass(frozen=True, slots=True)
class Unary:
    """A call with one message in each direction."""

    gate: Gate
    message_type: type[Message]
    answer: Callable[[Any], Awaitable[Message]]

    async def call(self, body: Piece) -> bytes:
        """Return the message that answers a message; raises what its handler raises."""
        with self.gate:
            return written(await self.answer(read_message(self.message_type, body)))


@dataclass(frozen=True, slots=True)
class Streaming:
    """A call with any number of messages in both directions."""

    serve: Callable[[Call], Awaitable[None]]


Behaviour = Unary | Streaming | Inference


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service."""

    behaviour: Behaviour
    requirement: Requirement | None = None
    """What a caller must send along; None where all may call."""
    compression: Compression = Compression.NONE

    def check(self, metadata: Metadata) -> None:
        """Raise InferError for a caller who may not call this."""
        requirement = self.requirement
        if requirement is None:
            return
        key = requirement.header.lower()  # on the wire, keys have no capitals
        given = next((value for name, value in metadata if name == key), None)
        if not requirement.is_met_by(given):
            raise InferError(
                Fault.UNAVAILABLE,
                f"This protocol is restricted, expecting header '{requirement.header}'",
            )
