"""Bringing versions up: so many at a time, each within a time, and all of a model or none.

New versions are built beside those that serve, asked their golden cases where there are any, and take the
places of the others when all are ready. What is served already as it would be built is left alone; one that
has but too many or too few instances gets others.

What blocks in a load is code of a model, which may never return, and a thread cannot be ended from outside. A
load that takes too long is therefore given up rather than stopped: whoever waits is told, and should the
version be built after all, it is taken down at once.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import structlog

from ..backends.footprint import size_on_disk
from ..backends.selftest import golden_cases
from ..proto.config.canary import CanaryPolicy, canary_policy
from ..proto.errors import Fault, InferError
from ..proto.model_id import ModelId
from ..proto.phases import VersionEvent, VersionPhase
from .dormant import DormantVersion
from .load_errors import load_failed
from .loading import Loader, LoadOptions
from .records import LAST_LOAD_FAILED, ModelRecord, VersionRecord, on_one_line, titled
from .rollout import Rollouts, check_fits
from .servable import Loaded, Rearrangeable, Servable
from .serving import Serving
from .sources import Source
from .statistics import Statistics
from .verification import verify
from .waking import Waking

log: Final = structlog.get_logger("deuteron.repository")


class OverdueError(InferError):
    """A load that was given up: it may still go on."""


class Builder:
    """Builds versions of models and puts them in service."""

    def __init__(self, loader: Loader, serving: Serving, options: LoadOptions) -> None:
        self._loader = loader
        self._serving = serving
        self._turns = asyncio.Semaphore(max(1, options.threads))
        self._timeout_s = options.timeout_s
        self._retries = options.retries
        self._overdue: set[asyncio.Task[Loaded]] = set()
        self.waking = None if options.on_demand is None else Waking(serving, options.on_demand)
        """What loads models when they are asked for, if anything does."""
        self._kept = frozenset() if options.on_demand is None else options.on_demand.kept
        self.rollouts = Rollouts(serving)
        """New versions that are tried before they take the place of others."""

    async def bring_up(self, record: ModelRecord, source: Source, versions: Iterable[int]) -> bool:
        """Serve these versions, and no others, as the source has them; return whether that changed anything.

        Raises InferError where one of them cannot be built; then what served goes on.
        """
        model, selected = source.home.id, set(versions)
        fresh = _fresh(record, source, selected)
        if model in self.rollouts:
            if not fresh:
                return False
            self.rollouts.end(model, "another load came")
            fresh = _fresh(record, source, selected)
        built, trial = await self._build_all(record, source, fresh, max(selected))
        for version in selected & record.versions.keys():
            record.versions[version].reason = ""
        dropped = sorted(set(record.serving) - selected)
        for version, servable in built.items():
            if trial is None or servable is not trial[0]:
                self._serving.begin(record, version, servable)
        if trial is not None:
            self.rollouts.begin(model, record, *trial, dropped)
            return True
        for version in dropped:
            self._serving.retire(record, version)
        return bool(built or dropped)

    async def _build_all(
        self, record: ModelRecord, source: Source, fresh: Sequence[int], latest: int
    ) -> tuple[dict[int, Loaded], tuple[Loaded, CanaryPolicy] | None]:
        """Return versions that are to be put in service, and which of them is to be tried, and how.

        Raises InferError where one cannot be built, and then lets go of all.
        """
        for version in fresh:
            entry = record.versions.setdefault(version, VersionRecord())
            if entry.phase is not VersionPhase.READY:
                entry.step(VersionEvent.LOAD)
        attempts = await asyncio.gather(*(self._attempt(record, source, version) for version in fresh))
        outcomes = dict(zip(fresh, attempts, strict=True))
        failures = {version: each for version, each in outcomes.items() if isinstance(each, Exception)}
        built = {
            version: each
            for version, each in outcomes.items()
            if not isinstance(each, Exception) and each is not record.serving.get(version)
        }
        trial = None
        try:
            trial = _trial(record, built, latest)
        except InferError as error:
            failures[latest] = error
        if failures:
            self._give_up(source.home.id, record, built, failures)
            raise load_failed(source.home.id, failures)
        return built, trial

    @asynccontextmanager
    async def lent_turn(self) -> AsyncIterator[None]:
        """Let another load have the turn of one that waits for it.

        Otherwise, once all turns are taken by models that wait for others, none of these would ever load.
        """
        self._turns.release()
        try:
            yield
        finally:
            await self._turns.acquire()

    async def close(self) -> None:
        """Wait no longer for what was given up."""
        await self.rollouts.close()
        for task in self._overdue:
            task.cancel()
        await asyncio.gather(*self._overdue, return_exceptions=True)

    async def _attempt(self, record: ModelRecord, source: Source, version: int) -> Loaded | Exception:
        """Build a version, if need be in several attempts; return the error of the last."""
        retries = self._retries
        while True:
            try:
                return await self._build(record, source, version)
            except Exception as error:  # noqa: BLE001 - whatever it is, the siblings are to end before it is told
                if not retries or isinstance(error, OverdueError):
                    return error
                retries -= 1
                log.warning(
                    "model failed to load, and is tried again",
                    model=source.home.name,
                    version=version,
                    reason=on_one_line(titled(error)),
                )

    async def _build(self, record: ModelRecord, source: Source, version: int) -> Loaded:
        served = record.serving.get(version)
        made = self._made(served, record.loaded, source, version)
        return await self._in_time(source, version, made, served)

    async def _in_time(
        self,
        source: Source,
        version: int,
        made: Coroutine[None, None, Loaded],
        served: Servable | None = None,
    ) -> Loaded:
        """Return what is made of a version in its turn; raises InferError where that takes too long."""
        async with self._turns:
            task = asyncio.create_task(made)
            self._overdue.add(task)
            done, _ = await asyncio.wait({task}, timeout=self._timeout_s or None)
        if not done:
            task.add_done_callback(partial(self._take_down, served))
            raise OverdueError(
                Fault.UNAVAILABLE,
                f"version {version} of model '{source.home.name}' was not ready within "
                f"{self._timeout_s:g} seconds, and its load was given up",
            )
        self._overdue.discard(task)
        return task.result()

    async def _made(
        self, served: Servable | None, loaded: Source | None, source: Source, version: int
    ) -> Loaded:
        """Return a version as a source has it, which serves and knows its golden cases.

        It is the one that is found already, where nothing but its instances is to change.
        """
        if isinstance(served, Rearrangeable) and source.differs_in_instances(
            version, loaded, served.config.message
        ):
            config = self._loader.rearranged(served, source.draft)
            if config is not None:
                await served.rearrange(config)
                return served
        if self.waking is not None and not source.step_names and source.home.name not in self._kept:
            return await self._dormant(self.waking, source, version)
        return await self._awake(source, version)

    async def _dormant(self, waking: Waking, source: Source, version: int) -> Loaded:
        """Return a version that is loaded when it is asked for."""
        told = await self._loader.describe(source.home, source.draft, version)
        build = partial(self._wake, source, version)
        dormant = DormantVersion(told.config, version, told.labels, told.statistics, build, waking)
        dormant.size_on_disk = await asyncio.to_thread(size_on_disk, source.home.path / str(version))
        self._serving.start(dormant, source.private)
        return dormant

    async def _wake(self, source: Source, version: int, statistics: Statistics) -> Loaded:
        """Return what does the work of a version that sleeps; raises InferError."""
        return await self._in_time(source, version, self._awake(source, version, statistics))

    async def _awake(self, source: Source, version: int, statistics: Statistics | None = None) -> Loaded:
        """Return a version that is loaded, serves and knows its golden cases."""
        cases = await asyncio.to_thread(golden_cases, source.home.path)
        servable = await self._loader.load(source.home, source.draft, version, source.steps, statistics)
        self._serving.start(servable, source.private)
        try:
            await verify(servable, cases)
        except BaseException:
            self._serving.discard(servable)
            raise
        return servable

    def _take_down(self, served: Servable | None, task: "asyncio.Task[Loaded]") -> None:
        self._overdue.discard(task)
        if not task.cancelled() and task.exception() is None and task.result() is not served:
            self._serving.discard(task.result())

    def _give_up(
        self,
        model: ModelId,
        record: ModelRecord,
        built: Mapping[int, Loaded],
        failures: Mapping[int, Exception],
    ) -> None:
        """Note why versions could not load, and let go of their siblings that could."""
        reasons = {version: titled(error) for version, error in failures.items()}
        for version, reason in reasons.items():
            log.error("model failed to load", model=str(model), version=version, reason=on_one_line(reason))
        for version, servable in built.items():
            reasons[version] = "Unavailable: another version of this model failed to load"
            self._serving.discard(servable)
        for version, reason in reasons.items():
            entry = record.versions[version]
            if entry.phase is VersionPhase.LOADING:
                entry.step(VersionEvent.LOAD_FAILED, reason)
            elif version in failures:
                entry.reason = LAST_LOAD_FAILED + reason
        record.refresh()


def _fresh(record: ModelRecord, source: Source, selected: Iterable[int]) -> list[int]:
    """Return the versions, ascending, that do not serve already as a source has them."""
    return [
        version
        for version in sorted(selected)
        if version not in record.serving or not source.has_same(version, record.loaded)
    ]


def _trial(
    record: ModelRecord, built: Mapping[int, Loaded], latest: int
) -> tuple[Loaded, CanaryPolicy] | None:
    """Return the version that is to be tried before it takes the place of the latest, and how; None for none.

    Raises InferError where the two cannot be asked the same.
    """
    new, old = built.get(latest), record.latest
    if new is None or old is None or old.version > new.version:
        return None
    policy = canary_policy(new.config.parameters)
    if policy is None:
        return None
    check_fits(old.config, new.config)
    return new, policy
