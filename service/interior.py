"""The interior of a server: its models and all that serves them, but no door and no signal.

Whoever opens it, the command or a program that has the server for a library, adds the doors that it wants;
a program may ask the models without any. It is put together here and in `app`, which adds what makes it a
process of its own.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from .. import __version__
from ..actors.cache import LocalCache, Store
from ..actors.calls import Calls
from ..actors.clock import SECOND
from ..actors.latencies import LatencyOptions
from ..actors.loading import LoadOptions
from ..actors.polling import Watch, first_watch, polled
from ..actors.repository import Repository
from ..actors.residency import OnDemand
from ..actors.sharing import Sharing, Supply
from ..backends.bindings import Bindings
from ..backends.catalog import Catalog
from ..backends.house import House
from ..backends.model_home import RemoteRepository
from ..backends.remote.address import Address
from ..backends.remote.opening import open_repository
from ..backends.sequence_store import SequenceStore
from ..proto.errors import Fault, InferError
from .access_log import AccessLog
from .doorway import Doorway
from .logs import ServerLog
from .observer import Observer
from .settings import (
    CacheSettings,
    ControlMode,
    LocalCacheSettings,
    MetricsSettings,
    RateLimitSettings,
    RedisCacheSettings,
    RepositorySettings,
    SequenceStoreSettings,
    Settings,
)
from .shared_memory import SharedMemory
from .tracer import Tracer


class Interior:
    """A server without doors, as seen by whoever opens some."""

    def __init__(self, settings: Settings, bindings: Bindings | None, doorway: Doorway, calls: Calls) -> None:
        self.doorway = doorway
        self.calls = calls
        """What models ask of each other; stopped before the models drain."""
        self._settings = settings
        self._bindings = bindings
        self._repository = doorway.repository
        self._watch: Watch | None = None

    async def load(self) -> list[str]:
        """Load the models to start with; return the names of those that failed. Raises InferError for all."""
        self._watch = await _watch(self._repository, self._settings)
        failed = await self._repository.load_at_start(_models_at_start(self._settings, self._bindings))
        self.calls.allow_control(self._repository.load, self._repository.unload)
        return failed

    def polled(self) -> AbstractAsyncContextManager[None]:
        """Have the repository follow what happens on disk for the length of the block, if it is to."""
        if self._watch is None:
            return nullcontext()
        return polled(self._repository, self._watch, self._settings.repository.poll_s)


@asynccontextmanager
async def furnished(
    settings: Settings, server_log: ServerLog, bindings: Bindings | None = None
) -> AsyncIterator[Interior]:
    """Have a server for the length of the block; its models are loaded by `load`, and drained at the end."""
    calls = Calls(explicit=settings.repository.control_mode is ControlMode.EXPLICIT)
    async with (
        _cache(settings.cache) as cache,
        _sequence_store(settings.sequence_store) as sequences,
        _repository(settings, calls, bindings, Stores(cache, sequences)) as repository,
        calls.carry(repository.find),
    ):
        observer = _observer(settings)
        doorway = Doorway(
            repository,
            settings.repository.control_mode,
            settings.server_id,
            __version__,
            server_log,
            SharedMemory(allowed=settings.client_shared_memory),
            observer,
            cache,
        )
        try:
            yield Interior(settings, bindings, doorway, calls)
        finally:
            observer.close()


def _cache(settings: CacheSettings | None) -> AbstractAsyncContextManager[Store | None]:
    """Return where responses are kept; raises InferError where it takes what is not installed."""
    match settings:
        case LocalCacheSettings(size, ttl_s):
            return nullcontext(LocalCache(size, ttl_s * SECOND))
        case RedisCacheSettings():
            try:
                from .redis_cache import RedisCache  # noqa: PLC0415 - the client of Redis is an extra
            except ModuleNotFoundError as error:
                raise InferError(
                    Fault.UNAVAILABLE,
                    "the Redis cache needs a package that is not installed: pip install 'deuteron[redis]'",
                ) from error
            return RedisCache(settings)
        case None:
            return nullcontext()


@asynccontextmanager
async def _sequence_store(settings: SequenceStoreSettings | None) -> AsyncIterator[SequenceStore | None]:
    """Open where sequences are kept; raises InferError where it takes what is not installed."""
    if settings is None:
        yield None
        return
    try:
        from .redis_sequences import RedisSequences  # noqa: PLC0415 - the client of Redis is an extra
    except ModuleNotFoundError as error:
        raise InferError(
            Fault.UNAVAILABLE,
            "the sequence store needs a package that is not installed: pip install 'deuteron[redis]'",
        ) from error
    store = RedisSequences(settings)
    await asyncio.to_thread(store.check)
    try:
        yield store
    finally:
        store.close()


@dataclass(frozen=True, slots=True)
class Stores:
    """What outlives a request: responses, and the states of sequences."""

    cache: Store | None
    sequences: SequenceStore | None


def _opened(place: Path | Address, cache: Path) -> Path | RemoteRepository:
    return place if isinstance(place, Path) else open_repository(place, cache)


def _repository(settings: Settings, house: House, bindings: Bindings | None, stores: Stores) -> Repository:
    chosen = settings.repository
    return Repository(
        [_opened(each, chosen.cache) for each in chosen.paths],
        Catalog(settings.backends, house, bindings),
        LoadOptions(
            auto_complete=chosen.auto_complete,
            config_name=chosen.config_name,
            latencies=_latencies(settings.metrics),
            timeout_s=chosen.load_timeout_s,
            threads=chosen.load_threads,
            retries=chosen.load_retries,
            namespacing=chosen.namespacing,
            on_demand=_on_demand(chosen),
            cache=stores.cache,
            sequences=stores.sequences,
            sharing=_sharing(settings.rate_limit),
        ),
        bindings,
        strict_readiness=chosen.strict_readiness,
    )


def _sharing(settings: RateLimitSettings) -> Sharing | None:
    """Return what instances share, None where they do not."""
    if not settings.enabled:
        return None
    return Sharing(
        [Supply(name, count, None if device < 0 else device) for name, count, device in settings.resources]
    )


def _observer(settings: Settings) -> Observer:
    """Return who looks at single requests; raises InferError where the access log cannot be opened."""
    access_log = None
    if settings.access_log.file is not None:
        try:
            access_log = AccessLog(settings.access_log.file, settings.access_log.rate)
        except OSError as error:
            raise InferError(Fault.UNAVAILABLE, f"access log cannot be opened: {error}") from None
    return Observer(Tracer(settings.trace), access_log)


def _latencies(metrics: MetricsSettings) -> LatencyOptions:
    """Return the spreads of latencies to keep; none where nobody can ask for them."""
    return LatencyOptions(
        histograms=metrics.enabled and metrics.histogram_latencies,
        summaries=metrics.enabled and metrics.summary_latencies,
    )


def _on_demand(chosen: RepositorySettings) -> OnDemand | None:
    return OnDemand(chosen.on_demand_bytes, frozenset(chosen.kept)) if chosen.on_demand else None


async def _watch(repository: Repository, settings: Settings) -> Watch | None:
    """Return the watch on the repositories, None where nobody polls them."""
    chosen = settings.repository
    polls = chosen.control_mode is ControlMode.POLL and chosen.poll_s > 0
    there = all(path.is_dir() for path in chosen.paths if isinstance(path, Path))
    return await first_watch(repository) if polls and there else None


def _models_at_start(settings: Settings, bindings: Bindings | None) -> tuple[str, ...] | None:
    """Return the names of the models to load first, None for all there are."""
    chosen = settings.repository
    if chosen.control_mode is not ControlMode.EXPLICIT or chosen.startup_models == ("*",):
        return None
    bound = bindings.all() if bindings is not None else ()
    return (*chosen.startup_models, *(binding.name for binding in bound))
