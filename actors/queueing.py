"""The queue in front of a dynamic batcher: priorities, bounds, and what becomes of those who wait too long.

Order of service: level 1 before level 2 and so on; within a level first come, first served, and after all
those the jobs that were *delayed*: they waited too long under a policy that serves them last rather than not
at all, and no clock runs for them any more. A policy that *rejects* gives such jobs back instead.

A client may ask for a shorter wait than the policy's, where the policy allows it; never for a longer one. So
where the policy sets no time a client's wish has no effect, as in Triton.
"""

import heapq
from bisect import insort
from collections import deque
from collections.abc import Iterator
from itertools import count, islice
from typing import Final

from ..proto.config.model_config import DynamicBatching, QueuePolicy, TimeoutAction
from ..proto.errors import Fault, InferError
from ..proto.message import Request
from .clock import MICROSECOND, Instant
from .one_by_one import QUEUE_CAPACITY, queue_full
from .schedule import Job, Reject

NO_LEVELS: Final = 0
"""The one level of a model without priorities."""
LEVELS_KEPT: Final = 64
"""Levels that are kept though nobody waits at them."""


class _Level:
    """Those who wait at one priority."""

    __slots__ = ("delayed", "policy", "waiting")

    def __init__(self, policy: QueuePolicy) -> None:
        self.policy = policy
        self.waiting: deque[Job] = deque()
        self.delayed: deque[Job] = deque()

    def __len__(self) -> int:
        return len(self.waiting) + len(self.delayed)

    @property
    def capacity(self) -> int:
        return self.policy.max_queue_size or QUEUE_CAPACITY


class PriorityQueue:
    """Jobs in order of service, under one policy for each level."""

    __slots__ = (
        "_batching",
        "_deadlines",
        "_default_level",
        "_levels",
        "_order",
        "_prune_at",
        "_size",
        "_tiebreak",
        "rows",
    )

    def __init__(self, batching: DynamicBatching) -> None:
        self._batching = batching
        self._default_level = batching.default_priority_level if batching.priority_levels else NO_LEVELS
        self._levels: dict[int, _Level] = {}
        """Those that somebody has waited at; a configuration may allow 2⁶⁴."""
        self._order: list[int] = []
        self._prune_at = LEVELS_KEPT
        self._deadlines: list[tuple[Instant, int, Job]] = []
        self._tiebreak = count()
        self._size = 0
        self.rows = 0
        """Rows of all jobs together."""

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Job]:
        """Every job, in order of service."""
        for number in self._order:
            level = self._levels[number]
            yield from level.waiting
            yield from level.delayed

    def push(self, job: Job, now: Instant) -> None:
        """Take a job to the end of its level; raises InferError(UNAVAILABLE) when that level is full."""
        wish = job.request.priority
        job.level = wish if 0 < wish <= self._batching.priority_levels else self._default_level
        level = self._levels.get(job.level)
        if level is None:
            level = self._open(job.level)
        if len(level) >= level.capacity:
            raise queue_full(job.request)
        job.queued = now
        level.waiting.append(job)
        self._size += 1
        self.rows += job.request.batch_size
        patience = _patience_us(level.policy, job.request)
        if patience:
            job.deadline = now + patience * MICROSECOND
            heapq.heappush(self._deadlines, (job.deadline, next(self._tiebreak), job))

    def take(self, number: int) -> list[Job]:
        """Remove and return the first jobs in order of service."""
        jobs = list(islice(self, number))
        for job in jobs:
            level = self._levels[job.level]
            (level.waiting or level.delayed).popleft()
            job.deadline = None
            self.rows -= job.request.batch_size
        self._size -= len(jobs)
        return jobs

    def take_behind(self, first: int, number: int) -> list[Job]:
        """Remove and return jobs from a place on, in order of service."""
        jobs = list(islice(self, first, first + number))
        for job in jobs:
            self._drop(job)
        return jobs

    def jobs_within(self, rows: int) -> int:
        """Return how many jobs from the front it takes for so many rows."""
        jobs = 0
        for job in self:
            if rows <= 0:
                break
            rows -= job.request.batch_size
            jobs += 1
        return jobs

    def remove(self, request: Request) -> Job | None:
        """Remove and return the job of a request, if it waits here."""
        job = next((job for job in self if job.request is request), None)
        if job is not None:
            self._drop(job)
        return job

    def expire(self, now: Instant) -> Iterator[Reject]:
        """Settle with every job whose time is over: delay it, or reject it and yield that."""
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, _, job = heapq.heappop(self._deadlines)
            if job.deadline != deadline:
                continue  # it was served, withdrawn or delayed before its time was over
            level = self._levels[job.level]
            self._drop(job)
            if level.policy.timeout_action is TimeoutAction.DELAY:
                level.delayed.append(job)
                self._size += 1
                self.rows += job.request.batch_size
            else:
                yield Reject(job, InferError(Fault.UNAVAILABLE, "Request timeout expired"), "REJECTED")

    def next_deadline(self) -> Instant | None:
        """When the next job's time is over; None when nobody's is running."""
        while self._deadlines and self._deadlines[0][2].deadline != self._deadlines[0][0]:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def check(self) -> None:
        """Every job stands once, at its level, and every running deadline is known to the heap."""
        jobs = list(self)
        assert len(jobs) == self._size == len({id(job) for job in jobs}), (
            "a job stands twice or was miscounted"
        )
        assert sum(job.request.batch_size for job in jobs) == self.rows, "rows were miscounted"
        known = {id(job) for _, _, job in self._deadlines}
        for job in jobs:
            assert not job.answered, "an answered job still waits"
            assert job.deadline is None or id(job) in known, "a deadline nobody watches"

    def _open(self, number: int) -> _Level:
        """Return a level that is not kept yet."""
        if len(self._levels) >= self._prune_at:
            self._prune()
        batching = self._batching
        policy = batching.priority_queue_policy.get(number, batching.default_queue_policy)
        level = self._levels[number] = _Level(policy)
        insort(self._order, number)
        return level

    def _prune(self) -> None:
        """Forget the levels that nobody waits at."""
        self._levels = {number: level for number, level in self._levels.items() if len(level)}
        self._order = sorted(self._levels)
        self._prune_at = 2 * max(LEVELS_KEPT, len(self._levels))

    def _drop(self, job: Job) -> None:
        level = self._levels[job.level]
        (level.waiting if job in level.waiting else level.delayed).remove(job)
        job.deadline = None
        self._size -= 1
        self.rows -= job.request.batch_size


def _patience_us(policy: QueuePolicy, request: Request) -> int:
    """Return how many microseconds a request may wait; 0 for ever."""
    patience = policy.default_timeout_us
    if policy.allow_timeout_override and 0 < request.timeout_us < patience:
        return request.timeout_us
    return patience
