"""The repository: which models are loaded, and the only one who changes that.

For every model it keeps a record of its versions (see `records`). Doors read; `load`, `unload` and `follow`
write, each model by one at a time. A load builds only what is not served already as it would be built. New
versions are built beside the old ones and swapped in when all are ready; when one cannot load, the old ones
stay.

An ensemble stands and falls with its models. One that loads takes them along, one whose model is unloaded
leaves with it, and when a model comes back or is loaded anew, the ensembles over it are loaded anew as well.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Final, Self

import structlog

from ..backends.catalog import Catalog
from ..backends.model_directory import Listing, list_repositories
from ..backends.private_directory import NO_OVERRIDE, Override
from ..proto.errors import Fault, InferError, internal, invalid
from ..proto.message import LATEST
from ..proto.phases import VersionPhase
from .building import Builder
from .dependents import ensembles_over, find_circle
from .loading import Loader, LoadOptions
from .records import (
    AMBIGUOUS,
    IndexEntry,
    ModelRecord,
    index_entries,
    titled,
)
from .servable import Servable
from .serving import Serving
from .sources import Source, read_source, steps_of
from .undertakings import Undertakings

log: Final = structlog.get_logger("deuteron.repository")


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
        self.paths = tuple(paths)
        self._loader = Loader(catalog, options, self.find)
        self._serving = Serving()
        self._builder = Builder(self._loader, self._serving, load_threads, options.timeout_s)
        self._strict_readiness = strict_readiness
        self._records: dict[str, ModelRecord] = {}
        self._listing = Listing({}, frozenset())
        self._in_flight: dict[str, asyncio.Future[None]] = {}
        self._undertakings = Undertakings()
        self._clock = count(1)
        self._loaded_lately: set[str] = set()
        self.live = False

    async def __aenter__(self) -> Self:
        await self._serving.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Drain every model and wait for all of them."""
        await self.close()
        await self._serving.__aexit__()

    # --- what doors read ---

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
        self._listing = list_repositories(self.paths)
        entries = [
            entry
            for name in sorted(self._listing.found)
            for entry in index_entries(
                name, self._records.get(name), ambiguous=name in self._listing.ambiguous
            )
        ]
        return [each for each in entries if not ready_only or each.state == VersionPhase.READY.value]

    @property
    def ready(self) -> bool:
        """Whether the server is ready for requests; strictly, whether every model is."""
        settled = not self._strict_readiness or all(each.settled for each in self._records.values())
        return self.live and not self.stopping and settled

    @property
    def stopping(self) -> bool:
        """Whether the server is about to stop."""
        return self._serving.stopping

    @stopping.setter
    def stopping(self, stopping: bool) -> None:
        self._serving.stopping = stopping

    # --- what changes it ---

    async def load_at_start(self, names: Iterable[str] | None) -> list[str]:
        """Load the models named, or all there are; return the names of those that failed."""
        self._listing = list_repositories(self.paths)
        for name in self._listing.ambiguous:
            self._records[name] = ModelRecord(failure=AMBIGUOUS)
        wanted = sorted(self._listing.found) if names is None else list(names)
        outcomes = await asyncio.gather(*map(self._ensure, wanted), return_exceptions=True)
        self.live = True
        failed = [name for name, outcome in zip(wanted, outcomes, strict=True) if outcome is not None]
        for outcome in outcomes:
            if outcome is not None and not isinstance(outcome, InferError):
                raise outcome
        for name in wanted:
            self._note_asked_for(name)
        await self._renew_ensembles()
        return failed

    async def load(self, name: str, override: Override = NO_OVERRIDE) -> None:
        """Load a model, or load anew what has changed of it; raises InferError where it cannot be loaded."""
        await self._undertakings.see_through(self._load_asked(name, override))

    async def unload(self, name: str, *, dependents: bool = False) -> None:
        """Begin to unload all versions of a model; one that is not loaded is unloaded already.

        With `dependents` the models it is made of go as well, unless somebody asked for them or another
        ensemble needs them.
        """
        await self._undertakings.see_through(self._unload(name, dependents=dependents))

    async def follow(self, changed: Iterable[str], removed: Iterable[str]) -> None:
        """Load what has changed on disk and unload what is gone; the index tells what cannot be loaded."""
        self._listing = await asyncio.to_thread(list_repositories, self.paths)
        for name in removed:
            await self._unload(name)
            if name in self._records:
                self._records[name].forgive()
        outcomes = await asyncio.gather(*map(self._load_asked, changed), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None and not isinstance(outcome, InferError):
                raise outcome

    async def close(self) -> None:
        """Refuse what comes from now on, drain every model, and wait until all have ended."""
        self.stopping = True
        await self._undertakings.close()
        await self._builder.close()
        for servable in list(self.served()):
            servable.drain()
        await self._serving.wait()

    # --- loading ---

    async def _load_asked(self, name: str, override: Override = NO_OVERRIDE) -> None:
        self._listing = await asyncio.to_thread(list_repositories, self.paths)
        try:
            await self._load(name, override)
            self._note_asked_for(name)
        finally:
            await self._renew_ensembles()

    async def _ensure(self, name: str) -> None:
        """Have a model loaded unless it is, or is about to be."""
        if self.versions(name):
            return
        load = self._in_flight.get(name)
        if load is None:
            load = self._in_flight[name] = asyncio.ensure_future(self._load(name))
            load.add_done_callback(lambda _: self._in_flight.pop(name))
        await load

    async def _load(self, name: str, override: Override = NO_OVERRIDE) -> None:
        """Load a model, after the models it is made of."""
        directory = self._listing.found.get(name) if name not in self._listing.ambiguous else None
        if directory is None and not override.files:
            raise _not_polled(name)
        async with self._changing(name) as record:
            try:
                source = await asyncio.to_thread(read_source, self._loader, name, directory, override)
            except InferError as error:
                if directory is not None:
                    self._note_failure(name, record, error)
                raise _not_polled(name) from error
            try:
                await self._load_source(name, record, source)
            finally:
                if source.private is not None:
                    source.private.drain()

    async def _load_source(self, name: str, record: ModelRecord, source: Source) -> None:
        record.wanted = source
        circle = find_circle(await self._steps_below(name, source), name)
        if circle:
            error = invalid(f"circular dependency between ensembles: {' -> '.join(circle)}")
            raise self._refused(name, record, error)
        record.failure = ""
        await self._load_steps(name, record, source.steps)
        versions = source.versions()
        if not versions:
            text = f"at least one version must be available under the version policy of model '{name}'"
            raise self._refused(name, record, invalid(text))
        if await self._builder.bring_up(record, source, versions):
            record.loaded_at = next(self._clock)
            self._loaded_lately.add(name)
        record.loaded = source

    async def _steps_below(self, name: str, source: Source) -> dict[str, tuple[str, ...]]:
        """Return the steps of an ensemble and of all those below it, as they are wanted or stand on disk."""
        steps = {name: source.steps}
        frontier = list(source.steps)
        while frontier:
            below = frontier.pop()
            if below not in steps:
                steps[below] = await self._steps_of(below)
                frontier.extend(steps[below])
        return steps

    async def _steps_of(self, name: str) -> tuple[str, ...]:
        record, directory = self._records.get(name), self._listing.found.get(name)
        if record is not None and (record.serving or record.visitors):
            return record.wanted.steps if record.visitors and record.wanted is not None else record.steps
        if directory is None:
            return ()
        try:
            return steps_of(await asyncio.to_thread(self._loader.read, directory))
        except (InferError, OSError):
            return ()  # its own load will tell why

    async def _load_steps(self, name: str, record: ModelRecord, steps: Sequence[str]) -> None:
        """Load the models of an ensemble that are not loaded yet."""
        missing = [
            step
            for step in steps
            if (step not in self._listing.found or step in self._listing.ambiguous)
            and not self.versions(step)
        ]
        if missing:
            text = (
                f"ensemble {name} contains models that are not available or ambiguous: {', '.join(missing)}"
            )
            raise self._refused(name, record, invalid(text))
        for step in steps:
            try:
                await self._ensure(step)
            except InferError as error:
                raise self._refused(name, record, invalid(_dependency_failed(name, step, error))) from error

    def _refused(self, name: str, record: ModelRecord, error: InferError) -> InferError:
        """Note why a model cannot load at all and return the error for whoever asked."""
        self._note_failure(name, record, error)
        return invalid(f"load failed for model '{name}': {error.message}\n")

    def _note_failure(self, name: str, record: ModelRecord, error: InferError) -> None:
        record.failure = titled(error)
        log.error("model cannot be loaded", model=name, reason=record.failure)

    def _note_asked_for(self, name: str) -> None:
        if name in self._records:
            self._records[name].asked_for = True

    # --- unloading, and what it means for ensembles ---

    async def _unload(self, name: str, *, dependents: bool = False) -> None:
        if name not in self._records:
            return
        async with self._changing(name) as record:
            steps = record.steps
            self._retire_all(record)
            record.wanted = None
            record.asked_for = False
        await self._retire_ensembles_over(name)
        for step in steps if dependents else ():
            if not self._is_needed(step):
                await self._unload(step, dependents=True)

    def _retire_all(self, record: ModelRecord) -> None:
        for version in list(record.serving):
            self._serving.retire(record, version)
        record.loaded = None

    async def _retire_ensembles_over(self, name: str) -> None:
        """Let the ensembles end that lack a model now; they are still wanted, and come back with it."""
        for ensemble in self._ensembles_over(name):
            async with self._changing(ensemble) as record:
                was_serving = bool(record.serving)
                if name in record.steps:
                    record.wanted = record.source
                    self._retire_all(record)
            if was_serving:
                await self._retire_ensembles_over(ensemble)

    async def _renew_ensembles(self) -> None:
        """Load the ensembles anew whose models were loaded since they were."""
        while self._loaded_lately:
            name = self._loaded_lately.pop()
            for ensemble in self._ensembles_over(name):
                if not await self._renew(ensemble, self._records[name].loaded_at):
                    await self._retire_ensembles_over(ensemble)

    async def _renew(self, ensemble: str, moment: int) -> bool:
        """Load an ensemble anew that is older than a moment; return False when it had to leave instead."""
        async with self._changing(ensemble) as record:
            source = record.source
            if source is None or (record.serving and record.loaded_at > moment):
                return True
            # A model that was unloaded on purpose is not to come back for this.
            if any(step in self._records and not self._records[step].serving for step in source.steps):
                return True
            was_settled = record.settled and not record.failure
            try:
                await self._load_source(ensemble, record, source)
            except InferError as error:
                log.warning("ensemble does not fit its models", model=ensemble, reason=error.message)
                self._retire_all(record)
                if was_settled:
                    record.forgive()
                return False
        return True

    def _ensembles_over(self, name: str) -> list[str]:
        return ensembles_over({each: record.steps for each, record in self._records.items()}, name)

    def _is_needed(self, name: str) -> bool:
        record = self._records.get(name)
        return record is None or record.asked_for or bool(self._ensembles_over(name))

    # --- whose turn it is ---

    @asynccontextmanager
    async def _changing(self, name: str) -> AsyncIterator[ModelRecord]:
        """Have the record of a model to oneself; one that has nothing to tell afterwards is forgotten."""
        record = self._records.setdefault(name, ModelRecord())
        record.visitors += 1
        try:
            async with record.lock:
                yield record
        finally:
            record.visitors -= 1
            if record.blank:
                del self._records[name]


def _not_polled(name: str) -> InferError:
    return internal(f"failed to load '{name}', failed to poll from model repository")


def _dependency_failed(ensemble: str, step: str, error: InferError) -> str:
    reason = error.message.removeprefix(f"load failed for model '{step}': ").removesuffix("\n")
    return (
        f"ensemble '{ensemble}' depends on '{step}' which has no loaded version. "
        f"Model '{step}' loading failed with error: {reason}"
    )
