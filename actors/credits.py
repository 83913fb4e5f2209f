"""The credits of a model's instances: each lets one instance take one more batch, the longest idle first.

How many an instance may have can change while its batches run. What it has too many of then is taken back
from those that are idle, and of the others as their batches finish.
"""

from collections import deque

from .schedule import InstanceId


class Credits:
    """Who is idle, and who may have how many batches at a time."""

    __slots__ = ("_allowed", "_surplus", "idle")

    def __init__(self) -> None:
        self.idle: deque[InstanceId] = deque()
        """The credits that can be spent."""
        self._allowed: dict[InstanceId, int] = {}
        """How many batches each instance may have at a time."""
        self._surplus: dict[InstanceId, int] = {}
        """How many batches run that leave no credit behind, because their instance may have fewer now."""

    def __contains__(self, instance: InstanceId) -> bool:
        return instance in self._allowed

    def allow(self, instance: InstanceId, credits_: int) -> None:
        """Hand out the credits that an instance has more, or take back those it has less."""
        more = credits_ - self._allowed.get(instance, 0) - self._surplus.pop(instance, 0)
        self._allowed[instance] = credits_
        self.idle.extend([instance] * more)
        for _ in range(-more):
            if instance in self.idle:
                self.idle.remove(instance)
            else:
                self._surplus[instance] = self._surplus.get(instance, 0) + 1

    def spend(self, instance: InstanceId) -> None:
        """Take one credit of an idle instance."""
        self.idle.remove(instance)

    def finished(self, instance: InstanceId) -> None:
        """Hear that an instance has done a batch; its credit comes back, unless it has one too many."""
        if self._surplus and self._is_surplus(instance):
            return
        self.idle.append(instance)

    def lost(self, instance: InstanceId) -> None:
        """Forget an instance."""
        self.idle = deque(credit for credit in self.idle if credit != instance)
        self._allowed.pop(instance, None)
        self._surplus.pop(instance, None)

    def _is_surplus(self, instance: InstanceId) -> bool:
        surplus = self._surplus.pop(instance, 0)
        if surplus > 1:
            self._surplus[instance] = surplus - 1
        return surplus > 0
