"""What became of the sequences of one model version: how many there are, how long they were, how they ended.

Written by the sequencer when a sequence gets its slot and when it leaves it, read by whoever collects
metrics. Sequences that never left the backlog are none of it.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from .clock import SECOND, Nanoseconds

LENGTHS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Bounds of the buckets of lengths, in requests."""
AGES_S: Final = (0.01, 0.1, 1, 10, 60, 600, 3600)
"""Bounds of the buckets of ages, in seconds."""

ENDED: Final = "ended"
"""It came to its END, or the model made the last step of an iterative one."""
ABANDONED: Final = "abandoned"
"""Its client left it idle for too long, or cancelled a request of it."""
LOST: Final = "lost"
"""Its instance broke."""


class Spread:
    """How many observations stayed within each of some ascending bounds, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """By bucket, the one without bound last; not cumulative."""
        self.total: float = 0

    def observe(self, value: float) -> None:
        """Count one more."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class SequenceStatistics:
    """The sequences of one model version."""

    live: int = 0
    """Those that have a slot now."""
    backlog: int = 0
    """Those that wait for one now."""
    ends: dict[str, int] = field(default_factory=lambda: dict.fromkeys((ENDED, ABANDONED, LOST), 0))
    lengths: Spread = field(default_factory=lambda: Spread(LENGTHS))
    """Requests, or steps of iterative ones, that were served of a sequence until it was over."""
    ages: Spread = field(default_factory=lambda: Spread(AGES_S))
    """Seconds from its first request until it was over."""

    def over(self, reason: str, length: int, age: Nanoseconds) -> None:
        """Count a sequence that leaves its slot."""
        self.live -= 1
        self.ends[reason] += 1
        self.lengths.observe(length)
        self.ages.observe(age / SECOND)
