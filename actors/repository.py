"""The repository: which models are loaded, and the only one who changes that.

For every model it keeps a record of its versions: the phase of each (the table `VERSION` in
`proto/phases.py`), the reason for it, and the servable behind it while there is one. Doors read; `load` and
`unload` write. A reload builds the new versions beside the old ones and swaps them in when all are ready;
when one cannot load, the old ones stay.

The repository is also the parent of everything that serves: each version's tasks live in its task group, and
its end waits for theirs.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import structlog

from ..backends.catalog import Catalog
from ..backends.model_directory import Listing, ModelDirectory, list_repositories
from ..proto.config import ConfigError, Draft
from ..proto.config.model_config import version_policy
from ..proto.errors import Fault, InferError, internal, invalid
from ..proto.message import LATEST
from ..proto.phases import VERSION, VersionEvent, VersionPhase, advance
from .loading import Loader, LoadOptions
from .servable import Servable

log: Final = structlog.get_logger("deuteron.repository")

UNLOADED: Final = "unloaded"
"""The reason of a version that was unloaded on purpose; it does not keep the server from being ready."""


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
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def refresh(self) -> None:
        """Recompute what is serving after a change."""
        self.serving = {
            version: record.servable
            for version, record in sorted(self.versions.items())
            if record.phase is VersionPhase.READY and record.servable is not None
        }


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line of the repository index; the members are those of the wire."""

    name: str
    version: int | None = None
    state: str = ""
    reason: str = ""


class Repository:
    """All models: those on disk, those that are loaded, and what became of the others."""

    def __init__(
        self,
        paths: Sequence[Path],
        catalog: Catalog,
        options: LoadOptions,
        *,
        strict_readiness: bool = True,
        load_threads: int = 4,
    ) -> None:
        self._paths = tuple(paths)
        self._loader = Loader(catalog, options, self.find)
        self._strict_readiness = strict_readiness
        self._loading = asyncio.Semaphore(max(1, load_threads))
        self._records: dict[str, ModelRecord] = {}
        self._listing = Listing({}, frozenset())
        self._in_flight: dict[str, asyncio.Future[None]] = {}
        self._scope = asyncio.TaskGroup()
        self._serving: set[asyncio.Task[None]] = set()
        self.live = False
        self.stopping = False

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Drain every model and wait for all of them."""
        await self.close()
        await self._scope.__aexit__(None, None, None)

    # --- what doors read
    # ---------------------------------------------------------------------------------------

    def find(self, name: str, version: int = LATEST) -> Servable:
        """Return a version that serves; raises InferError in Triton's words where there is none."""
        record = self._records.get(name)
        if record is None or not record.versions:
            raise InferError(Fault.NOT_FOUND, f"Request for unknown model: '{name}' is not found")
        if version == LATEST:
            if not record.serving:
                raise InferError(
                    Fault.NOT_FOUND, f"Request for unknown model: '{name}' has no available versions"
                )
            return record.serving[next(reversed(record.serving))]
        servable = record.serving.get(version)
        if servable is not None:
            return servable
        if version not in record.versions:
            raise InferError(
                Fault.NOT_FOUND, f"Request for unknown model: '{name}' version {version} is not found"
            )
        raise InferError(
            Fault.UNAVAILABLE, f"Request for unknown model: '{name}' version {version} is not at ready state"
        )

    def versions(self, name: str) -> tuple[int, ...]:
        """Return the READY versions of a model, ascending."""
        record = self._records.get(name)
        return tuple(record.serving) if record is not None else ()

    def served(self) -> Iterator[Servable]:
        """Return every READY version, by name and version."""
        for name in sorted(self._records):
            yield from self._records[name].serving.values()

    def index(self, *, ready_only: bool = False) -> list[IndexEntry]:
        """Return what stands in the repositories and what became of it, by name and version."""
        self._listing = list_repositories(self._paths)
        entries = [entry for name in sorted(self._listing.found) for entry in self._entries(name)]
        return (
            [entry for entry in entries if entry.state == VersionPhase.READY.value] if ready_only else entries
        )

    @property
    def ready(self) -> bool:
        """Whether the server is ready for requests; strictly, whether every model is."""
        if not self.live or self.stopping:
            return False
        return not self._strict_readiness or all(map(_is_settled, self._records.values()))

    # --- what changes it
    # ---------------------------------------------------------------------------------------

    async def load_at_start(self, names: Iterable[str] | None) -> list[str]:
        """Load the models named, or all there are; return the names of those that failed."""
        self._listing = list_repositories(self._paths)
        for name in self._listing.ambiguous:
            self._records[name] = ModelRecord(failure="model appears in two or more repositories")
        wanted = sorted(self._listing.found) if names is None else list(names)
        outcomes = await asyncio.gather(*map(self._ensure, wanted), return_exceptions=True)
        self.live = True
        failed = [name for name, outcome in zip(wanted, outcomes, strict=True) if outcome is not None]
        for outcome in outcomes:
            if outcome is not None and not isinstance(outcome, InferError):
                raise outcome
        return failed

    async def load(self, name: str) -> None:
        """Load a model, or load it anew; raises InferError with the reason where it cannot be loaded."""
        self._listing = list_repositories(self._paths)
        await self._load(name)

    async def unload(self, name: str) -> None:
        """Begin to unload all versions of a model; one that is not loaded is unloaded already."""
        record = self._records.get(name)
        if record is None:
            return
        async with record.lock:
            for version in list(record.serving):
                self._retire(record, version)

    async def close(self) -> None:
        """Refuse what comes from now on, drain every model, and wait until all have ended."""
        self.stopping = True
        for servable in list(self.served()):
            servable.drain()
        await asyncio.gather(*self._serving)

    # --- how
    # ---------------------------------------------------------------------------------------------------

    async def _ensure(self, name: str) -> None:
        """Have a model loaded unless it is, or is about to be."""
        if self.versions(name):
            return
        load = self._in_flight.get(name)
        if load is None:
            load = self._in_flight[name] = asyncio.ensure_future(self._load(name))
            load.add_done_callback(lambda _: self._in_flight.pop(name))
        await load

    async def _load(self, name: str) -> None:
        """Load a model, after the models it is made of."""
        directory = self._listing.found.get(name)
        if directory is None or name in self._listing.ambiguous:
            raise internal(f"failed to load '{name}', failed to poll from model repository")
        record = self._records.setdefault(name, ModelRecord())
        try:
            draft = await asyncio.to_thread(self._loader.read, directory)
            circle = await asyncio.to_thread(self._circle, (name,), draft)
        except InferError as error:
            self._note_failure(name, record, error)
            raise internal(f"failed to load '{name}', failed to poll from model repository") from error
        if circle:
            raise self._refused(
                name, invalid(f"circular dependency between ensembles: {' -> '.join(circle)}")
            )
        async with record.lock:
            record.failure = ""
            await self._load_steps(name, draft)
            await self._load_versions(directory, draft, record)

    def _circle(self, path: tuple[str, ...], draft: Draft) -> tuple[str, ...]:
        """Return how an ensemble leads back to itself, or nothing; blocks, since it reads configurations."""
        for step in draft.message.ensemble_scheduling.step:
            following = (*path, step.model_name)
            if step.model_name in path:
                return following
            directory = self._listing.found.get(step.model_name)
            if directory is not None:
                circle = self._circle(following, self._loader.read(directory))
                if circle:
                    return circle
        return ()

    async def _load_steps(self, name: str, draft: Draft) -> None:
        """Load the models of an ensemble that are not loaded yet."""
        steps = dict.fromkeys(step.model_name for step in draft.message.ensemble_scheduling.step)
        missing = [step for step in steps if step not in self._listing.found]
        if missing:
            text = (
                f"ensemble {name} contains models that are not available or ambiguous: {', '.join(missing)}"
            )
            raise self._refused(name, invalid(text))
        for step in steps:
            try:
                await self._ensure(step)
            except InferError as error:
                raise self._refused(name, invalid(_dependency_failed(name, step, error))) from error

    async def _load_versions(self, directory: ModelDirectory, draft: Draft, record: ModelRecord) -> None:
        """Load every version that the policy selects; all of them serve then, or none of the new ones."""
        name = directory.name
        selected = version_policy(draft.message.version_policy).select(directory.versions())
        if not selected:
            text = f"at least one version must be available under the version policy of model '{name}'"
            raise self._refused(name, invalid(text))
        for version in selected:
            entry = record.versions.setdefault(version, VersionRecord())
            if entry.phase is not VersionPhase.READY:
                entry.step(VersionEvent.LOAD)
        loads = await asyncio.gather(
            *(self._build(directory, draft, version) for version in selected), return_exceptions=True
        )
        outcomes = dict(zip(selected, loads, strict=True))
        failures = {
            version: outcome for version, outcome in outcomes.items() if isinstance(outcome, BaseException)
        }
        if failures:
            await self._give_up(name, record, outcomes)
            raise _load_error(name, failures)
        for version, servable in outcomes.items():
            assert not isinstance(servable, BaseException)
            self._put_in_service(record, version, servable)
        for version in set(record.serving) - set(selected):
            self._retire(record, version)

    async def _build(self, directory: ModelDirectory, draft: Draft, version: int) -> Servable:
        async with self._loading:
            return await self._loader.load(directory, draft, version)

    def _put_in_service(self, record: ModelRecord, version: int, servable: Servable) -> None:
        entry = record.versions[version]
        previous = entry.servable
        entry.step(VersionEvent.RELOADED if entry.phase is VersionPhase.READY else VersionEvent.LOADED)
        entry.servable = servable
        self._keep(self._serve(record, version, servable))
        record.refresh()
        if previous is not None:
            previous.drain()
        log.info("model is ready", model=servable.name, version=version)

    async def _serve(self, record: ModelRecord, version: int, servable: Servable) -> None:
        """Let a version serve until it ends; whatever ends it, the others go on."""
        story = UNLOADED
        try:
            await servable.serve()
        except* InferError as group:
            story = "; ".join(error.titled for error in group.exceptions if isinstance(error, InferError))
        except* Exception as group:
            log.exception(
                "model version ended by an error of the server", model=servable.name, version=version
            )
            story = f"Internal: {group.exceptions[0]!r}"
        entry = record.versions[version]
        if entry.servable is not servable:
            return  # a newer one took its place
        entry.servable = None
        if entry.phase is VersionPhase.UNLOADING:
            entry.step(VersionEvent.DRAINED, story)
        elif not self.stopping:
            entry.step(VersionEvent.DIED, story)
        record.refresh()

    def _retire(self, record: ModelRecord, version: int) -> None:
        entry = record.versions[version]
        entry.step(VersionEvent.UNLOAD)
        record.refresh()
        if entry.servable is not None:
            entry.servable.drain()

    def _keep(self, service: Coroutine[None, None, None]) -> None:
        """Let a version serve in the scope of the repository."""
        task = self._scope.create_task(service)
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _give_up(
        self, name: str, record: ModelRecord, outcomes: dict[int, "Servable | BaseException"]
    ) -> None:
        """Note why versions could not load, and let go of their siblings that could."""
        for version, outcome in outcomes.items():
            entry = record.versions[version]
            if isinstance(outcome, BaseException):
                reason = _titled(outcome)
                log.error("model failed to load", model=name, version=version, reason=reason)
            else:
                reason = "Unavailable: another version of this model failed to load"
                outcome.drain()
                self._keep(outcome.serve())
            if entry.phase is VersionPhase.LOADING:
                entry.step(VersionEvent.LOAD_FAILED, reason)
        record.refresh()

    def _refused(self, name: str, error: InferError) -> InferError:
        """Note why a model cannot load at all and return the error for whoever asked."""
        self._note_failure(name, self._records[name], error)
        return invalid(f"load failed for model '{name}': {error.message}\n")

    def _note_failure(self, name: str, record: ModelRecord, error: InferError) -> None:
        report = error.report if isinstance(error, ConfigError) else error.message
        record.failure = f"{error.fault.value}: {report}"
        log.error("model cannot be loaded", model=name, reason=report)

    def _entries(self, name: str) -> Iterator[IndexEntry]:
        record = self._records.get(name)
        if name in self._listing.ambiguous:
            yield IndexEntry(
                name, state=VersionPhase.UNAVAILABLE.value, reason="model appears in two or more repositories"
            )
        elif record is None:
            yield IndexEntry(name)
        elif record.failure and not record.serving:
            yield IndexEntry(name, state=VersionPhase.UNAVAILABLE.value, reason=record.failure)
        else:
            for version, entry in sorted(record.versions.items()):
                yield IndexEntry(name, version, entry.phase.value, entry.reason)


def _is_settled(record: ModelRecord) -> bool:
    return bool(record.versions) and all(
        entry.phase is VersionPhase.READY
        or (entry.phase is VersionPhase.UNAVAILABLE and entry.reason == UNLOADED)
        for entry in record.versions.values()
    )


def _titled(error: BaseException) -> str:
    if isinstance(error, ConfigError):
        return f"{error.fault.value}: {error.report}"
    return error.titled if isinstance(error, InferError) else f"Internal: {type(error).__name__}: {error}"


def _dependency_failed(ensemble: str, step: str, error: InferError) -> str:
    return (
        f"ensemble '{ensemble}' depends on '{step}' which has no loaded version. "
        f"Model '{step}' loading failed with error: {error.message}"
    )


def _load_error(name: str, failures: dict[int, BaseException]) -> InferError:
    reasons = "".join(
        f"version {version} is at UNAVAILABLE state: {_titled(error)};\n"
        for version, error in failures.items()
    )
    return invalid(f"load failed for model '{name}': {reasons}")
