"""A model in virtual time: arrivals, a schedule, instances that cost what they cost, and marks at the end.

Nothing here is random but the arrivals, and these by a seed; so the same world gives the same marks.
"""

import heapq
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import ClassVar, Protocol

from deuteron.actors.clock import MILLISECOND, SECOND, Instant, Nanoseconds
from deuteron.actors.schedule import Dispatch, InstanceId, Job, Order, Reject
from deuteron.proto.message import Request, Response

Cost = Callable[[int], Nanoseconds]
"""How long an instance takes for a batch of so many rows."""


class Queue(Protocol):
    """As much of a schedule as an arena needs."""

    def __len__(self) -> int: ...

    def admit(self, job: Job, now: Instant) -> None: ...

    def plan(self, credits_: Sequence[InstanceId], now: Instant) -> Iterator[Order]: ...

    def wake_at(self) -> Instant | None: ...


class Nowhere:
    """A reply nobody reads: the arena takes note itself."""

    def send(self, response: Response) -> None:
        """Drop the response."""


def affine(fixed_ms: float, per_row_ms: float) -> Cost:
    """Return the cost of a model that takes some time for a batch and some for each row."""
    return lambda rows: round((fixed_ms + per_row_ms * rows) * MILLISECOND)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that comes, whatever became of those before it."""

    at: Instant
    client: int


def poisson(rng: random.Random, per_second: float, seconds: float, clients: int = 8) -> list[Arrival]:
    """Return arrivals that know nothing of each other."""
    return _thinned(rng, per_second, seconds, clients, lambda _: 1)


def diurnal(rng: random.Random, per_second: float, seconds: float, clients: int = 8) -> list[Arrival]:
    """Return arrivals that swell and ebb, four days long, around a mean."""
    return _thinned(
        rng, 1.6 * per_second, seconds, clients, lambda part: (1 - 0.6 * math.cos(8 * math.pi * part)) / 1.6
    )


def bursts(rng: random.Random, per_second: float, seconds: float, clients: int = 8) -> list[Arrival]:
    """Return arrivals that come forty at a time, within a millisecond."""
    starts = _thinned(rng, per_second / 40, seconds, clients, lambda _: 1)
    return sorted(
        (
            Arrival(each.at + rng.randrange(MILLISECOND), rng.randrange(clients))
            for each in starts
            for _ in range(40)
        ),
        key=lambda each: each.at,
    )


def _thinned(
    rng: random.Random, per_second: float, seconds: float, clients: int, share: Callable[[float], float]
) -> list[Arrival]:
    arrivals = []
    moment = 0.0
    while (moment := moment + rng.expovariate(per_second)) < seconds:
        if rng.random() < share(moment / seconds):
            arrivals.append(Arrival(round(moment * SECOND), rng.randrange(clients)))
    return arrivals


@dataclass(frozen=True, slots=True)
class Marks:
    """What a schedule achieved."""

    throughput: float
    """Requests each second."""
    fill: float
    """Rows of an average batch, as a part of the largest."""
    p50_ms: float
    """Time in the queue."""
    p99_ms: float
    whole_p99_ms: float
    """Time from a request to its answer."""
    fairness: float
    """Jain's index of the mean times of the clients: 1 where all are served alike."""
    waste: float
    """Part of the instances' time that full batches on the fastest of them would have saved."""

    HEAD: ClassVar[str] = (
        f"{'per second':>10} {'fill':>5} {'p50 ms':>7} {'p99 ms':>7} {'whole':>7} {'fair':>5} {'waste':>5}"
    )

    def __str__(self) -> str:
        return (
            f"{self.throughput:10.0f} {self.fill:5.2f} {self.p50_ms:7.2f} {self.p99_ms:7.2f} "
            f"{self.whole_p99_ms:7.2f} {self.fairness:5.3f} {self.waste:5.2f}"
        )


@dataclass
class Arena:
    """Instances of given costs behind one schedule."""

    queue: Queue
    costs: Sequence[Cost]
    limit: int
    finished: Callable[[InstanceId, Instant], None] = lambda _instance, _now: None
    """What is to hear that an instance is done."""
    now: Instant = 0
    _credits: list[InstanceId] = field(default_factory=list)
    _events: list[tuple[Instant, int, Callable[[], None]]] = field(default_factory=list)
    _places: Iterator[int] = field(default_factory=count)
    _waits: list[Nanoseconds] = field(default_factory=list)
    _times: dict[int, list[Nanoseconds]] = field(default_factory=dict)
    _batches: list[tuple[InstanceId, int]] = field(default_factory=list)
    _ended: Instant = 0
    _wake: Instant = 0

    def __post_init__(self) -> None:
        """Let all instances be idle."""
        self._credits = list(range(len(self.costs)))

    def open_loop(self, arrivals: Sequence[Arrival]) -> Marks:
        """Let requests come when they come, and serve them all."""
        for each in arrivals:
            self._at(each.at, lambda client=each.client: self._arrive(client, None))  # type: ignore[misc]
        return self._run(None)

    def closed_loop(self, clients: int, seconds: float) -> Marks:
        """Let each of some clients ask again as soon as it is answered."""
        end = round(seconds * SECOND)
        for client in range(clients):
            self._at(client, lambda client=client: self._arrive(client, end))  # type: ignore[misc]
        return self._run(end)

    def _at(self, moment: Instant, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._places), event))

    def _run(self, end: Instant | None) -> Marks:
        while self._events and (end is None or self._events[0][0] <= end):
            self.now = self._events[0][0]
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            for order in self.queue.plan(tuple(self._credits), self.now):
                self._obey(order)
            wake = self.queue.wake_at()
            if wake is not None and not self.now < self._wake <= wake:
                self._wake = max(wake, self.now + 1)
                self._at(self._wake, lambda: None)
        assert end is not None or not len(self.queue), "somebody was never served"
        return self._marks()

    def _arrive(self, client: int, end: Instant | None) -> None:
        job = Job(Request("m", id=str(client), priority=client), Nowhere(), self.now)
        job.on_settled = None if end is None else lambda: self._arrive(client, end)
        self.queue.admit(job, self.now)

    def _obey(self, order: Order) -> None:
        assert not isinstance(order, Reject)
        assert isinstance(order, Dispatch)
        instance, jobs = order.instance, list(order.jobs)
        self._credits.remove(instance)
        rows = len(jobs)
        assert 0 < rows <= self.limit
        self._batches.append((instance, rows))
        self._waits += [self.now - job.arrived for job in jobs]
        self._at(self.now + self.costs[instance](rows), lambda: self._finish(instance, jobs))

    def _finish(self, instance: InstanceId, jobs: list[Job]) -> None:
        self._credits.append(instance)
        self.finished(instance, self.now)
        self._ended = self.now
        for job in jobs:
            self._times.setdefault(int(job.request.id), []).append(self.now - job.arrived)
            if job.on_settled is not None:
                job.on_settled()

    def _marks(self) -> Marks:
        waits = sorted(self._waits)
        times = sorted(time for each in self._times.values() for time in each)
        done = len(times)
        means = [sum(each) / len(each) for each in self._times.values()]
        rows = sum(size for _, size in self._batches)
        spent = sum(self.costs[instance](size) for instance, size in self._batches)
        best = min(cost(self.limit) for cost in self.costs) / self.limit
        return Marks(
            done / (self._ended / SECOND),
            rows / len(self._batches) / self.limit,
            waits[len(waits) // 2] / MILLISECOND,
            waits[len(waits) * 99 // 100] / MILLISECOND,
            times[len(times) * 99 // 100] / MILLISECOND,
            sum(means) ** 2 / len(means) / sum(mean * mean for mean in means),
            1 - rows * best / spent,
        )
