"""The attendant: one thread for what may come from workers at any time and nobody waits for.

That is what they print, how they end, and room to go on writing to one that was slow to read. It sleeps while
there is nothing.
"""

import contextlib
import os
import selectors
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

log: Final = structlog.get_logger("deuteron.worker")

Attend = Callable[[], None]
"""Does what is to be done when a descriptor is ready; on the attendant's thread, so it must not wait."""


class Attendant:
    """Watches descriptors; asked from any thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._errands: deque[Attend] = deque()
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._woken, selectors.EVENT_READ, self._wake_up)
        self._thread = threading.Thread(target=self._run, name="deuteron-workers", daemon=True)
        self._thread.start()

    def watch(self, descriptor: int, readable: Attend) -> None:
        """Call `readable` whenever a descriptor can be read, until it is forgotten."""
        self.call(lambda: self._set(descriptor, selectors.EVENT_READ, readable))

    def watch_room(self, descriptor: int, writable: Attend) -> None:
        """Call `writable` whenever a descriptor can be written, until it is forgotten."""
        self.call(lambda: self._set(descriptor, selectors.EVENT_WRITE, writable))

    def forget(self, descriptor: int) -> None:
        """Watch a descriptor no longer; only from what is called here, before the descriptor is closed."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(descriptor)

    def release(self, descriptor: int, close: Attend) -> None:
        """Watch a descriptor no longer, and then have it closed."""

        def errand() -> None:
            self.forget(descriptor)
            close()

        self.call(errand)

    def call(self, errand: Attend) -> None:
        """Have something called on the attendant's thread, after all that it was asked before."""
        self._errands.append(errand)
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b"\0")

    def _set(self, descriptor: int, events: int, attend: Attend) -> None:
        self.forget(descriptor)
        with contextlib.suppress(OSError, ValueError):  # it was closed meanwhile
            self._selector.register(descriptor, events, attend)

    def _wake_up(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        while self._errands:
            self._errands.popleft()()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                try:
                    key.data()
                except Exception:
                    log.exception("what a worker sent could not be attended to")
                    self.forget(key.fd)


_attendant: Attendant | None = None
_lock: Final = threading.Lock()


def attendant() -> Attendant:
    """Return the attendant of this process, made when it is first needed."""
    global _attendant  # noqa: PLW0603 - one thread a process, and none in a process without workers
    with _lock:
        if _attendant is None:
            _attendant = Attendant()
        return _attendant
