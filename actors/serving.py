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
from .servable import Loaded, Servable

log: Final = structlog.get_logger("deuteron.repository")


class Serving:
    """All versions that serve, and those that are on their way out."""

    def __init__(self) -> None:
        self._scope = asyncio.TaskGroup()
        self._tasks: dict[Servable, asyncio.Task[None]] = {}
        self._posts: dict[Servable, tuple[ModelRecord, int]] = {}
        """Where the versions stand that were found."""
        self._stories: dict[Servable, str] = {}
        """What is told of versions when they have ended, where they were told to."""
        self.stopping = False

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._scope.__aexit__(None, None, None)

    def start(self, servable: Loaded, private: Leases | None = None) -> None:
        """Let a version serve that nobody finds yet; `private` is held while it does."""
        if private is not None:
            private.take()
        self._tasks[servable] = self._scope.create_task(self._serve(servable, private))

    def begin(self, record: ModelRecord, version: int, servable: Loaded) -> None:
        """Let a version that was started be found, in the place of the one that was."""
        entry = record.versions[version]
        previous = entry.servable
        entry.step(VersionEvent.RELOADED if entry.phase is VersionPhase.READY else VersionEvent.LOADED)
        entry.servable = servable
        self._posts[servable] = record, version
        record.refresh()
        if previous is not None:
            previous.drain()
        log.info("model is ready", model=servable.name, version=version)
        if servable not in self._tasks:
            self._note_end(servable, "Unavailable: it ended before it was in service")

    def is_alive(self, servable: Servable) -> bool:
        """Whether a version serves, or is on its way out."""
        return servable in self._tasks

    def retire(self, record: ModelRecord, version: int, story: str = UNLOADED) -> None:
        """Let a READY version answer what it has and end; the story is what the index tells afterwards."""
        entry = record.versions[version]
        entry.step(VersionEvent.UNLOAD)
        record.refresh()
        if entry.servable is not None:
            self._stories[entry.servable] = story
            entry.servable.drain()

    def discard(self, servable: Loaded) -> None:
        """Let a version end that was built and is not wanted, whether it was started or not."""
        servable.drain()
        if servable not in self._tasks:
            self.start(servable)

    async def ended(self, servable: Servable) -> None:
        """Wait until a version has ended, which was told to."""
        task = self._tasks.get(servable)
        if task is not None:
            await asyncio.wait((task,))

    async def wait(self) -> None:
        """Wait until all that serve now have ended."""
        await asyncio.gather(*self._tasks.values())

    async def _serve(self, servable: Loaded, private: Leases | None) -> None:
        """Let a version serve until it ends; whatever ends it, the others go on."""
        story = ""
        try:
            await servable.serve()
        except* InferError as group:
            story = "; ".join(error.titled for error in group.exceptions if isinstance(error, InferError))
        except* Exception as group:
            log.exception(
                "model version ended by an error of the server",
                model=servable.name,
                version=servable.version,
            )
            story = f"Internal: {group.exceptions[0]!r}"
        finally:
            if private is not None:
                private.give_back()
            del self._tasks[servable]
            told = self._stories.pop(servable, UNLOADED)
        self._note_end(servable, story or told)

    def _note_end(self, servable: Servable, story: str) -> None:
        post = self._posts.pop(servable, None)
        if post is None:
            return  # it was never in service
        record, version = post
        entry = record.versions.get(version)
        if entry is None or entry.servable is not servable:
            return  # another has taken its place
        entry.servable = None
        if entry.phase is VersionPhase.UNLOADING:
            entry.step(VersionEvent.DRAINED, story)
        elif entry.phase is VersionPhase.READY and not self.stopping:
            entry.step(VersionEvent.DIED, story)
        record.refresh()
