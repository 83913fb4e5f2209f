"""How much one client may ask of the server that asks for nothing: probes, windows, settings, resets.

What was sent to the client makes up for it, and is counted when it is needed: nobody pays for this who only
asks and is answered.
"""

from .budget import Budget, Clock, PingStrikes
from .errors import calm_down
from .limits import Limits
from .outbox import Outbox

_EARNED = 8
"""Frames without a purpose that one frame of data makes up for: acknowledgements, probes, windows."""


class Patience:
    """The budgets of one connection."""

    __slots__ = ("_outbox", "_overhead", "_resets", "_seen", "_seen_by_pings", "_strikes")

    def __init__(self, limits: Limits, outbox: Outbox, clock: Clock) -> None:
        self._outbox = outbox
        self._overhead = Budget(limits.most_overhead, limits.overhead_per_s, clock)
        self._resets = Budget(limits.most_resets, limits.resets_per_s, clock)
        self._strikes = PingStrikes(limits.pings, clock)
        self._seen = 0
        self._seen_by_pings = 0

    def spend(self, amount: int = 1) -> None:
        """Bear a frame that asks for nothing; raises ConnectionFault when it is one too many."""
        if not self._overhead.spend(amount):
            self._earn()
            if not self._overhead.spend(0):
                raise calm_down("too many frames that ask for nothing")

    def bear_reset(self) -> None:
        """Bear a stream that is taken back; raises ConnectionFault when it is one too many."""
        if not self._resets.spend():
            self._earn()
            if not self._resets.spend(0):
                raise calm_down("too many streams that are taken back")

    def bear_ping(self, *, calls: bool) -> None:
        """Bear a probe, with calls open or not; raises ConnectionFault when it came too early too often."""
        self.spend()
        sent = self._outbox.sent
        if sent != self._seen_by_pings:
            self._seen_by_pings = sent
            self._strikes.forget()
        if self._strikes.count(calls=calls):
            raise calm_down("too_many_pings")

    def _earn(self) -> None:
        sent = self._outbox.sent - self._seen
        self._seen += sent
        self._overhead.earn(_EARNED * sent)
        self._resets.earn(sent)
