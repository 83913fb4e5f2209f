"""The composition root of the command: the interior of a server, its doors, and what makes it a process."""

import asyncio
import gc
from typing import Final

import structlog
import uvloop

from ..proto.errors import InferError
from . import logs
from .banner import show
from .doors import fronts_of
from .interior import Interior, furnished
from .lifecycle import EXIT_FAILURE, StopSignals, shut_down
from .settings import Settings

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
    async with furnished(settings, server_log) as interior:
        fronts = fronts_of(interior.doorway, settings)
        fronts.prepare()
        if not await _load(interior, settings):
            return EXIT_FAILURE
        await fronts.open()
        show(interior.doorway.repository, settings, {front.service: front.address for front in fronts.all})
        _calm_the_collector()
        async with interior.polled():
            await stop.wait()
        await shut_down(interior, fronts, settings.exit_timeout_s)
    return 0


async def _load(interior: Interior, settings: Settings) -> bool:
    """Load the models to start with; return whether to serve, which may be without some, or without any."""
    try:
        failed = await interior.load()
    except InferError as error:
        if settings.exit_on_error:
            raise
        log.error("the server serves nothing: %s", error.message)  # noqa: TRY400 - the message says it all
        return True
    if failed and settings.exit_on_error:
        show(interior.doorway.repository, settings, {})
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
