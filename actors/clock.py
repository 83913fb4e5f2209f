"""Time as the house counts it: nanoseconds of a clock that never goes back."""

from collections.abc import Callable
from time import monotonic_ns
from typing import Final

Instant = int
"""A point on the monotonic clock, in nanoseconds."""
Nanoseconds = int

Clock = Callable[[], Instant]

now: Final[Clock] = monotonic_ns

MICROSECOND: Final[Nanoseconds] = 1_000
MILLISECOND: Final[Nanoseconds] = 1_000_000
SECOND: Final[Nanoseconds] = 1_000_000_000
