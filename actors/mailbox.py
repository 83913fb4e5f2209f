"""The bounded inbox of an actor.

An actor either waits for its messages, as a coroutine does, or has a turn called when there are some. A turn
costs a third of waking a coroutine, and what is on every request's way is called.

A mailbox refuses before it blocks: `post` is no coroutine, and says at once when there is no room. What an
actor must hear to stay true (an instance finished, a caller went away, the end) comes by `signal`, which is
never refused: there are never more such messages than there are instances and waiting requests.

Only the loop's own thread may use a mailbox; threads come in through a lane.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from .clock import SECOND, Clock, Instant, now

MAILBOX_CAPACITY: Final = 65_536
"""Messages that may wait between two turns of an actor."""

M = TypeVar("M")


class MailboxFullError(Exception):
    """The actor has more waiting than it may; nothing was posted."""


class MailboxClosedError(Exception):
    """The actor takes no more messages; nothing was posted."""


class Mailbox(Generic[M]):
    """Messages for one actor, in the order they were posted, read by that actor alone."""

    __slots__ = ("_called", "_capacity", "_clock", "_closed", "_messages", "_turn", "_waiter")

    def __init__(
        self, capacity: int = MAILBOX_CAPACITY, clock: Clock = now, turn: Callable[[], None] | None = None
    ) -> None:
        self._capacity = capacity
        self._turn = turn
        """What to call, soon after messages came; it takes them all."""
        self._called = False
        self._clock = clock
        self._messages: list[M] = []
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def closed(self) -> bool:
        """Whether posts are answered with an error."""
        return self._closed

    def post(self, message: M, *, wake: bool = True) -> None:
        """Leave a message; raises MailboxClosedError or MailboxFullError and leaves nothing.

        An actor that is about to take its turn anyway need not be woken.
        """
        if self._closed:
            raise MailboxClosedError
        if len(self._messages) >= self._capacity:
            raise MailboxFullError
        self._messages.append(message)
        if wake:
            self._wake()

    def signal(self, message: M) -> None:
        """Leave a message the actor must hear, whether or not there is room, also after closing."""
        self._messages.append(message)
        self._wake()

    def leave(self, message: M) -> None:
        """Leave a message for an actor that is about to take its turn anyway."""
        self._messages.append(message)

    def close(self) -> None:
        """Refuse further posts; what is already inside will still be read."""
        self._closed = True
        self._wake()

    def take(self) -> list[M]:
        """Return all messages and leave the mailbox empty."""
        self._called = False
        messages, self._messages = self._messages, []
        return messages

    async def wait(self, until: Instant | None = None) -> None:
        """Wait for a message or an instant; returns at once when a message is there."""
        if self._messages:
            return
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        if until is None:
            await waiter
            return
        timer = loop.call_later(max(0, until - self._clock()) / SECOND, self._wake)
        try:
            await waiter
        finally:
            timer.cancel()

    def _wake(self) -> None:
        if self._turn is not None:
            if not self._called:
                self._called = True
                asyncio.get_running_loop().call_soon(self._turn)
            return
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
