"""A model of Triton's dynamic batcher without a delay: batches are cut ahead of time and may still grow.

After `dynamic_batch_scheduler.cc` and `payload.cc`: up to two batches for each instance wait cut; the last of
them takes more requests until it is full or runs; an idle instance takes the first. Instances are all alike.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from deuteron.actors.clock import Instant
from deuteron.actors.schedule import Dispatch, InstanceId, Job

AHEAD = 2
"""Batches that wait cut, for each instance."""


class AheadBatcher:
    """Batches of requests of one row each."""

    def __init__(self, limit: int, instances: int) -> None:
        self._limit = limit
        self._ahead = AHEAD * instances
        self._pending: deque[Job] = deque()
        self._cut: deque[list[Job]] = deque()

    def __len__(self) -> int:
        return len(self._pending) + sum(map(len, self._cut))

    def admit(self, job: Job, now: Instant) -> None:
        """Take a request to the end of the queue."""
        job.queued = now
        self._pending.append(job)

    def plan(self, credits_: Sequence[InstanceId], now: Instant) -> Iterator[Dispatch]:
        """Cut as much ahead as may be, and give each idle instance the first batch."""
        self._form()
        for instance in credits_:
            if not self._cut:
                return
            yield Dispatch(instance, self._cut.popleft())
            self._form()

    def wake_at(self) -> Instant | None:
        """Nothing here happens by time alone."""
        return None

    def _form(self) -> None:
        while self._pending:
            if not self._cut or len(self._cut[-1]) >= self._limit:
                if len(self._cut) >= self._ahead:
                    return
                self._cut.append([])
            self._cut[-1].append(self._pending.popleft())
