"""How the server comes up and goes down.

Up: the places of the doors are kept, then the models are loaded, then the doors opened; so a place that is
taken shows at once, and a port that answers belongs to a server that serves. Down, on SIGINT or SIGTERM: the
server stops being ready, the doors refuse newcomers and answer what they hold, the models drain, their lanes
close, and the metrics end last, so that the last scrape sees it all. A second signal ends the process at
once, and so does the exit timeout.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from ..actors.repository import Repository
from .interior import Interior

log: Final = structlog.stdlib.get_logger(__name__)

EXIT_FAILURE: Final = 1


class Front(Protocol):
    """A door of the server."""

    @property
    def service(self) -> str:
        """What it is called in the log."""

    @property
    def address(self) -> str:
        """Where it listens, as `address:port`."""

    def prepare(self) -> None:
        """Keep the place to listen at; raises InferError where that cannot be."""

    async def start(self) -> None:
        """Listen; raises InferError where that cannot be."""

    async def stop_accepting(self) -> None:
        """Refuse newcomers; requests that are being served go on."""

    async def close(self, grace_s: float) -> None:
        """End, after what is being served or after the grace."""


@dataclass(frozen=True, slots=True)
class Fronts:
    """All doors of a server; one that is used as a library may have none."""

    doors: tuple[Front, ...] = ()
    """Those for requests, in the order in which they open."""
    metrics: tuple[Front, ...] = ()

    @property
    def all(self) -> tuple[Front, ...]:
        """Return every door, in the order in which they open."""
        return (*self.doors, *self.metrics)

    def prepare(self) -> None:
        """Keep the places to listen at; raises InferError where that cannot be."""
        for front in self.all:
            front.prepare()

    async def open(self) -> None:
        """Let all doors listen; raises the first InferError, and then none does."""
        try:
            for front in self.all:
                await front.start()
        except BaseException:
            await self.abandon()
            raise

    async def abandon(self) -> None:
        """Give up the places, whoever is still being served."""
        for front in self.all:
            await front.close(0)


class StopSignals:
    """The two stages of being told to stop."""

    def __init__(self) -> None:
        self._told = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._receive, number)

    async def wait(self) -> None:
        """Wait for the first signal."""
        await self._told.wait()

    def _receive(self, number: signal.Signals) -> None:
        if self._told.is_set():
            log.warning("Signal (%d) received again. Exiting immediately.", number.value)
            exit_at_once()
        log.info("Signal (%d) received.", number.value)
        self._told.set()


def exit_at_once() -> None:
    """End the process without waiting for anything: threads in model code may never return."""
    os._exit(EXIT_FAILURE)


def _out_of_time() -> None:
    log.error("Exit timeout expired. Exiting immediately.")
    exit_at_once()


async def shut_down(
    interior: Interior, fronts: Fronts, timeout_s: float, expired: Callable[[], None] = _out_of_time
) -> None:
    """Drain doors, then models, then end the metrics; where that takes too long `expired` is called."""
    repository = interior.doorway.repository
    interior.calls.stop()
    countdown = asyncio.ensure_future(_count_down(repository, timeout_s, expired))
    repository.stopping = True
    for door in fronts.doors:
        await door.stop_accepting()
    # The door that opened first closes last: until all are served, gRPC tells newcomers why they are not.
    for door in reversed(fronts.doors):
        await door.close(timeout_s)
    await repository.close()
    for front in fronts.metrics:
        await front.close(0)
    countdown.cancel()


async def _count_down(repository: Repository, timeout_s: float, expired: Callable[[], None]) -> None:
    for remaining in range(int(timeout_s), 0, -1):
        await asyncio.sleep(1)
        busy = sum(1 for servable in repository.served() if servable.busy)
        log.info("Timeout %d: Found %d model versions that have in-flight inferences", remaining, busy)
    expired()
