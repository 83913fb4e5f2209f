"""Instances of different speed: a batch goes to whichever would finish it first, even if it has to wait.

Where a model has several groups of instances, a fast device and a slow one say, giving work to whoever is
idle is wrong: requests that a slow instance takes would often have been done sooner by a fast one that is
busy just now. With few clients, each waiting for its answer, an added slow instance even costs throughput.

So the speed of each instance is measured: how long a batch took, by its size, smoothed. Idle instances are
asked in order of speed. By the time that one would finish a batch now, the busy ones may have finished some;
those rows, from the front of the queue, are left for them, and what is behind is for the slower one to take:

* **fastest**: no other would have finished anything by then. Take the batch from the front.
* **behind**: others will serve the front sooner, and more is waiting. Take the batch from behind that.
* **held**: others will serve all that waits sooner. Take nothing, and look again when one of them is done, or
  takes longer than it should.
* **tried**: held for so long that it may have become faster since. Take the last row alone, to see.

So nobody is served later because of an instance that was added, as far as the measurements tell. This is list
scheduling by earliest finish time (HEFT: Topcuoglu, Hariri and Wu, 2002), of one kind of task without edges.

An instance that was never measured counts as infinitely fast, so that it has a first time.
Responses that are promised in order go by the order of dispatch: there nothing is taken from behind.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from ..proto.message import Request
from .clock import MILLISECOND, Instant, Nanoseconds
from .schedule import Dispatch, InstanceId, Job, Order, Schedule

SMOOTHING: Final = 4
"""A measurement counts as one of so many."""
PATIENCE: Final = 100
"""A slow instance is tried again after it was idle for so many of its shortest batches."""
LOOKS: Final = 4
"""How often a held batch is looked at in the time that the slow instance would take for it."""


class Divisible(Schedule, Protocol):
    """A schedule of one queue, from which batches can be cut wherever one likes."""

    @property
    def rows(self) -> int:
        """Rows of all jobs that wait."""

    def cut(self, instance: InstanceId, now: Instant, behind: int) -> Dispatch | None:
        """Cut a batch behind so many rows, if one is worth it; a job is never divided."""


@dataclass(slots=True)
class Pace:
    """How fast one instance is, and what it is doing."""

    idle_since: Instant
    took: dict[int, Nanoseconds] = field(default_factory=dict)
    """How long batches took, by the number of binary digits of their rows."""
    started: Instant | None = None
    """When it was given the batch that it runs; None while it is idle."""
    rows: int = 0
    """Rows of that batch."""
    due: Instant = 0
    """When it should be done with it."""

    def estimate(self, rows: int, shapes: Iterable["Pace"]) -> Nanoseconds:
        """Return how long a batch would take; 0 where nothing was measured.

        A size that was not measured is as much longer than one that was as it is on another instance.
        """
        if not self.took:
            return 0
        size = rows.bit_length()
        longest = min(
            (took << (size - each) for each, took in self.took.items() if each <= size), default=None
        )
        if longest is not None and size in self.took:
            return longest  # no batch takes longer than its rows one by one: whatever was measured was chance
        near = min(self.took, key=lambda each: abs(each - size))
        for other in shapes:
            if size in other.took and near in other.took:
                return self.took[near] * other.took[size] // max(1, other.took[near])
        return self.took[near]

    def is_stale(self, now: Instant) -> bool:
        """Whether it was idle for so long that it should be tried again."""
        return self.started is None and now - self.idle_since > PATIENCE * min(self.took.values(), default=0)

    def free_at(self, now: Instant) -> Instant:
        """Return when it can take the next batch; one that is overdue is expected to take as long again."""
        if self.started is None:
            return now
        return self.due if self.due > now else now + (now - self.started)

    def start(self, rows: int, now: Instant, due: Instant) -> None:
        """Note that it was given a batch, which should be done at some time."""
        self.started, self.rows, self.due = now, rows, due

    def finish(self, now: Instant) -> None:
        """Note that it is done, and learn from it."""
        if self.started is None:
            return
        elapsed, size = now - self.started, self.rows.bit_length()
        before = self.took.get(size, elapsed)
        self.took[size] = before + (elapsed - before) // SMOOTHING
        self.started = None
        self.idle_since = now


class FastestFirst:
    """A schedule that hands what its queue holds to the instances that finish it first."""

    __slots__ = ("_held_until", "_limit", "_ordered", "_paces", "_queue")

    def __init__(self, queue: Divisible, max_batch_size: int, *, ordered: bool) -> None:
        """Take the queue; `ordered` says that responses are promised in the order of requests."""
        self._queue = queue
        self._limit = max(1, max_batch_size)
        self._ordered = ordered
        self._paces: dict[InstanceId, Pace] = {}
        self._held_until: Instant | None = None

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def prompt(self) -> bool:
        """As the queue says: whom nobody is before is given to the fastest of the idle."""
        return self._queue.prompt

    def admit(self, job: Job, now: Instant) -> None:
        """Take a job into the queue; raises InferError(UNAVAILABLE) when there is no room for it."""
        self._queue.admit(job, now)

    def resume(self, job: Job, now: Instant) -> None:
        """Take a job back, if the queue knows how to; raises InferError."""
        self._queue.resume(job, now)

    def withdraw(self, request: Request) -> Job | None:
        """Give back the waiting job of a request, if it waits here."""
        return self._queue.withdraw(request)

    def plan(self, credits_: Sequence[InstanceId], now: Instant) -> Iterator[Order]:
        """Reject what waited too long, then cut a batch for each idle instance that finishes it first."""
        yield from self._queue.plan((), now)
        self._held_until = None
        size = self._next_size()
        for instance in sorted(credits_, key=lambda each: self._estimate(self._pace(each, now), size)):
            waiting, size = self._queue.rows, self._next_size()
            if not waiting:
                return
            behind = self._served_by_others(instance, size, now)
            if behind and (self._ordered or behind >= waiting):
                if self._ordered or waiting == 1 or not self._pace(instance, now).is_stale(now):
                    self._hold(instance, size, now)
                    continue
                behind = waiting - 1
            order = self._queue.cut(instance, now, behind)
            if order is None and behind:
                self._hold(instance, size, now)  # the last job is one of several rows, and partly before that
            elif order is not None:
                self._start(instance, order.jobs, now)
                yield order

    def wake_at(self) -> Instant | None:
        """When the queue wants to be asked, or a held batch is to be looked at again."""
        wakes = (self._held_until, self._queue.wake_at())
        return min((at for at in wakes if at is not None), default=None)

    def finished(self, instance: InstanceId, now: Instant) -> None:
        """Hear that an instance is done with its batch."""
        self._pace(instance, now).finish(now)

    def returned(self, instance: InstanceId) -> None:
        """Hear that an instance came, or came back; how fast it is will be seen."""
        self._paces.pop(instance, None)
        self._queue.returned(instance)

    def lost(self, instance: InstanceId) -> Sequence[Job]:
        """Hear that an instance broke."""
        self._paces.pop(instance, None)
        return self._queue.lost(instance)

    def retire(self, instance: InstanceId) -> None:
        """Hear that an instance is to leave."""
        self._queue.retire(instance)

    def holds(self, instance: InstanceId) -> bool:
        """Whether anything is bound to an instance."""
        return self._queue.holds(instance)

    def clear(self) -> list[Job]:
        """Give back every waiting job."""
        return self._queue.clear()

    def check(self) -> None:
        """Raise AssertionError where the queue contradicts itself."""
        self._queue.check()

    def _pace(self, instance: InstanceId, now: Instant) -> Pace:
        pace = self._paces.get(instance)
        if pace is None:
            pace = self._paces[instance] = Pace(now)
        return pace

    def _estimate(self, pace: Pace, rows: int) -> Nanoseconds:
        return pace.estimate(rows, self._paces.values())

    def _start(self, instance: InstanceId, jobs: Sequence[Job], now: Instant) -> None:
        rows = sum(job.request.batch_size for job in jobs)
        pace = self._pace(instance, now)
        pace.start(rows, now, now + self._estimate(pace, rows))

    def _next_size(self) -> int:
        return min(self._limit, self._queue.rows)

    def _served_by_others(self, instance: InstanceId, size: int, now: Instant) -> int:
        """Return how many rows busy instances will have served when this one could be done with a batch."""
        finish = now + self._estimate(self._pace(instance, now), size)
        rows = 0
        for other, pace in self._paces.items():
            if other != instance and pace.started is not None and pace.took:
                batches = (finish - pace.free_at(now)) // max(1, self._estimate(pace, size))
                rows += max(0, batches) * size
        return rows

    def _hold(self, instance: InstanceId, size: int, now: Instant) -> None:
        look = now + max(MILLISECOND, self._estimate(self._pace(instance, now), size) // LOOKS)
        self._held_until = look if self._held_until is None else min(self._held_until, look)
