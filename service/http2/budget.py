"""Budgets: how much work a client may make that asks for nothing.

Pings, settings, resets and empty frames are cheap to send and not free to answer. Each spends from a budget
that refills with time, and with every request that is served: who works gets along, who floods runs dry.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

Clock = Callable[[], float]

_NO_CALLS_INTERVAL_S: Final = 7200.0
"""Least time between probes of a connection without calls, where those are not permitted: as in gRPC."""


class Budget:
    """A bucket of tokens."""

    __slots__ = ("_clock", "_left", "_most", "_per_s", "_since")

    def __init__(self, most: int, per_s: float, clock: Clock) -> None:
        self._most = most
        self._per_s = per_s
        self._clock = clock
        self._left = float(most)
        self._since = clock()

    def earn(self, amount: int) -> None:
        """Take in what a client earned by asking for something."""
        if self._left < self._most:
            self._left += amount

    def spend(self, amount: int = 1) -> bool:
        """Return whether there was as much left; time is looked at only when there was not."""
        self._left -= amount
        if self._left >= 0:
            return True
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._since) * self._per_s)
        self._since = now
        return self._left >= 0


@dataclass(frozen=True, slots=True)
class PingRules:
    """How often a client may probe a connection on which it is sent nothing."""

    min_interval_s: float = 300.0
    max_strikes: int = 2
    """Early probes that are forgiven; 0 forgives all."""
    permit_without_calls: bool = False


class PingStrikes:
    """The early probes of one client, as gRPC counts them."""

    __slots__ = ("_clock", "_last", "_rules", "_strikes")

    def __init__(self, rules: PingRules, clock: Clock) -> None:
        self._rules = rules
        self._clock = clock
        self._strikes = 0
        self._last: float | None = None

    def forget(self) -> None:
        """Hear that the client was sent something: a probe of that is none too early."""
        self._strikes = 0
        self._last = None

    def count(self, *, calls: bool) -> bool:
        """Count a probe, with calls open or not; return whether it is one too many."""
        now, last = self._clock(), self._last
        self._last = now
        rules = self._rules
        interval = rules.min_interval_s if calls or rules.permit_without_calls else _NO_CALLS_INTERVAL_S
        if last is None or now - last >= interval:
            return False
        self._strikes += 1
        return 0 < rules.max_strikes < self._strikes
