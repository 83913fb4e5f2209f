"""The life cycles of the house, as tables: (state, event) → state.

What is not in a table cannot happen; code that tries raises with its story. The diagrams in
`docs/lifecycles.md` are drawn from these tables, and a test compares the two.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final, TypeVar


class InstancePhase(Enum):
    """Where one instance of a model stands."""

    STARTING = "starting"
    READY = "ready"
    BROKEN = "broken"
    AWAY = "away"
    CLOSED = "closed"


class InstanceEvent(Enum):
    """What can happen to an instance."""

    SEATED = "seated"
    FAILED = "failed"
    BROKE = "broke"
    RESTARTED = "restarted"
    GAVE_UP = "gave up"
    CLOSED = "closed"


class VersionPhase(Enum):
    """Where one version of a model stands; the values are the states of Triton's repository index."""

    UNKNOWN = "UNKNOWN"
    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


class VersionEvent(Enum):
    """What can happen to a version of a model."""

    LOAD = "load"
    LOADED = "loaded"
    LOAD_FAILED = "load failed"
    RELOADED = "reloaded"
    UNLOAD = "unload"
    DRAINED = "drained"
    DIED = "every instance away"


INSTANCE: Final = {
    (InstancePhase.STARTING, InstanceEvent.SEATED): InstancePhase.READY,
    (InstancePhase.STARTING, InstanceEvent.FAILED): InstancePhase.BROKEN,
    (InstancePhase.STARTING, InstanceEvent.CLOSED): InstancePhase.CLOSED,
    (InstancePhase.READY, InstanceEvent.BROKE): InstancePhase.BROKEN,
    (InstancePhase.READY, InstanceEvent.CLOSED): InstancePhase.CLOSED,
    (InstancePhase.BROKEN, InstanceEvent.RESTARTED): InstancePhase.STARTING,
    (InstancePhase.BROKEN, InstanceEvent.GAVE_UP): InstancePhase.AWAY,
    (InstancePhase.BROKEN, InstanceEvent.CLOSED): InstancePhase.CLOSED,
    (InstancePhase.AWAY, InstanceEvent.CLOSED): InstancePhase.CLOSED,
}
"""The life of an instance."""

VERSION: Final = {
    (VersionPhase.UNKNOWN, VersionEvent.LOAD): VersionPhase.LOADING,
    (VersionPhase.LOADING, VersionEvent.LOADED): VersionPhase.READY,
    (VersionPhase.LOADING, VersionEvent.LOAD_FAILED): VersionPhase.UNAVAILABLE,
    (VersionPhase.READY, VersionEvent.RELOADED): VersionPhase.READY,
    (VersionPhase.READY, VersionEvent.UNLOAD): VersionPhase.UNLOADING,
    (VersionPhase.READY, VersionEvent.DIED): VersionPhase.UNAVAILABLE,
    (VersionPhase.UNLOADING, VersionEvent.DRAINED): VersionPhase.UNAVAILABLE,
    (VersionPhase.UNLOADING, VersionEvent.LOAD): VersionPhase.LOADING,
    (VersionPhase.UNAVAILABLE, VersionEvent.LOAD): VersionPhase.LOADING,
}
"""The life of a version of a model."""


class ImpossibleTransitionError(AssertionError):
    """The house tried a step that its own table does not know."""


State = TypeVar("State", bound=Enum)
Event = TypeVar("Event", bound=Enum)


def advance(table: Mapping[tuple[State, Event], State], state: State, event: Event) -> State:
    """Return the state that follows; raises ImpossibleTransitionError where the table knows none."""
    try:
        return table[state, event]
    except KeyError:
        raise ImpossibleTransitionError(f"{event.value!r} cannot happen in state {state.value!r}") from None


def diagram(table: Mapping[tuple[State, Event], State]) -> str:
    """Return a life cycle as a Mermaid state diagram."""
    lines = [
        f"    {state.name} --> {following.name}: {event.value}" for (state, event), following in table.items()
    ]
    return "\n".join(["stateDiagram-v2", *lines])
