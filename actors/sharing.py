"""The rate limiter: which instance may run next, where all models share what there is too little of.

A group of instances says which *resources* each of its executions holds, and how many: a resource belongs to
one device, or is *global*. An instance runs only while all it needs is free. How many there are is what the
operator says, or else the most that any instance needs, so that two that need all of it take turns.

Who wants to run and may not is *staged*. The first among the staged goes next, and nobody passes by who needs
some of the same, however little: so nobody starves who needs much. Each execution adds the priority of the
instance to its *pass* (1 is the most urgent, and runs twice as often as 2); first is whose pass would be the
smallest after its turn. One that stood by for a while begins where the others are, so that it has no turns to
make up for. This is stride scheduling (Waldspurger and Weihl, 1995); Triton compares executions times
priority from the beginning of time, and lets those wait too who need nothing of what is short.

It is pure: routers ask, and are told whom to wake. The texts are Triton's (`rate_limiter.cc`).
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..proto.errors import invalid

GLOBAL: Final = None
"""Stands for the device of what is not on one."""

Resource = tuple[str, int | None]
"""A name, and the number of a device or `GLOBAL`."""


@dataclass(frozen=True, slots=True)
class Supply:
    """So many of a resource that the operator says there are."""

    name: str
    count: int
    device: int | None = None
    """None where every device has so many; a global resource is on no device, whatever this says."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What each execution of an instance holds, and how often it may run beside others."""

    needs: Mapping[Resource, int]
    priority: int = 1


@dataclass(slots=True, eq=False)
class Member:
    """An instance that takes part."""

    owner: Hashable
    """Whom to wake when it may be its turn."""
    claim: Claim
    passed: int
    """Its executions, each counted as often as its priority says."""
    staged: int | None = None
    """Its place among those who wait; None while it does not."""
    running: bool = False


@dataclass(slots=True)
class Sharing:
    """All resources of a server, and all instances that need some."""

    supplies: Sequence[Supply] = ()
    """What the operator says; where that is nothing at all, what is needed at most decides."""
    _members: list[Member] = field(default_factory=list)
    _limits: dict[Resource, int] = field(default_factory=dict)
    _held: dict[Resource, int] = field(default_factory=dict)
    _now: int = 0
    """The pass of whoever began to run last."""
    _places: int = 0

    def join(self, owner: Hashable, claim: Claim) -> Member:
        """Let an instance take part; raises InferError for one that could never run."""
        member = Member(owner, claim, self._now)
        claims = [*(each.claim for each in self._members), claim]
        _refuse_double_meanings(claims)
        limits = self._limits_of(claims)
        self._members.append(member)
        self._limits = limits
        return member

    def leave(self, member: Member) -> None:
        """Let an instance go, with all it holds."""
        self.finish(member)
        self.stand_by(member)
        self._members.remove(member)
        self._limits = self._limits_of([each.claim for each in self._members])

    def begin(self, member: Member) -> bool:
        """Give an instance what it needs for one execution, or stage it and return False."""
        assert not member.running, "an instance runs one batch at a time"
        if member.staged is None:
            member.passed = max(member.passed, self._now)
        if not self._fits(member.claim) or self._is_passing_by(member):
            self._stage(member)
            return False
        member.staged = None
        member.running = True
        self._now = max(self._now, member.passed)
        for resource, count in member.claim.needs.items():
            self._held[resource] = self._held.get(resource, 0) + count
        return True

    def finish(self, member: Member) -> None:
        """Take back what an instance holds, if it does; it has had its turn."""
        if member.running:
            self._take_back(member)
            member.passed += member.claim.priority

    def decline(self, member: Member) -> None:
        """Take back what an instance holds and has no use for; it had no turn."""
        self._take_back(member)

    def stand_by(self, member: Member) -> None:
        """Let an instance wait for nothing."""
        member.staged = None

    def next_owner(self) -> Hashable | None:
        """Return whom to wake: the owner of the first among the staged who may run."""
        for member in sorted(self._staged(), key=_turn):
            if self._fits(member.claim) and not self._is_passing_by(member):
                return member.owner
        return None

    def in_turn(self, members: Iterable[Member]) -> list[Member]:
        """Return some instances in the order in which they would run."""
        return sorted(members, key=_turn)

    def check(self) -> None:
        """Raise AssertionError where the books contradict each other; for tests, after each step."""
        held: dict[Resource, int] = {}
        for member in self._members:
            assert not (member.running and member.staged is not None), "an instance runs and waits"
            for resource, count in member.claim.needs.items() if member.running else ():
                held[resource] = held.get(resource, 0) + count
        assert held == {each: count for each, count in self._held.items() if count}, "held by nobody"

    def _staged(self) -> Iterator[Member]:
        return (each for each in self._members if each.staged is not None)

    def _fits(self, claim: Claim) -> bool:
        return all(
            self._held.get(resource, 0) + count <= self._limits[resource]
            for resource, count in claim.needs.items()
        )

    def _is_passing_by(self, member: Member) -> bool:
        """Whether somebody waits who comes before, and needs some of the same."""
        own = member.claim.needs.keys()
        return any(
            each is not member and _turn(each) <= _turn(member) and not own.isdisjoint(each.claim.needs)
            for each in self._staged()
        )

    def _stage(self, member: Member) -> None:
        if member.staged is None:
            self._places += 1
            member.staged = self._places

    def _take_back(self, member: Member) -> None:
        member.running = False
        for resource, count in member.claim.needs.items():
            self._held[resource] -= count

    def _limits_of(self, claims: Sequence[Claim]) -> dict[Resource, int]:
        """Return how many there are of each resource that is needed; raises InferError if that is too few."""
        most: dict[Resource, int] = {}
        for claim in claims:
            for resource, count in claim.needs.items():
                most[resource] = max(most.get(resource, 0), count)
        if not self.supplies:
            return most
        limits = {resource: self._supply_of(*resource) for resource in most}
        for resource, needed in most.items():
            if limits[resource] < needed:
                raise invalid(
                    f'Resource count for "{resource[0]}" is limited to {limits[resource]} which will prevent '
                    "scheduling of one or more model instances, the minimum required count is "
                    f"{needed}"
                )
        return limits

    def _supply_of(self, name: str, device: int | None) -> int:
        there = [
            supply.count
            for supply in self.supplies
            if supply.name == name and (device is GLOBAL or supply.device in (None, device))
        ]
        return max(there, default=0)


def _turn(member: Member) -> tuple[int, int, float]:
    """Return what the order of turns goes by; of two that are alike the one that waits longer is first."""
    priority = member.claim.priority
    return member.passed + priority, priority, float("inf") if member.staged is None else member.staged


def _refuse_double_meanings(claims: Iterable[Claim]) -> None:
    """Raise InferError where a resource is global to one instance and on a device to another."""
    kinds: dict[str, bool] = {}
    for claim in claims:
        for name, device in claim.needs:
            if kinds.setdefault(name, device is GLOBAL) != (device is GLOBAL):
                raise invalid(
                    f'Resource "{name}" is present as both global and device-specific resource in the model '
                    "configuration."
                )
