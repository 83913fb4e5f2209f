"""Credit: how far a model that sends many responses may run ahead of whoever reads them.

A model that streams can make responses faster than its client takes them. So each response takes credit, and
whoever reads it gives the credit back; a model that has none left waits, on a thread of its own, where it
sends. It waits neither for a caller who went away, nor for ever: where nothing is read for too long, the
request is given up.

Whoever asks decides on the credit and hangs it on the request (`Request.flow`). Who answers from a thread
takes credit by `take`; who must not wait, as an event loop or the door to another process, looks at
`has_room`, takes by `spend` and is called back by `when_room`. Responses are read in the order in which they
were sent, so nobody has to say which one was.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

MOST_RESPONSES: Final = 256
"""Responses that may wait to be read."""
MOST_BYTES: Final = 32 << 20
"""Bytes of tensors that these may have; a single response may have more."""
PATIENCE_S: Final = 60.0
"""Seconds that a model waits while nothing at all is read."""


class Credit:
    """The credit of one request; used from any thread."""

    __slots__ = (
        "_bytes",
        "_callbacks",
        "_changed",
        "_is_lifted",
        "_most_bytes",
        "_most_responses",
        "_patience",
        "_reads",
        "_unread",
        "_waiting",
    )

    def __init__(
        self,
        most_responses: int = MOST_RESPONSES,
        most_bytes: int = MOST_BYTES,
        patience: float = PATIENCE_S,
    ) -> None:
        """Take how much may be unread, and how many seconds to wait while nothing is read."""
        self._most_responses = most_responses
        self._most_bytes = most_bytes
        self._patience = patience
        # Reentrant, for the garbage collector may run model code under it.
        self._changed = threading.Condition(threading.RLock())
        self._unread: deque[int] = deque()
        self._bytes = 0
        self._reads = 0
        self._waiting = 0
        self._is_lifted = False
        self._callbacks: list[Callable[[], None]] = []

    @property
    def has_room(self) -> bool:
        """Whether one more response may be sent now."""
        return self._is_lifted or (
            len(self._unread) < self._most_responses and self._bytes < self._most_bytes
        )

    def take(self, size: int) -> bool:
        """Take the credit of a response of that many bytes, after waiting for it; False if in vain."""
        with self._changed:
            while not self.has_room:
                reads = self._reads
                self._waiting += 1
                self._changed.wait(self._patience)
                self._waiting -= 1
                if reads == self._reads and not self.has_room:
                    return False
            self._spend(size)
            return True

    def spend(self, size: int) -> None:
        """Take the credit of a response without waiting, also where there is none."""
        with self._changed:
            self._spend(size)

    def give_back(self) -> None:
        """Hear that the first of the unread responses was read."""
        with self._changed:
            self._reads += 1
            if self._unread:
                self._bytes -= self._unread.popleft()
            callbacks = self._wake()
        for callback in callbacks:
            callback()

    def lift(self) -> None:
        """Let everybody send what they like: nobody reads any more, or all has been sent."""
        with self._changed:
            self._is_lifted = True
            self._unread.clear()
            self._bytes = 0
            callbacks = self._wake()
        for callback in callbacks:
            callback()

    def when_room(self, callback: Callable[[], None]) -> None:
        """Have a callback called once when there is room: now, or on the thread of whoever makes it."""
        with self._changed:
            if not self.has_room:
                self._callbacks.append(callback)
                return
        callback()

    def _spend(self, size: int) -> None:
        if not self._is_lifted:
            self._unread.append(size)
            self._bytes += size

    def _wake(self) -> list[Callable[[], None]]:
        """Wake those who wait; return whom to call, without the lock."""
        # A model is woken when half of the room is free, so that it can send many before it waits anew.
        if self._waiting and (
            self._is_lifted
            or (2 * len(self._unread) <= self._most_responses and 2 * self._bytes <= self._most_bytes)
        ):
            self._changed.notify_all()
        if not self._callbacks or not self.has_room:
            return []
        callbacks, self._callbacks = self._callbacks, []
        return callbacks
