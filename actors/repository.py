"""The repository: which models are loaded, and the only one who changes that.

What is known of every model stands in the registry (see `registry`). Doors read; `load`, `unload` and
`follow` write, each model by one at a time. A load builds only what is not served already as it would be
built. New versions are built beside the old ones and swapped in when all are ready; when one cannot load, the
old ones stay.

An ensemble stands and falls with its models. One that loads takes them along, one whose model is unloaded
leaves with it, and when a model comes back or is loaded anew, the ensembles over it are loaded anew as well.
Where repositories tell names apart an ensemble means the model in its own repository, or else the only one.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Final, Self

import structlog

from ..backends.bindings import Bindings, with_bindings
from ..backends.catalog import Catalog
from ..backends.model_directory import Listing, list_repositories, look_again
from ..backends.model_home import RemoteRepository
from ..backends.private_directory import NO_OVERRIDE, Override
from ..proto.errors import InferError, invalid
from ..proto.model_id import ModelId
from ..proto.phases import VersionPhase
from .building import Builder
from .dependents import ensembles_over, find_circle, resolve
from .load_errors import dependency_failed, not_polled, raise_first
from .loading import Loader, LoadOptions
from .records import AMBIGUOUS, IndexEntry, ModelRecord, index_entries, on_one_line, titled
from .registry import Registry
from .serving import Serving
from .sources import Source, read_source
from .undertakings import Undertakings

log: Final = structlog.get_logger("deuteron.repository")


class Repository:
    """All models: those on disk, those bound by the process, and what became of each."""

    def __init__(
        self,
        paths: Sequence[Path | RemoteRepository],
        catalog: Catalog,
        options: LoadOptions,
        bindings: Bindings | None = None,
        *,
        strict_readiness: bool = True,
    ) -> None:
        self.paths = tuple(paths)
        self._bindings = bindings or Bindings()
        self.namespacing = options.namespacing
        self._registry = Registry(namespacing=options.namespacing)
        self._loader = Loader(catalog, options, self._registry.find_exactly)
        self._serving = Serving()
        self._builder = Builder(self._loader, self._serving, options)
        self.rollouts = self._builder.rollouts
        self.rollouts.tell_promotions(self._note_promotion)
        self.waking = self._builder.waking
        self._strict_readiness = strict_readiness
        self._listing = Listing({})
        self._in_flight: dict[ModelId, asyncio.Future[None]] = {}
        self._undertakings = Undertakings()
        self._clock = count(1)
        self._changed_lately: set[ModelId] = set()
        self.live = False
        self.find = self._registry.find
        self.versions = self._registry.versions
        self.served = self._registry.served
        self.identified = self._registry.identified

    async def __aenter__(self) -> Self:
        await self._serving.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Drain every model and wait for all of them."""
        await self.close()
        await self._serving.__aexit__()

    # --- what doors read, beside what the registry tells ---

    def index(self, *, ready_only: bool = False) -> list[IndexEntry]:
        """Return what stands in the repositories and what became of it, by name and version."""
        self._listing = self._list()
        entries = [
            entry
            for model in sorted({*self._listing.found, *self._listing.ambiguous})
            for entry in index_entries(
                model.name, self._registry.records.get(model), ambiguous=model in self._listing.ambiguous
            )
        ]
        return [each for each in entries if not ready_only or each.state == VersionPhase.READY.value]

    @property
    def ready(self) -> bool:
        """Whether the server is ready for requests; strictly, whether every model is."""
        records = self._registry.records.values()
        settled = not self._strict_readiness or all(each.settled for each in records)
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
        await self._list_again()
        for model in self._listing.ambiguous:
            async with self._registry.changing(model) as record:
                record.failure = AMBIGUOUS
        wanted = self._wanted_at_start(names)
        outcomes = await asyncio.gather(*map(self._ensure, wanted), return_exceptions=True)
        self.live = True
        raise_first(each for each in outcomes if not isinstance(each, InferError))
        for model in wanted:
            self._note_asked_for(model)
        await self._settle_ensembles()
        return [str(model) for model, outcome in zip(wanted, outcomes, strict=True) if outcome is not None]

    def _wanted_at_start(self, names: Iterable[str] | None) -> list[ModelId]:
        if names is None:
            return sorted({*self._listing.found, *self._listing.ambiguous})
        return [model for name in names for model in self._listing.named(name) or (ModelId(name),)]

    async def load(self, name: str, override: Override = NO_OVERRIDE, *, from_load: bool = False) -> None:
        """Load a model, or load anew what has changed of it; raises InferError where it cannot be loaded.

        `from_load` says that another model waits for this one while it is being loaded itself.
        """
        await self._undertakings.see_through(self._load_named(name, override, from_load=from_load))

    async def unload(self, name: str, *, dependents: bool = False) -> None:
        """Begin to unload all versions of a model; one that is not loaded is unloaded already.

        With `dependents` the models it is made of go as well, unless somebody asked for them or another
        ensemble needs them.
        """
        await self._undertakings.see_through(self._unload_named(name, dependents=dependents))

    async def follow(self, changed: Iterable[ModelId], removed: Iterable[ModelId]) -> None:
        """Load what has changed on disk and unload what is gone; the index tells what cannot be loaded."""
        for model in removed:
            await self._unload(model)
            record = self._registry.records.get(model)
            if record is not None:
                record.forgive()
        await self._list_again()
        await self._settle_ensembles()
        outcomes = await asyncio.gather(*map(self._load_asked, changed), return_exceptions=True)
        await self._settle_ensembles()
        raise_first(each for each in outcomes if not isinstance(each, InferError))

    async def close(self) -> None:
        """Refuse what comes from now on, drain every model, and wait until all have ended."""
        self.stopping = True
        await self._undertakings.close()
        await self._builder.close()
        for servable in list(self.served()):
            servable.drain()
        await self._serving.wait()

    # --- loading ---

    def _list(self) -> Listing:
        return with_bindings(list_repositories(self.paths, namespacing=self.namespacing), self._bindings)

    def _look_and_list(self) -> Listing:
        look_again(self.paths)
        return self._list()

    async def _list_again(self) -> None:
        self._listing = await asyncio.to_thread(self._look_and_list)

    async def _load_named(self, name: str, override: Override, *, from_load: bool) -> None:
        """Load every model of a name; there is one, unless repositories tell names apart."""
        await self._list_again()
        models = () if override.files else self._listing.named(name)
        async with self._builder.lent_turn() if from_load else nullcontext():
            loads = (self._load_asked(model, override) for model in models or (ModelId(name),))
            outcomes = await asyncio.gather(*loads, return_exceptions=True)
            await self._settle_ensembles()
        raise_first(outcomes)

    async def _load_asked(self, model: ModelId, override: Override = NO_OVERRIDE) -> None:
        await self._load(model, override)
        self._note_asked_for(model)

    async def _ensure(self, model: ModelId) -> None:
        """Have a model loaded unless it is, or is about to be."""
        if self._registry.serves(model):
            return
        load = self._in_flight.get(model)
        if load is None:
            load = self._in_flight[model] = asyncio.ensure_future(self._load(model))
            load.add_done_callback(lambda _: self._in_flight.pop(model))
        await load

    async def _load(self, model: ModelId, override: Override = NO_OVERRIDE) -> None:
        """Load a model, after the models it is made of."""
        home = self._listing.found.get(model)
        if home is None and not override.files:
            raise not_polled(model)
        async with self._registry.changing(model) as record:
            try:
                source = await asyncio.to_thread(read_source, self._loader, model.name, home, override)
            except InferError as error:
                if home is not None:
                    self._note_failure(model, record, error)
                raise not_polled(model) from error
            try:
                await self._load_source(model, record, self._with_steps(source))
            finally:
                if source.private is not None:
                    source.private.drain()

    async def _load_source(self, model: ModelId, record: ModelRecord, source: Source) -> None:
        record.wanted = source
        circle = find_circle(await self._steps_below(model, source), model)
        if circle:
            error = invalid(f"circular dependency between ensembles: {' -> '.join(map(str, circle))}")
            raise self._refused(model, record, error)
        record.failure = ""
        await self._load_steps(model, record, source)
        versions = source.versions()
        if not versions:
            text = f"at least one version must be available under the version policy of model '{model}'"
            raise self._refused(model, record, invalid(text))
        if await self._builder.bring_up(record, source, versions):
            record.loaded_at = next(self._clock)
            self._changed_lately.add(model)
        record.loaded = source

    def _with_steps(self, source: Source, *, not_back: bool = False) -> Source:
        """Return a source with whom it means by the names of its steps; some may mean nobody.

        Candidates are the models that serve and those that stand on disk; `not_back` leaves out of these
        whatever has been unloaded, or could not be loaded.
        """
        if not source.step_names:
            return source
        records = self._registry.records
        there = {model for model, record in records.items() if record.serving}
        there.update(model for model in self._listing.found if not (not_back and model in records))
        return replace(source, steps=resolve(source.step_names, source.home.id.namespace, there))

    async def _steps_below(self, model: ModelId, source: Source) -> Mapping[ModelId, Sequence[ModelId]]:
        """Return the steps of an ensemble and of all those below it, as they are wanted or stand on disk."""
        steps = {model: tuple(source.steps.values())}
        frontier = list(steps[model])
        while frontier:
            below = frontier.pop()
            if below not in steps:
                steps[below] = await self._steps_of(below)
                frontier.extend(steps[below])
        return steps

    async def _steps_of(self, model: ModelId) -> tuple[ModelId, ...]:
        record, home = self._registry.records.get(model), self._listing.found.get(model)
        if record is not None and (record.serving or record.visitors):
            wanted = record.wanted if record.visitors and record.wanted is not None else record
            return tuple(wanted.steps.values())
        if home is None:
            return ()
        try:
            source = await asyncio.to_thread(read_source, self._loader, model.name, home, NO_OVERRIDE)
        except InferError:
            return ()  # its own load will tell why
        return tuple(self._with_steps(source).steps.values())

    async def _load_steps(self, model: ModelId, record: ModelRecord, source: Source) -> None:
        """Load the models of an ensemble that are not loaded yet."""
        missing = [name for name in source.step_names if name not in source.steps]
        if missing:
            text = (
                f"ensemble {model} contains models that are not available or ambiguous: {', '.join(missing)}"
            )
            raise self._refused(model, record, invalid(text))
        for step in source.steps.values():
            try:
                await self._ensure(step)
            except InferError as error:
                reason = invalid(dependency_failed(model, step, error))
                raise self._refused(model, record, reason) from error

    def _refused(self, model: ModelId, record: ModelRecord, error: InferError) -> InferError:
        """Note why a model cannot load at all and return the error for whoever asked."""
        self._note_failure(model, record, error)
        return invalid(f"load failed for model '{model}': {error.message}\n")

    def _note_failure(self, model: ModelId, record: ModelRecord, error: InferError) -> None:
        record.failure = titled(error)
        log.error("model cannot be loaded", model=str(model), reason=on_one_line(record.failure))

    def _note_asked_for(self, model: ModelId) -> None:
        record = self._registry.records.get(model)
        if record is not None:
            record.asked_for = True

    # --- unloading, and what it means for ensembles ---

    async def _unload_named(self, name: str, *, dependents: bool) -> None:
        for model in [each for each in self._registry.records if each.name == name]:
            await self._unload(model, dependents=dependents)
        await self._settle_ensembles()

    async def _unload(self, model: ModelId, *, dependents: bool = False) -> None:
        if model not in self._registry.records:
            return
        async with self._registry.changing(model) as record:
            steps = tuple(record.steps.values())
            self._retire_all(model, record)
            record.wanted = None
            record.asked_for = False
        self._changed_lately.add(model)
        for step in steps if dependents else ():
            if not self._is_needed(step):
                await self._unload(step, dependents=True)

    def _retire_all(self, model: ModelId, record: ModelRecord) -> None:
        self.rollouts.end(model, "it was unloaded")
        for version in list(record.serving):
            self._serving.retire(record, version)
        record.loaded = None

    async def _settle_ensembles(self) -> None:
        """Fit the ensembles to what has become of their models since they were loaded."""
        while self._changed_lately:
            model = self._changed_lately.pop()
            for ensemble in self._ensembles_over(model.name):
                if await self._settle(ensemble):
                    self._changed_lately.add(ensemble)

    async def _settle(self, ensemble: ModelId) -> bool:
        """Load an ensemble anew whose models are others now, or let it end that lacks one.

        One that had to end is still wanted, and comes back with its models. Return whether it had to.
        """
        async with self._registry.changing(ensemble) as record:
            source = record.source
            if source is None:
                return False
            served = bool(record.serving)
            # A model that was unloaded on purpose is not to come back for this.
            renewed = self._with_steps(source, not_back=True)
            if not renewed.is_whole:
                record.wanted = source
                self._retire_all(ensemble, record)
                return served
            if served and renewed.steps == source.steps and not self._is_older(record):
                return False
            was_settled = record.settled and not record.failure
            try:
                await self._load_source(ensemble, record, renewed)
            except InferError as error:
                log.warning(
                    "ensemble does not fit its models", model=str(ensemble), reason=on_one_line(error.message)
                )
                self._retire_all(ensemble, record)
                if was_settled:
                    record.forgive()
                return served
        return False

    def _is_older(self, record: ModelRecord) -> bool:
        """Whether an ensemble was loaded before one of its models was."""
        steps = [self._registry.records.get(step) for step in record.steps.values()]
        return any(step is None or step.loaded_at >= record.loaded_at for step in steps)

    def _note_promotion(self, model: ModelId) -> None:
        """Hear that a version that was tried has taken the place of another: ensembles are to see it."""
        self._registry.records[model].loaded_at = next(self._clock)
        self._changed_lately.add(model)
        self._undertakings.begin(self._settle_ensembles())

    def _ensembles_over(self, name: str) -> list[ModelId]:
        """Return the ensembles that a model of this name could be a step of."""
        records = self._registry.records.items()
        return [each for each, record in sorted(records) if name in record.step_names]

    def _is_needed(self, model: ModelId) -> bool:
        record = self._registry.records.get(model)
        steps = {each: tuple(other.steps.values()) for each, other in self._registry.records.items()}
        return record is None or record.asked_for or bool(ensembles_over(steps, model))
