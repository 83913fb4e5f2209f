"""The *direct* strategy: each sequence has its own row in the batches of its instance.

A batch has a row for each slot from the first to the last one where somebody waits, so a model finds a
sequence in the same row every time. A slot where nobody waits is filled with an *empty row*: zeros under the
shapes of the others, and controls that say nothing is true of it. So is a slot whose request has other shapes
than the batch; which shapes a batch takes is decided by whoever has waited longest.

An instance runs one batch at a time: the next row of a sequence needs what the one before left behind. What a
batch waits for is named after its state:

* **hurried**: no delay or no utilisation is set. Run who is there.
* **utilised**: enough of the slots have somebody waiting. Run them.
* **aged**: the first of them has waited the whole delay. Run who is there.
* **sparse**: too few, and time is left. Wait.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from ..proto.config import ModelConfig
from ..proto.datatypes import Datatype
from ..proto.message import Correlation, Request, Response
from ..proto.sequence_controls import SequenceControls
from ..proto.tensor import Tensor
from .batching import Signature
from .clock import MICROSECOND, Instant, Nanoseconds
from .schedule import Dispatch, InstanceId, Job, Order
from .sequence_statistics import SequenceStatistics
from .sequencing import Sequencer
from .slots import Slot


class DirectSequences:
    """The schedule of a model with `sequence_batching { direct }`."""

    __slots__ = (
        "_controls",
        "_delay",
        "_enough",
        "_iterative",
        "_sequencer",
        "_signature",
        "_stepping",
        "_wake_at",
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
        limit = max(1, config.max_batch_size)
        self._sequencer = Sequencer(config, limit, statistics, durable=durable)
        self._iterative = batching.iterative_sequence
        self._stepping: dict[InstanceId, Sequence[Job]] = {}
        self._delay: Final[Nanoseconds] = batching.direct.max_queue_delay_microseconds * MICROSECOND
        self._enough = _enough(batching.direct.minimum_slot_utilization, limit)
        self._controls = controls
        self._signature = signature
        self._wake_at: Instant | None = None

    def __len__(self) -> int:
        return len(self._sequencer)

    @property
    def backlogged(self) -> int:
        """Jobs that wait for a slot."""
        return self._sequencer.backlogged

    def admit(self, job: Job, now: Instant) -> None:
        """Take a job into its sequence; raises InferError where there is none, or no room."""
        if self._signature is not None:
            job.signature = self._signature(job.request)
        self._sequencer.admit(job, now)

    def resume(self, job: Job, now: Instant) -> None:
        """Take a job back for another step; raises InferError where the model has none, or too late."""
        self._sequencer.resume(job, now)

    def withdraw(self, request: Request) -> Job | None:
        """Give back the waiting job of a request, if it waits here; those behind it are cancelled."""
        return self._sequencer.withdraw(request)

    def plan(self, credits_: Sequence[InstanceId], now: Instant) -> Iterator[Order]:
        """Reject what waited too long, then run a batch on each instance where one is worth it."""
        for instance in credits_:
            self._sequencer.note_steps(self._stepping.pop(instance, ()), now)
        yield from self._sequencer.expire(now)
        self._wake_at = None
        for instance in credits_:
            slots = self._sequencer.slots[instance]
            if self._worth_running(slots, now):
                yield self._batch(instance, slots, now)
        yield from self._sequencer.forgotten()

    def wake_at(self) -> Instant | None:
        """When the first of a sparse batch has aged or a sequence must be looked at."""
        wakes = (self._wake_at, self._sequencer.next_alarm())
        return min((at for at in wakes if at is not None), default=None)

    def returned(self, instance: InstanceId) -> None:
        """Hear that an instance came: its slots are free."""
        self._sequencer.slots.open(instance)

    def lost(self, instance: InstanceId) -> list[Job]:
        """Hear that an instance broke; give back the jobs of its sequences, which end."""
        self._stepping.pop(instance, None)
        return self._sequencer.lost(instance)

    def retire(self, instance: InstanceId) -> None:
        """Hear that an instance is to leave: its sequences stay to their end, and no others begin there."""
        self._sequencer.slots.retire(instance)

    def holds(self, instance: InstanceId) -> bool:
        """Whether a sequence lives on an instance."""
        return self._sequencer.slots.any_taken(instance)

    def clear(self) -> list[Job]:
        """Give back every waiting job."""
        return self._sequencer.clear()

    def check(self) -> None:
        """Raise AssertionError where slots, backlog and ids contradict each other."""
        self._sequencer.check()

    def _worth_running(self, slots: Sequence[Slot], now: Instant) -> bool:
        heads = [slot.head for slot in slots if slot.head is not None]
        if not heads or not self._delay or not self._enough or len(heads) >= self._enough:
            return bool(heads)
        aged_at = min(head.queued for head in heads) + self._delay
        if now >= aged_at:
            return True
        self._wake_at = aged_at if self._wake_at is None else min(self._wake_at, aged_at)
        return False

    def _batch(self, instance: InstanceId, slots: Sequence[Slot], now: Instant) -> Dispatch:
        """Take the head of each slot that fits, and put empty rows between them."""
        waiting = [(slot.number, slot.head) for slot in slots if slot.head is not None]
        leader = min((head for _, head in waiting), key=lambda head: head.queued)
        last = waiting[-1][0]
        empty_row: dict[str, Tensor] = {}
        if len(waiting) <= last or any(head.signature != leader.signature for _, head in waiting):
            empty_row = {**zeros_like(leader.request.inputs), **self._controls.of_empty_slot()}
        jobs: list[Job] = []
        empty_rows = 0
        for slot in slots[: last + 1]:
            head = slot.head
            if head is not None and head.signature == leader.signature:
                jobs.append(with_controls(self._sequencer.pop(slot), slot, self._controls))
                self._sequencer.settle(slot, now)
            else:
                empty_rows += 1
                jobs.append(_empty_row(leader.request, empty_row.copy(), now))
        if self._iterative:
            self._stepping[instance] = [job for job in jobs if not job.empty_row]
        return Dispatch(instance, jobs, empty_rows)


def _enough(utilization: float, slots: int) -> int:
    """Return how many of the slots make up a utilisation; 0 where none is set."""
    if not utilization:
        return 0
    # The configuration keeps 32 bits of the fraction: 3 of 10 slots are 0.3 only when compared as it is kept.
    shares = (np.float32(number / slots) for number in range(1, slots + 1))
    return next(number for number, share in enumerate(shares, 1) if share >= np.float32(utilization))


def with_controls(job: Job, slot: Slot, controls: SequenceControls) -> Job:
    """Return a job whose request tells the model where in its sequence it stands."""
    job.request.sequence_slot = slot.number
    correlation = job.request.correlation
    assert isinstance(correlation, Correlation), "a sequencer admits no request without"
    job.request.inputs.update(controls.of(correlation))
    return job


def zeros_like(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of the same datatypes and shapes that hold zeros, or empty strings."""
    return {
        name: Tensor.from_numpy(
            np.full(
                tensor.shape, b"" if tensor.datatype is Datatype.BYTES else 0, tensor.datatype.numpy_type
            ),
            tensor.datatype,
        )
        for name, tensor in inputs.items()
    }


def _empty_row(like: Request, inputs: dict[str, Tensor], now: Instant) -> Job:
    request = Request(like.model_name, like.model_version, inputs=inputs)
    return Job(request, _NOBODY, now, queued=now, empty_row=True)


class _Nobody:
    """The return address of an empty row."""

    def send(self, response: Response) -> None:
        """Drop it: nobody asked."""


_NOBODY: Final = _Nobody()
