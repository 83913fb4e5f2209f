"""What the repository knows of each model: its versions, what it was loaded from, and how the index tells it.

A record outlives what it tells of: a version that was unloaded or could not load stays in it with its reason.
The life of a version is the table `VERSION` in `proto/phases.py`.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from ..proto.config import ConfigError
from ..proto.errors import InferError
from ..proto.model_id import ModelId
from ..proto.phases import VERSION, VersionEvent, VersionPhase, advance
from .servable import Servable
from .sources import Source
from .split import Split

UNLOADED: Final = "unloaded"
"""The reason of a version that was unloaded on purpose; it does not keep the server from being ready."""

LAST_LOAD_FAILED: Final = "the last load failed: "
"""What the reason begins with of a version that goes on serving because its successor cannot."""

ROLLED_BACK: Final = "canary was rolled back: "
"""What the reason begins with of a version that was tried and had to go; another serves in its place."""

AMBIGUOUS: Final = "model appears in two or more repositories"


@dataclass(slots=True)
class VersionRecord:
    """What is known of one version."""

    phase: VersionPhase = VersionPhase.UNKNOWN
    reason: str = ""
    servable: Servable | None = None

    def step(self, event: VersionEvent, reason: str = "") -> None:
        """Let something happen to the version."""
        self.phase = advance(VERSION, self.phase, event)
        self.reason = reason


@dataclass(slots=True)
class ModelRecord:
    """What is known of one model."""

    versions: dict[int, VersionRecord] = field(default_factory=dict)
    failure: str = ""
    """Why not even its versions could be told, titled with the class of the error."""
    serving: dict[int, Servable] = field(default_factory=dict)
    """The READY versions, ascending."""
    split: Split | None = None
    """The latest version and the one that is tried beside it."""
    latest: Servable | None = None
    """Who serves requests for no version in particular."""
    wanted: Source | None = None
    """What it was last told to serve, whether that worked or not; None once it was told to unload."""
    loaded: Source | None = None
    """What the READY versions were loaded from."""
    loaded_at: int = 0
    """When it was loaded, as the number of that load."""
    asked_for: bool = False
    """Whether somebody asked for this very model, rather than for an ensemble that it is a part of."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever changes the model."""
    visitors: int = 0
    """Who holds the lock or waits for it."""

    @property
    def source(self) -> Source | None:
        """What the model is as far as others depend on it: what serves, else what was wanted to."""
        return self.loaded if self.serving else self.wanted

    @property
    def steps(self) -> Mapping[str, ModelId]:
        """The models that it is made of, by the names it calls them."""
        return self.source.steps if self.source is not None else {}

    @property
    def step_names(self) -> tuple[str, ...]:
        """What it calls the models it is made of."""
        return self.source.step_names if self.source is not None else ()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody wants it to serve."""
        return self.source is not None

    @property
    def blank(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.versions or self.failure or self.visitors)

    @property
    def settled(self) -> bool:
        """Whether every version, if there is any, serves or was unloaded on purpose, as Triton sees it."""
        return all(
            entry.phase is VersionPhase.READY
            or (entry.phase is VersionPhase.UNAVAILABLE and _is_on_purpose(entry.reason))
            for entry in self.versions.values()
        )

    def forgive(self) -> None:
        """Take what failed for unloaded on purpose, since nobody can want it any more."""
        self.failure = ""
        for entry in self.versions.values():
            if entry.phase is VersionPhase.UNAVAILABLE:
                entry.reason = UNLOADED

    def refresh(self) -> None:
        """Recompute what is serving after a change."""
        self.serving = {
            version: record.servable
            for version, record in sorted(self.versions.items())
            if record.phase is VersionPhase.READY and record.servable is not None
        }
        split = self.split
        if split is not None and split.version == split.new.version and split.version in self.serving:
            self.serving[split.version] = split
        self.latest = split or next(reversed(self.serving.values()), None)


def _is_on_purpose(reason: str) -> bool:
    """Whether a version is not there because it was unloaded, or lost against another."""
    return reason == UNLOADED or reason.startswith(ROLLED_BACK)


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line of the repository index; the members are those of the wire."""

    name: str
    version: int | None = None
    state: str = ""
    reason: str = ""


def index_entries(name: str, record: ModelRecord | None, *, ambiguous: bool) -> Iterator[IndexEntry]:
    """Yield what the index says of a model that stands in the repositories."""
    if ambiguous:
        yield IndexEntry(name, state=VersionPhase.UNAVAILABLE.value, reason=AMBIGUOUS)
    elif record is None:
        yield IndexEntry(name)
    elif record.failure and not record.serving:
        yield IndexEntry(name, state=VersionPhase.UNAVAILABLE.value, reason=record.failure)
    else:
        for version, entry in sorted(record.versions.items()):
            reason = entry.reason
            if record.failure and entry.phase is VersionPhase.READY:
                reason = LAST_LOAD_FAILED + record.failure
            yield IndexEntry(name, version, entry.phase.value, reason)


def on_one_line(reason: str) -> str:
    """Return a reason as a log tells it, where one event is one line."""
    return " | ".join(line.strip() for line in reason.splitlines() if line.strip())


def titled(error: BaseException) -> str:
    """Return an error as the index prints it; one of a configuration with all complaints and their places."""
    if isinstance(error, ConfigError):
        return f"{error.fault.value}: {error.report}"
    return error.titled if isinstance(error, InferError) else f"Internal: {type(error).__name__}: {error}"
