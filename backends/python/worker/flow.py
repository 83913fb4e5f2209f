"""How far a worker's model may run ahead of whoever reads what it sends.

The server counts what is unread. A worker asks it whether there is room, and waits where there is none; not
for each response, but once for as many as may be on their way without harm.
"""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from ..ipc.frames import Message
from ..ipc.messages import Kind
from .link import Link

RESPONSES: Final = 64
BYTES: Final = 8 << 20
"""What may be sent without asking."""
PATIENCE_S: Final = 60.0
"""Seconds that a model waits while there is no room at all."""


class RemoteFlow:
    """The flow of one request."""

    __slots__ = ("_batch", "_bytes", "_is_lifted", "_link", "_responses", "_row")

    def __init__(self, link: Link, batch: int, row: int) -> None:
        self._link = link
        self._batch = batch
        self._row = row
        self._responses = 0
        self._bytes = 0
        self._is_lifted = False

    @property
    def has_room(self) -> bool:
        """Whether one more response may be sent without asking."""
        return self._is_lifted or (self._responses < RESPONSES and self._bytes < BYTES)

    def take(self, size: int) -> bool:
        """Wait until a response of that many bytes may be sent; False if that was in vain."""
        if not self.has_room:
            heard: SimpleQueue[Message] = SimpleQueue()

            def receive(message: Message) -> bool:
                heard.put(message)
                return True

            self._link.ask(Kind.WAIT, self._batch, self._row, receive=receive)
            try:
                heard.get(timeout=PATIENCE_S)
            except Empty:
                return False
            self._responses = self._bytes = 0
        self.spend(size)
        return True

    def spend(self, size: int) -> None:
        """Count a response that is sent without waiting."""
        self._responses += 1
        self._bytes += size

    def give_back(self) -> None:
        """Hear nothing: what was read is counted by the server."""

    def lift(self) -> None:
        """Let everybody send what they like from now on."""
        self._is_lifted = True

    def when_room(self, callback: Callable[[], None]) -> None:
        """Have a callback called at once: nothing here waits by callbacks."""
        callback()
