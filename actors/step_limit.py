"""How many requests of one step may be on their way at a time, those of all clients together.

An ensemble sets it with `max_inflight_requests`. A step beyond the limit waits here, in the order of coming,
and the answers of a decoupled step that wait so are not used up, so their producer comes to wait too.
"""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class StepLimit(Generic[T]):
    """Who is on the way through one step, and who waits."""

    __slots__ = ("_most", "_running", "_waiting")

    def __init__(self, most: int) -> None:
        """Take how many may be on their way, at least 1."""
        self._most = most
        self._running = 0
        self._waiting: deque[T] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def admit(self, entry: T) -> bool:
        """Let an entry go, or let it wait."""
        if self._running >= self._most:
            self._waiting.append(entry)
            return False
        self._running += 1
        return True

    def release(self) -> T | None:
        """Hear that one has come home; return the one that goes in its place, if one waits."""
        if self._waiting:
            return self._waiting.popleft()
        self._running -= 1
        return None

    def withdraw(self, entry: T) -> None:
        """Forget an entry that waits."""
        self._waiting.remove(entry)
