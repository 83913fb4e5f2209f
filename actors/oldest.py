"""The *oldest* strategy: sequences share the batches of their instance, whoever has waited longest first.

Each instance has a dynamic batcher of its own. Every slot sends it one request at a time, the next when the
one before has run; so a batch never holds two requests of a sequence, and no row is empty. A model finds out
by the correlation ID whose row it has.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from ..proto.config import ModelConfig
from ..proto.config.model_config import DynamicBatching
from ..proto.message import Request
from ..proto.sequence_controls import SequenceControls
from .batching import DynamicBatcher, Signature
from .clock import Instant
from .direct import with_controls
from .schedule import Dispatch, InstanceId, Job, Order
from .sequence_statistics import SequenceStatistics
from .sequencing import Sequencer
from .slots import Slot


class OldestSequences:
    """The schedule of a model with `sequence_batching { oldest }`."""

    __slots__ = (
        "_batchers",
        "_batching",
        "_controls",
        "_iterative",
        "_limit",
        "_running",
        "_sent",
        "_sequencer",
        "_signature",
    )

    prompt: Final = False

    def __init__(
        self,
        config: ModelConfig,
        controls: SequenceControls,
        signature: Signature | None,
        statistics: SequenceStatistics,
        *,
        durable: bool = False,
    ) -> None:
        assert config.sequence_batching is not None
        batching = config.sequence_batching
        oldest = batching.oldest
        self._limit = max(1, config.max_batch_size)
        candidates = oldest.max_candidate_sequences or self._limit
        self._sequencer = Sequencer(config, candidates, statistics, durable=durable)
        self._iterative = batching.iterative_sequence
        self._batching: Final = DynamicBatching(
            preferred_batch_sizes=tuple(oldest.preferred_batch_size),
            max_queue_delay_us=oldest.max_queue_delay_microseconds,
        )
        self._controls = controls
        self._signature = signature
        self._batchers: dict[InstanceId, DynamicBatcher] = {}
        self._sent: dict[Job, tuple[Slot, Instant]] = {}
        self._running: dict[InstanceId, Sequence[Job]] = {}

    def __len__(self) -> int:
        return len(self._sequencer) + sum(map(len, self._batchers.values()))

    @property
    def backlogged(self) -> int:
        """Jobs that wait for a slot."""
        return self._sequencer.backlogged

    def admit(self, job: Job, now: Instant) -> None:
        """Take a job into its sequence; raises InferError where there is none, or no room."""
        self._sequencer.admit(job, now)

    def resume(self, job: Job, now: Instant) -> None:
        """Take a job back for another step; raises InferError where the model has none, or too late."""
        self._sequencer.resume(job, now)

    def withdraw(self, request: Request) -> Job | None:
        """Give back the waiting job of a request, if it waits here; those behind it are cancelled."""
        for batcher in self._batchers.values():
            job = batcher.withdraw(request)
            if job is not None:
                slot, _ = self._sent.pop(job)
                self._sequencer.withdraw_popped(slot, job)
                return job
        return self._sequencer.withdraw(request)

    def plan(self, credits_: Sequence[InstanceId], now: Instant) -> Iterator[Order]:
        """Send each sequence's next request to the batcher of its instance, and run what that cuts."""
        for instance in credits_:
            self._note_what_ran(instance, now)
        yield from self._sequencer.expire(now)
        for instance, batcher in self._batchers.items():
            slots = self._sequencer.slots[instance]
            for slot in slots:
                self._send(slot, batcher, now)
            if instance in credits_:
                yield from map(self._dispatched, batcher.plan((instance,), now))
        yield from self._sequencer.forgotten()

    def wake_at(self) -> Instant | None:
        """When a batch has aged or a sequence must be looked at, whichever comes first."""
        wakes = [self._sequencer.next_alarm(), *(each.wake_at() for each in self._batchers.values())]
        return min((at for at in wakes if at is not None), default=None)

    def returned(self, instance: InstanceId) -> None:
        """Hear that an instance came: its slots are free."""
        self._sequencer.slots.open(instance)
        self._batchers[instance] = DynamicBatcher(self._batching, self._limit, self._signature)

    def lost(self, instance: InstanceId) -> list[Job]:
        """Hear that an instance broke; give back the jobs of its sequences, which end."""
        self._running.pop(instance, None)
        self._sent = {job: sent for job, sent in self._sent.items() if sent[0].instance != instance}
        batcher = self._batchers.pop(instance, None)
        return [*(batcher.clear() if batcher is not None else ()), *self._sequencer.lost(instance)]

    def retire(self, instance: InstanceId) -> None:
        """Hear that an instance is to leave: its sequences stay to their end, and no others begin there."""
        self._sequencer.slots.retire(instance)

    def holds(self, instance: InstanceId) -> bool:
        """Whether a sequence lives on an instance."""
        return self._sequencer.slots.any_taken(instance)

    def clear(self) -> list[Job]:
        """Give back every waiting job."""
        waiting = [job for batcher in self._batchers.values() for job in batcher.clear()]
        return [*waiting, *self._sequencer.clear()]

    def check(self) -> None:
        """Raise AssertionError where slots, batchers and sequences contradict each other."""
        self._sequencer.check()
        for batcher in self._batchers.values():
            batcher.check()
            assert all(job in self._sent for job in batcher), "a job waits that nobody sent"
        slots = [slot for slot, _ in self._sent.values()]
        assert len(slots) == len(set(slots)), "a sequence has two requests on their way"
        assert all(slot.busy for slot in slots)

    def _send(self, slot: Slot, batcher: DynamicBatcher, now: Instant) -> None:
        if slot.busy or slot.head is None:
            return
        job = self._sequencer.pop(slot)
        slot.busy = True
        self._sent[job] = slot, job.queued
        batcher.admit(job, now)

    def _dispatched(self, order: Order) -> Order:
        """Give the jobs of a batch their controls, and their own time: they queued before the batcher."""
        if isinstance(order, Dispatch):
            self._running[order.instance] = order.jobs
            for job in order.jobs:
                slot, job.queued = self._sent[job]
                with_controls(job, slot, self._controls)
        return order

    def _note_what_ran(self, instance: InstanceId, now: Instant) -> None:
        """Let go of the jobs of the last batch: an instance that has credit has none on its way."""
        jobs = self._running.pop(instance, ())
        for job in jobs:
            slot, _ = self._sent.pop(job)
            slot.busy = False
            if not self._iterative:
                self._sequencer.settle(slot, now)
        if self._iterative:
            self._sequencer.note_steps(jobs, now)
