"""The composition root: the one place that knows every class and puts the house together."""

import asyncio
import gc
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final

import structlog
import uvloop

from .. import __version__
from ..actors.cache import LocalCache, Store
from ..actors.calls import Calls
from ..actors.clock import SECOND
from ..actors.latencies import LatencyOptions
from ..actors.loading import LoadOptions
from ..actors.polling import Watch, first_watch, polled
from ..actors.repository import Repository
from ..backends.catalog import Catalog
from ..backends.house import House
from ..proto.errors import Fault, InferError
from . import logs
from .access_log import AccessLog
from .banner import show
from .doorway import Doorway
from .grpc.front import grpc_front
from .http.door import http_front
from .lifecycle import EXIT_FAILURE, Front, StopSignals, open_doors, shut_down
from .metrics import metrics_front
from .observer import Observer
from .settings import (
    CacheSettings,
    ControlMode,
    LocalCacheSettings,
    MetricsSettings,
    RedisCacheSettings,
    Settings,
)
from .shared_memory import SharedMemory
from .tracer import Tracer

COLLECTOR_THRESHOLDS: Final = (50_000, 20, 20)

log: Final = structlog.stdlib.get_logger(__name__)


def run(settings: Settings) -> int:
    """Serve until told to stop; return the exit status."""
    try:
        server_log = logs.configure(settings.log)
    except OSError as error:
        log.error("log file cannot be opened: %s", error)  # noqa: TRY400 - the operator's mistake, not ours
        return EXIT_FAILURE
    for remark in settings.remarks:
        log.warning(remark)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_serve(settings, server_log))
        except InferError as error:
            log.error(error.message)  # noqa: TRY400 - the message says it all
            return EXIT_FAILURE


async def _serve(settings: Settings, server_log: logs.ServerLog) -> int:
    stop = StopSignals()
    calls = Calls(explicit=settings.repository.control_mode is ControlMode.EXPLICIT)
    async with (
        _cache(settings.cache) as cache,
        _repository(settings, calls, cache) as repository,
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
        doors, metrics = _fronts(doorway, settings)
        for front in (*doors, *metrics):
            front.prepare()
        watch = await _watch(repository, settings)
        if not await _load(repository, settings):
            observer.close()
            return EXIT_FAILURE
        calls.allow_control(repository.load, repository.unload)
        await open_doors([*doors, *metrics])
        show(repository, settings, {front.service: front.address for front in (*doors, *metrics)})
        _calm_the_collector()
        if watch is None:
            await stop.wait()
        else:
            async with polled(repository, watch, settings.repository.poll_s):
                await stop.wait()
        calls.stop()
        await shut_down(repository, doors, metrics, settings.exit_timeout_s)
        observer.close()
    return 0


async def _load(repository: Repository, settings: Settings) -> bool:
    """Load the models to start with; return whether to serve, which may be without some, or without any."""
    try:
        failed = await repository.load_at_start(_models_at_start(settings))
    except InferError as error:
        if settings.exit_on_error:
            raise
        log.error("the server serves nothing: %s", error.message)  # noqa: TRY400 - the message says it all
        return True
    if failed and settings.exit_on_error:
        show(repository, settings, {})
        log.error("creating server: Internal - failed to load all models", failed=failed)
        return False
    return True


def _calm_the_collector() -> None:
    """Let the collector pass over what is there to stay, and come by less often.

    A request leaves no cycles behind: whoever looks for them every seven hundred objects finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


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


def _repository(settings: Settings, house: House, cache: Store | None) -> Repository:
    chosen = settings.repository
    return Repository(
        chosen.paths,
        Catalog(settings.backends, house),
        LoadOptions(
            auto_complete=chosen.auto_complete,
            config_name=chosen.config_name,
            latencies=_latencies(settings.metrics),
            timeout_s=chosen.load_timeout_s,
            threads=chosen.load_threads,
            retries=chosen.load_retries,
            namespacing=chosen.namespacing,
            cache=cache,
        ),
        strict_readiness=chosen.strict_readiness,
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


async def _watch(repository: Repository, settings: Settings) -> Watch | None:
    """Return the watch on the repositories, None where nobody polls them."""
    chosen = settings.repository
    polls = chosen.control_mode is ControlMode.POLL and chosen.poll_s > 0
    there = all(path.is_dir() for path in chosen.paths)
    return await first_watch(repository) if polls and there else None


def _models_at_start(settings: Settings) -> tuple[str, ...] | None:
    """Return the names of the models to load first, None for all there are."""
    chosen = settings.repository
    if chosen.control_mode is not ControlMode.EXPLICIT or chosen.startup_models == ("*",):
        return None
    return chosen.startup_models


def _fronts(doorway: Doorway, settings: Settings) -> tuple[list[Front], list[Front]]:
    """Return the doors for requests, and the one for metrics."""
    doors: list[Front] = []
    if settings.grpc.enabled:
        doors.append(grpc_front(doorway, settings.grpc, settings.keepalive, settings.grpc_tls))
    if settings.http.enabled:
        doors.append(http_front(doorway, settings.http, settings.http_tls))
    metrics: list[Front] = [metrics_front(doorway, settings.metrics)] if settings.metrics.enabled else []
    return doors, metrics
