"""Triton's default scheduler: every request is an execution of its own, first come, first served.

No batching even where the model could, no limit of time, no priorities. Its only bound is memory's.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from ..proto.errors import Fault, InferError, request_prefix
from ..proto.message import Request
from .clock import Instant
from .schedule import Dispatch, InstanceId, Job, not_iterative

QUEUE_CAPACITY: Final = 100_000
"""Requests that may wait for one model that sets no bound of its own."""


def queue_full(request: Request) -> InferError:
    """Return the error of a request that found no room in its model's queue."""
    return InferError(Fault.UNAVAILABLE, f"{request_prefix(request.id)}Exceeds maximum queue size")


class OneByOne:
    """The default schedule: one queue, one request a batch."""

    __slots__ = ("_queue",)

    prompt: Final = True

    def __init__(self) -> None:
        self._queue: deque[Job] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def admit(self, job: Job, now: Instant) -> None:
        """Take a job; raises InferError(UNAVAILABLE) beyond `QUEUE_CAPACITY`."""
        if len(self._queue) >= QUEUE_CAPACITY:
            raise queue_full(job.request)
        job.queued = now
        self._queue.append(job)

    def resume(self, job: Job, now: Instant) -> None:
        """A request is one execution here; raises InferError."""
        raise not_iterative()

    def withdraw(self, request: Request) -> Job | None:
        """Give back the waiting job of a request, if it waits here."""
        job = next((job for job in self._queue if job.request is request), None)
        if job is not None:
            self._queue.remove(job)
        return job

    def plan(self, credits_: Sequence[InstanceId], now: Instant) -> Iterator[Dispatch]:
        """Give each credit the next job."""
        for instance in credits_:
            if not self._queue:
                return
            yield Dispatch(instance, (self._queue.popleft(),))

    @property
    def rows(self) -> int:
        """Jobs that wait: each runs alone, whatever its rows."""
        return len(self._queue)

    def cut(self, instance: InstanceId, now: Instant, behind: int) -> Dispatch | None:
        """Take the job behind so many."""
        if behind >= len(self._queue):
            return None
        job = self._queue[behind]
        del self._queue[behind]
        return Dispatch(instance, (job,))

    def wake_at(self) -> Instant | None:
        """Nothing here happens by time alone."""
        return None

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
        jobs = list(self._queue)
        self._queue.clear()
        return jobs

    def check(self) -> None:
        """A queue cannot contradict itself, but it may hold no answered job."""
        assert not any(job.answered for job in self._queue)
