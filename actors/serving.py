"""The scope in which versions serve: each in a task of its own, until it is retired, replaced or breaks.

Here a version that was built goes into service, and one that is not wanted any more leaves it; what that
means for its record is written by nobody else. The scope ends when all its versions have.
"""

import asyncio
from typing import Final, Self

import structlog

from ..proto.errors import InferError
from ..proto.phases import VersionEvent, VersionPhase
from .leases import Leases
from .records import UNLOADED, ModelRecord
from .servable import Servable

log: Final = structlog.get_logger("deuteron.repository")


class Serving:
    """All versions that serve, and those that are on their way out."""

    def __init__(self) -> None:
        self._scope = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self.stopping = False

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._scope.__aexit__(None, None, None)

    def begin(
        self, record: ModelRecord, version: int, servable: Servable, private: Leases | None = None
    ) -> None:
        """Let a version serve, in the place of the one that did; `private` is held while it does."""
        entry = record.versions[version]
        previous = entry.servable
        entry.step(VersionEvent.RELOADED if entry.phase is VersionPhase.READY else VersionEvent.LOADED)
        entry.servable = servable
        self._keep(record, version, servable, private)
        record.refresh()
        if previous is not None:
            previous.drain()
        log.info("model is ready", model=servable.name, version=version)

    def retire(self, record: ModelRecord, version: int) -> None:
        """Let a READY version answer what it has and end."""
        entry = record.versions[version]
        entry.step(VersionEvent.UNLOAD)
        record.refresh()
        if entry.servable is not None:
            entry.servable.drain()

    def discard(self, servable: Servable) -> None:
        """Let a version end that was built and is not wanted."""
        servable.drain()
        self._keep(ModelRecord(), servable.version, servable, None)

    async def wait(self) -> None:
        """Wait until all that serve now have ended."""
        await asyncio.gather(*self._tasks)

    def _keep(self, record: ModelRecord, version: int, servable: Servable, private: Leases | None) -> None:
        if private is not None:
            private.take()
        task = self._scope.create_task(self._serve(record, version, servable, private))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(
        self, record: ModelRecord, version: int, servable: Servable, private: Leases | None
    ) -> None:
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
        finally:
            if private is not None:
                private.give_back()
        self._note_end(record, version, servable, story)

    def _note_end(self, record: ModelRecord, version: int, servable: Servable, story: str) -> None:
        entry = record.versions.get(version)
        if entry is None or entry.servable is not servable:
            return  # it was never in service, or another has taken its place
        entry.servable = None
        if entry.phase is VersionPhase.UNLOADING:
            entry.step(VersionEvent.DRAINED, story)
        elif entry.phase is VersionPhase.READY and not self.stopping:
            entry.step(VersionEvent.DIED, story)
        record.refresh()
