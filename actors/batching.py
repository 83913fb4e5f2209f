"""The dynamic batcher: who runs together, and when a batch is worth cutting.

With each credit the batcher walks its queue in order of service and gathers jobs while they fit. It remembers
the longest prefix that has a *preferred* size. What it then does is named after the state of the batch:

* **full**: nothing more can join, because the next job is too large or has other shapes, or a rule of the
  model's own keeps it out, or the largest preferred size is reached. Cut everything gathered, or the
  preferred prefix where there is one.
* **preferred**: a prefix has a preferred size and its oldest job is still within the delay. Cut that prefix.
* **aged**: the oldest job has waited the whole delay. Cut everything gathered.
* **hurried**: no delay is set, so nobody waits for company. Cut everything gathered.
* **hungry**: there is room and there is time. Wait, until the oldest job has aged or something arrives.
* **stalled**: jobs wait but there is no credit. Nothing is cut; only deadlines are kept.

A job of another shape closes a batch: nobody overtakes it. Only inputs with variable dimensions are compared,
and where a model has optional inputs also which of them are there, since all others were found equal at
admission.

The rules are those of Triton's documentation of the dynamic batcher and of `dynamic_batch_scheduler.cc`.
There batches are cut ahead of time and may grow afterwards; here they are cut when an instance is free, to
the same end.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

from ..proto.config.model_config import DynamicBatching, ModelConfig
from ..proto.message import Request
from .clock import MICROSECOND, Instant, Nanoseconds
from .queueing import PriorityQueue
from .schedule import Dispatch, InstanceId, Job, Order, not_iterative

Signature = Callable[[Request], object]
"""Names what must be equal among requests of one batch."""


def signature_of(config: ModelConfig) -> Signature | None:
    """Return the signature of a model's requests; None where all admitted requests are alike."""
    batch_axes = 1 if config.max_batch_size > 0 else 0
    variable = tuple(spec.name for spec in config.inputs if -1 in spec.dims and not spec.allow_ragged_batch)
    if any(spec.optional for spec in config.inputs):
        return lambda request: (
            frozenset(request.inputs),
            tuple(request.inputs[name].shape[batch_axes:] for name in variable if name in request.inputs),
        )
    if not variable:
        return None
    if len(variable) == 1:
        only = variable[0]
        return lambda request: request.inputs[only].shape[batch_axes:]
    return lambda request: tuple(request.inputs[name].shape[batch_axes:] for name in variable)


Joins = Callable[[Sequence[Request], Request], bool]
"""Says whether a request may join those that are gathered, by a rule of the model's own."""


class DynamicBatcher:
    """The schedule of a model with `dynamic_batching`."""

    __slots__ = (
        "_delay",
        "_joins",
        "_largest_preferred",
        "_limit",
        "_preferred",
        "_queue",
        "_signature",
        "_wake_at",
    )

    prompt: Final = False

    def __init__(
        self,
        batching: DynamicBatching,
        max_batch_size: int,
        signature: Signature | None,
        joins: Joins | None = None,
    ) -> None:
        self._joins = joins
        self._limit: Final = max(1, max_batch_size)
        self._preferred = frozenset(batching.preferred_batch_sizes)
        self._largest_preferred = max(self._preferred, default=self._limit)
        self._delay: Final[Nanoseconds] = batching.max_queue_delay_us * MICROSECOND
        self._signature = signature
        self._queue = PriorityQueue(batching)
        self._wake_at: Instant | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[Job]:
        """Every waiting job, in order of service."""
        return iter(self._queue)

    def admit(self, job: Job, now: Instant) -> None:
        """Take a job; raises InferError(UNAVAILABLE) when its level is full."""
        if self._signature is not None:
            job.signature = self._signature(job.request)
        self._queue.push(job, now)

    def resume(self, job: Job, now: Instant) -> None:
        """A request is one row of one batch here; raises InferError."""
        raise not_iterative()

    def withdraw(self, request: Request) -> Job | None:
        """Give back the waiting job of a request, if it waits here."""
        return self._queue.remove(request)

    def plan(self, credits_: Sequence[InstanceId], now: Instant) -> Iterator[Order]:
        """Reject what waited too long, then cut a batch for each credit while one is worth it."""
        yield from self._queue.expire(now)
        self._wake_at = None
        for instance in credits_:
            order = self.cut(instance, now)
            if order is None:
                return
            yield order

    @property
    def rows(self) -> int:
        """Rows of all jobs that wait."""
        return self._queue.rows

    def cut(self, instance: InstanceId, now: Instant, behind: int = 0) -> Dispatch | None:
        """Cut a batch behind so many rows from the front, if one is worth it."""
        first = self._queue.jobs_within(behind) if behind else 0
        number = self._worth_cutting(now, first)
        if not number:
            return None
        taken = self._queue.take_behind(first, number) if first else self._queue.take(number)
        return Dispatch(instance, taken)

    def wake_at(self) -> Instant | None:
        """When the oldest job has aged or the next deadline is over, whichever comes first."""
        deadline = self._queue.next_deadline()
        if self._wake_at is None or (deadline is not None and deadline < self._wake_at):
            return deadline
        return self._wake_at

    def returned(self, instance: InstanceId) -> None:
        """Any instance serves any job, so who is there shows in the credits alone."""

    def lost(self, instance: InstanceId) -> Sequence[Job]:
        """Any instance serves any job, so nobody is lost with one."""
        return ()

    def retire(self, instance: InstanceId) -> None:
        """Nothing is bound to an instance."""

    def holds(self, instance: InstanceId) -> bool:
        """Nothing is bound to an instance."""
        return False

    def clear(self) -> list[Job]:
        """Give back every waiting job."""
        return self._queue.take(len(self._queue))

    def check(self) -> None:
        """Raise AssertionError where the queue contradicts itself or a window outlives its jobs."""
        self._queue.check()
        assert self._wake_at is None or len(self._queue), "a window is open though nobody waits"

    def _worth_cutting(self, now: Instant, first: int) -> int:
        """Return how many jobs from a place on make a batch now; 0 to wait."""
        gathered = rows = preferred_prefix = 0
        oldest: Instant | None = None
        signature: object = None
        full = False
        for job in islice(self._queue, first, None) if first else self._queue:
            size = job.request.batch_size
            if oldest is None:
                oldest, signature = job.queued, job.signature
            elif rows + size > self._limit or job.signature != signature or self._is_kept_out(job, gathered):
                full = True
                break
            elif rows + size > self._largest_preferred and not preferred_prefix:
                preferred_prefix = gathered
            gathered += 1
            rows += size
            oldest = min(oldest, job.queued)
            if rows in self._preferred:
                preferred_prefix = gathered
        if oldest is None:
            return 0
        hurried = self._delay == 0
        aged = not hurried and now - oldest >= self._delay
        if preferred_prefix and not aged:
            return preferred_prefix
        if full or aged or hurried or rows >= self._largest_preferred:
            return gathered
        aged_at = oldest + self._delay
        self._wake_at = aged_at if self._wake_at is None else min(self._wake_at, aged_at)
        return 0

    def _is_kept_out(self, job: Job, gathered: int) -> bool:
        """Whether the model's own rule does not let a job join the first so many."""
        if self._joins is None:
            return False
        return not self._joins([each.request for each in islice(self._queue, gathered)], job.request)
