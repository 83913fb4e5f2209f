"""A start that is held back until enough requests wait, so that tests can make their batches foreseeable.

Triton's own tests ask for it by two variables in the environment of the server:
`TRITONSERVER_DELAY_SCHEDULER` is the number of requests that must wait in the queue or in slots,
`TRITONSERVER_BACKLOG_DELAY_SCHEDULER` the number of those that must wait in the backlog of a model with
sequences. Once both were there nothing is held back any more.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ..proto.message import Request
from .clock import Instant
from .direct import DirectSequences
from .oldest import OldestSequences
from .schedule import InstanceId, Job, Order, Schedule

REQUESTS: Final = "TRITONSERVER_DELAY_SCHEDULER"
BACKLOGGED: Final = "TRITONSERVER_BACKLOG_DELAY_SCHEDULER"


def held_start(schedule: Schedule, environment: Mapping[str, str]) -> Schedule:
    """Return a schedule that starts when the environment says so: itself, where it says nothing."""
    requests = _number(environment.get(REQUESTS, ""))
    return HeldStart(schedule, requests, _number(environment.get(BACKLOGGED, ""))) if requests else schedule


def _number(text: str) -> int:
    return int(text) if text.strip().isdecimal() else 0


class HeldStart:
    """A schedule that sees no credits until its start."""

    __slots__ = ("_backlogged", "_requests", "_schedule", "_started")

    prompt: Final = False

    def __init__(self, schedule: Schedule, requests: int, backlogged: int) -> None:
        self._schedule = schedule
        self._requests = requests
        self._backlogged = backlogged
        self._started = False

    def __len__(self) -> int:
        return len(self._schedule)

    def admit(self, job: Job, now: Instant) -> None:
        """Pass it on."""
        self._schedule.admit(job, now)

    def resume(self, job: Job, now: Instant) -> None:
        """Pass it on."""
        self._schedule.resume(job, now)

    def withdraw(self, request: Request) -> Job | None:
        """Pass it on."""
        return self._schedule.withdraw(request)

    def plan(self, credits_: Sequence[InstanceId], now: Instant) -> Iterable[Order]:
        """Let the schedule dispatch, once enough wait; until then it only keeps its deadlines."""
        self._started = self._started or self._enough_wait()
        return self._schedule.plan(credits_ if self._started else (), now)

    def wake_at(self) -> Instant | None:
        """Pass it on."""
        return self._schedule.wake_at()

    def returned(self, instance: InstanceId) -> None:
        """Pass it on."""
        self._schedule.returned(instance)

    def lost(self, instance: InstanceId) -> Sequence[Job]:
        """Pass it on."""
        return self._schedule.lost(instance)

    def retire(self, instance: InstanceId) -> None:
        """Pass it on."""
        self._schedule.retire(instance)

    def holds(self, instance: InstanceId) -> bool:
        """Pass it on."""
        return self._schedule.holds(instance)

    def clear(self) -> list[Job]:
        """Pass it on."""
        return self._schedule.clear()

    def check(self) -> None:
        """Pass it on."""
        self._schedule.check()

    def _enough_wait(self) -> bool:
        schedule = self._schedule
        backlogged = schedule.backlogged if isinstance(schedule, DirectSequences | OldestSequences) else 0
        needed = self._backlogged if isinstance(schedule, DirectSequences) else 0
        return len(schedule) - backlogged >= self._requests and backlogged >= needed
