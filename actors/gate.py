"""The gate before the instances of one model where resources are shared: which of its idle ones may run now.

The router of the model asks it in each turn, and is woken when it may be one's turn that was not before. All
gates of a server stand before the same resources (see `sharing`).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ..proto.config import ModelConfig, RateLimit
from .schedule import InstanceId
from .sharing import GLOBAL, Claim, Member, Sharing

HOST: Final = 0
"""The number that the host goes by among devices."""


class Gate:
    """The part that one model version has in the resources of a server."""

    __slots__ = ("_members", "_sharing", "wake")

    def __init__(self, sharing: Sharing) -> None:
        self._sharing = sharing
        self._members: dict[InstanceId, Member] = {}
        self.wake: Callable[[], None] = _nobody
        """What to do when it may be the turn of an instance; said by the router."""

    def join(self, instance: InstanceId, claim: Claim) -> None:
        """Let an instance take part; raises InferError for one that could never run."""
        self._members[instance] = self._sharing.join(self, claim)

    def leave(self, instance: InstanceId) -> None:
        """Let an instance go, with all it holds."""
        self._sharing.leave(self._members.pop(instance))
        self.settle()

    def close(self) -> None:
        """Let all go."""
        for instance in tuple(self._members):
            self.leave(instance)

    def admitted(self, idle: Iterable[InstanceId]) -> Iterator[InstanceId]:
        """Yield the idle instances that may run, in turn; whoever takes one runs it or declines.

        Those that may not are staged.
        """
        members = {id(self._members[instance]): instance for instance in idle}
        for member in self._sharing.in_turn(self._members[instance] for instance in members.values()):
            if self._sharing.begin(member):
                yield members[id(member)]

    def decline(self, instance: InstanceId) -> None:
        """Give back what an instance got and has no use for."""
        self._sharing.decline(self._members[instance])

    def finished(self, instance: InstanceId) -> None:
        """Hear that an instance has done its batch, or broke."""
        member = self._members.get(instance)
        if member is not None:
            self._sharing.finish(member)
            self._sharing.stand_by(member)

    def stand_by(self) -> None:
        """Wait for nothing: there is no work."""
        for member in self._members.values():
            self._sharing.stand_by(member)

    def settle(self) -> None:
        """Wake whoever may run now; at the end of each turn."""
        owner = self._sharing.next_owner()
        if isinstance(owner, Gate):
            owner.wake()


def is_limited(config: ModelConfig) -> bool:
    """Whether a model says that its executions need resources."""
    return any(group.rate_limit.resources for group in config.instance_groups)


def gate_of(config: ModelConfig, sharing: Sharing | None) -> Gate | None:
    """Return the gate before the instances of a model; None where nothing limits them."""
    return Gate(sharing) if sharing is not None and is_limited(config) else None


def claim_of(limit: RateLimit, device: int = HOST) -> Claim:
    """Return what an instance on a device claims by the words of its group."""
    needs = {(name, GLOBAL if is_global else device): number for name, is_global, number in limit.resources}
    return Claim(needs, limit.priority)


def _nobody() -> None:
    """Wake nobody: there is no router yet, and so no work."""
