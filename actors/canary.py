"""The trial of a new version: when it is good enough to be promoted, and when it has to go.

The new version serves beside the old one and gets a part of the requests. From time to time their answers are
compared, as they were counted since the trial began. The new version is

* **failing**: more of its answers are errors than may be, beside what the old version fails of its own. It is
  taken to have given as many answers as a trial needs at least, so one early error does not end a trial that
  allows one in a hundred. Roll back.
* **silent**: it is asked and has not answered for as long as a trial takes at least. Roll back.
* **slow**: both have given enough answers, and on average its own took too long. Roll back.
* **proven**: it gave enough answers, was tried for long enough, and is none of the above. Promote.
* **on trial**: else. Wait.

Cancelled requests count for nothing. Nothing here knows a clock, a task or a model.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from ..proto.config.canary import CanaryPolicy
from .clock import MILLISECOND, SECOND, Instant, Nanoseconds

SLACK: Final[Nanoseconds] = MILLISECOND
"""Time by which the new version may be slower whatever the ratio says: so much varies by itself."""


class Verdict(Enum):
    """What is to become of a new version."""

    WAIT = "wait"
    PROMOTE = "promoted"
    ROLL_BACK = "rolled back"


@dataclass(frozen=True, slots=True)
class Answers:
    """What a version answered."""

    good: int = 0
    failed: int = 0
    took: Nanoseconds = 0
    """What the good ones took altogether."""

    @property
    def count(self) -> int:
        """All answers."""
        return self.good + self.failed

    @property
    def error_rate(self) -> float:
        """The part that are errors."""
        return self.failed / self.count if self.count else 0.0

    @property
    def mean(self) -> float:
        """How long a good one took, in nanoseconds."""
        return self.took / self.good if self.good else 0.0

    def and_one(self, took: Nanoseconds = 0, *, failed: bool) -> "Answers":
        """Return the same with one more."""
        if failed:
            return replace(self, failed=self.failed + 1)
        return replace(self, good=self.good + 1, took=self.took + took)


class Trial:
    """One new version on trial."""

    __slots__ = ("_answered", "_began", "_heard", "_policy", "new", "old", "sent")

    def __init__(self, policy: CanaryPolicy, now: Instant) -> None:
        self._policy = policy
        self._began = now
        self._answered = 0
        self._heard = now
        self.new = Answers()
        """What the new version answered since the trial began."""
        self.old = Answers()
        self.sent = 0
        """Requests that the new version was given."""

    def judge(self, now: Instant, sent: int, new: Answers, old: Answers) -> tuple[Verdict, str]:
        """Return what is to become of the new version, and why; all counts begin with the trial."""
        policy = self._policy
        self.sent, self.new, self.old = sent, new, old
        if new.count != self._answered or sent <= new.count:
            self._answered, self._heard = new.count, now
        allowed = policy.max_error_rate + old.error_rate
        if new.failed > allowed * max(new.count, policy.min_requests):
            return Verdict.ROLL_BACK, f"{new.failed} of {new.count} answers were errors"
        if policy.seconds and now - self._heard >= policy.seconds * SECOND:
            silent = (now - self._heard) / SECOND
            return Verdict.ROLL_BACK, f"{sent - new.count} requests were not answered for {silent:.0f} s"
        if new.count < policy.min_requests:
            return Verdict.WAIT, ""
        if old.good >= policy.min_requests and new.mean > old.mean * policy.max_latency_ratio + SLACK:
            return Verdict.ROLL_BACK, f"answers took {_ms(new.mean)} instead of {_ms(old.mean)}"
        if now - self._began >= policy.seconds * SECOND:
            return Verdict.PROMOTE, f"{new.failed} of {new.count} answers were errors"
        return Verdict.WAIT, ""

    def story(self, now: Instant) -> str:
        """Return how it goes, for people."""
        share = self._policy.share
        wanted = f"{share:.3g} of the requests" if share else "requests that ask for it"
        return (
            f"canary: on trial for {(now - self._began) / SECOND:.0f} s with {wanted}; "
            f"{self.new.count} answered, {self.new.failed} of them errors"
        )


def _ms(nanoseconds: float) -> str:
    return f"{nanoseconds / MILLISECOND:.3g} ms"
