"""How often a broken instance may come back, and how long it waits before it does.

The wait doubles with each restart that follows another, from a tenth of a second on, so that a model that
breaks at once does not keep a core busy. An instance that broke `restarts` times within the window has spent
its budget and stays away.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from .clock import SECOND, Instant, Nanoseconds


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """The budget of one instance."""

    restarts: int = 5
    window: Nanoseconds = 60 * SECOND
    first_wait: Nanoseconds = SECOND // 10
    longest_wait: Nanoseconds = 10 * SECOND


DEFAULT_RESTARTS: Final = RestartPolicy()


class RestartBudget:
    """The breakages of one instance within the window."""

    __slots__ = ("_breakages", "_policy")

    def __init__(self, policy: RestartPolicy = DEFAULT_RESTARTS) -> None:
        self._policy = policy
        self._breakages: deque[Instant] = deque()

    def spend(self, now: Instant) -> Nanoseconds | None:
        """Note a breakage; return how long to wait before the restart, or None when the budget is spent."""
        breakages = self._breakages
        while breakages and now - breakages[0] > self._policy.window:
            breakages.popleft()
        if len(breakages) >= self._policy.restarts:
            return None
        wait = self._policy.first_wait << len(breakages)
        breakages.append(now)
        return min(wait, self._policy.longest_wait)
