"""A call as its handler sees it, whichever engine carries it."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

Metadata = Sequence[tuple[str, str | bytes]]
"""What a client says beside its messages: keys, which have no capitals, and their values."""


Piece = bytes | bytearray | memoryview
"""A part of a message; large tensors are parts of their own, so that nobody copies them."""


class ClientGoneError(Exception):
    """Nobody is at the other end of a call any more."""


class Call(Protocol):
    """A call with any number of messages in both directions.

    Returning from its handler ends it well, an `InferError` with that; where the client goes away first, the
    handler is cancelled.
    """

    @property
    def metadata(self) -> Metadata:
        """What the client said with the call."""

    def messages(self) -> AsyncIterator[Piece]:
        """Return the messages of the client, until it sends no more; they raise ClientGoneError."""

    def hand_to(self, take: Callable[[Piece], bool]) -> None:
        """Have messages taken as they come, without a task that wakes for each; an engine need not.

        What `take` refuses comes by `messages`, and so does what is behind it.
        """

    def write_at_once(self, message: Sequence[Piece]) -> bool:
        """Send a message if there is no need to wait, and return whether it was sent; an engine need not."""

    async def write(self, *message: Piece) -> None:
        """Send a message in pieces, as soon as the client has room for it; raises ClientGoneError."""
