"""Slots: the places that sequences hold on the instances of a model.

A sequence keeps its slot, and so its instance, from its first request to its last: the model may keep what it
remembers of the sequence there. Free slots are handed out lowest number first across all instances, so that
sequences spread over the instances before they share one.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field

from .clock import Instant
from .schedule import InstanceId, Job


@dataclass(slots=True, eq=False)
class JobSequence:
    """One sequence of requests: who waits in it, and where it stands."""

    id: int | str
    began: Instant
    """When its first request came."""
    last_seen: Instant
    """When a request of it came last, or when it got its slot."""
    jobs: deque[Job] = field(default_factory=deque)
    """Those who wait, in their order."""
    slot: "Slot | None" = None
    """None while it stands in the backlog."""
    open: bool = True
    """Whether requests with its id still join it."""
    length: int = 0
    """Requests that left for the instance, or steps of iterative ones."""
    abandoned: bool = False
    """Whether it ended because its client did not go on with it."""
    patience: Instant | None = None
    """When it must have left the backlog; None where its requests did not say."""
    alarm: Instant | None = None
    """When it will be looked at though nothing happened."""


@dataclass(slots=True, eq=False)
class Slot:
    """One place on an instance."""

    instance: InstanceId
    number: int
    sequence: JobSequence | None = None
    busy: bool = False
    """Whether a request of its sequence is on its way, so that the slot stays taken even if nobody waits."""

    @property
    def head(self) -> Job | None:
        """The job that is next in this slot."""
        return self.sequence.jobs[0] if self.sequence is not None and self.sequence.jobs else None


class Slots:
    """All slots of a model, and which of them are free."""

    __slots__ = ("_free", "_leaving", "_of_instance", "_per_instance")

    def __init__(self, per_instance: int) -> None:
        self._per_instance = per_instance
        self._of_instance: dict[InstanceId, list[Slot]] = {}
        self._free: list[tuple[int, InstanceId]] = []
        self._leaving: set[InstanceId] = set()

    def __getitem__(self, instance: InstanceId) -> list[Slot]:
        """The slots of an instance, by their number; none while it is lost."""
        return self._of_instance.get(instance, [])

    @property
    def any_free(self) -> bool:
        """Whether a sequence would find a slot."""
        return bool(self._free)

    def instances(self) -> list[InstanceId]:
        """Return the instances that have slots."""
        return list(self._of_instance)

    def open(self, instance: InstanceId) -> None:
        """Make the slots of an instance that came, all free."""
        self._of_instance[instance] = [Slot(instance, number) for number in range(self._per_instance)]
        for number in range(self._per_instance):
            heapq.heappush(self._free, (number, instance))

    def retire(self, instance: InstanceId) -> None:
        """Hand out no more slots of an instance; those that are taken stay so until they are released."""
        self._leaving.add(instance)
        self._free = [free for free in self._free if free[1] != instance]
        heapq.heapify(self._free)

    def any_taken(self, instance: InstanceId) -> bool:
        """Whether a sequence stands in a slot of an instance, or a request of one is on its way."""
        return any(slot.sequence is not None or slot.busy for slot in self[instance])

    def close(self, instance: InstanceId) -> list[Slot]:
        """Forget the slots of an instance that is lost, and give them back as they were."""
        self.retire(instance)
        self._leaving.discard(instance)
        return self._of_instance.pop(instance, [])

    def take(self) -> Slot | None:
        """Return the first free slot, which is free no more; None where there is none."""
        if not self._free:
            return None
        number, instance = heapq.heappop(self._free)
        return self._of_instance[instance][number]

    def release(self, slot: Slot) -> None:
        """Make a slot free again, unless its instance is to leave."""
        if slot.instance in self._leaving:
            return
        heapq.heappush(self._free, (slot.number, slot.instance))

    def check(self) -> None:
        """Every slot is either free or holds one sequence, which knows it; none is free that is to go."""
        free = set(self._free)
        assert len(free) == len(self._free), "a slot is free twice"
        for slots in self._of_instance.values():
            for slot in slots:
                is_free = (slot.number, slot.instance) in free
                assert not is_free or slot.instance not in self._leaving, f"{slot} would outlive its instance"
                is_gone = slot.instance in self._leaving and slot.sequence is None
                assert is_gone or (slot.sequence is None) == is_free, f"{slot} is lost"
                assert slot.sequence is None or slot.sequence.slot is slot, f"{slot} is shared"
