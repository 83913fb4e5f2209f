"""Who stays in memory: the least recently used go first, and nobody goes who is at work.

It keeps the books only: who is in, how much each takes, and who was used when. A newcomer is let in when it
fits beside those who stay. Where too many are at work, nobody can be told to go yet, and the newcomer waits.
One that is larger than all the room there is gets in when nobody else is left who could go: an error would
help nobody.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class OnDemand:
    """What the operator decided about models that are loaded when they are asked for."""

    budget: int = 0
    """Bytes that all such models may take; 0 is any number."""
    kept: frozenset[str] = frozenset()
    """Names of models that are loaded at once, stay, and have no part in the budget."""


class Residency(Generic[K]):
    """The books of a budget of bytes; a budget of 0 has room for all."""

    __slots__ = ("_inside", "_known", "budget")

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._inside: OrderedDict[K, int] = OrderedDict()
        """Who is in, the least recently used first, and the bytes of each."""
        self._known: dict[K, int] = {}
        """What each took when it was in last."""

    def __contains__(self, who: K) -> bool:
        return who in self._inside

    def __len__(self) -> int:
        return len(self._inside)

    @property
    def used(self) -> int:
        """Bytes that all take who are in."""
        return sum(self._inside.values())

    def touch(self, who: K) -> None:
        """Note that somebody who is in was used."""
        self._inside.move_to_end(who)

    def enter(self, who: K, size: int) -> None:
        """Note that somebody came in, and how much it turned out to take."""
        self._inside[who] = self._known[who] = size
        self._inside.move_to_end(who)

    def leave(self, who: K) -> None:
        """Note that somebody is not in any more."""
        self._inside.pop(who, None)

    def forget(self, who: K) -> None:
        """Let go of all that is known of somebody who will not come back."""
        self.leave(who)
        self._known.pop(who, None)

    @property
    def usual_size(self) -> int:
        """What somebody takes on average, as far as is known: the guess at whoever was never in."""
        return sum(self._known.values()) // len(self._known) if self._known else 0

    def size_of(self, who: K, guess: int) -> int:
        """Return what somebody takes, as far as is known."""
        return self._known.get(who, guess)

    def who_must_go(self, size: int, may_go: Callable[[K], bool]) -> list[K] | None:
        """Return who must go so that so many bytes fit; None where too many are at work for that."""
        if not self.budget:
            return []
        missing = self.used + size - self.budget
        going: list[K] = []
        for who in self._inside:
            if missing <= 0:
                break
            if may_go(who):
                going.append(who)
                missing -= self._inside[who]
        return going if missing <= 0 or len(going) == len(self._inside) else None

    def check(self) -> None:
        """Raise AssertionError where the books contradict themselves; for tests, after each step."""
        assert all(self._known[who] == size for who, size in self._inside.items()), "a size is not known"
