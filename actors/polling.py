"""Polling: repositories that are looked at again and again, and followed.

A model is taken over as it was found only if it was found so twice: what still changes between two looks, a
version that is being copied or a model that is being replaced, is left as it is until it has come to rest.
What was tried and could not be loaded is tried again when it changes. `Watch` decides this, from fingerprints
alone; `polled` looks, and has the repository follow.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from ..backends.fingerprints import Fingerprints
from ..backends.model_directory import list_repositories, look_again
from ..backends.model_home import RemoteRepository
from ..proto.model_id import ModelId
from .repository import Repository

log: Final = structlog.get_logger("deuteron.repository")

Look = Mapping[ModelId, Fingerprints]
"""The models that were found, and what their files were."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do about what was found."""

    load: tuple[ModelId, ...] = ()
    unload: tuple[ModelId, ...] = ()


class Watch:
    """What was found last, and what of it has been followed."""

    __slots__ = ("_before", "_followed")

    def __init__(self, first: Look) -> None:
        self._followed = dict(first)
        self._before = first

    def compare(self, found: Look) -> Changes:
        """Return what has come to rest in another state than the one that was followed last."""
        before, self._before = self._before, found
        changed = {name for name in {*found, *self._followed} if found.get(name) != self._followed.get(name)}
        at_rest = {name for name in changed if found.get(name) == before.get(name)}
        for name in at_rest:
            if name in found:
                self._followed[name] = found[name]
            else:
                del self._followed[name]
        return Changes(load=tuple(sorted(at_rest & set(found))), unload=tuple(sorted(at_rest - set(found))))


def look(repositories: Sequence[Path | RemoteRepository], *, namespacing: bool = False) -> Look:
    """Return the models that can be told apart now; blocks. Raises InferError or OSError."""
    look_again(repositories)
    listing = list_repositories(repositories, namespacing=namespacing)
    return {model: home.fingerprints() for model, home in listing.found.items()}


async def _look_at(repository: Repository) -> Look:
    return await asyncio.to_thread(look, repository.paths, namespacing=repository.namespacing)


async def first_watch(repository: Repository) -> Watch:
    """Return a watch on the repositories as they are now, before the models are loaded from there."""
    return Watch(await _look_at(repository))


@asynccontextmanager
async def polled(repository: Repository, watch: Watch, every_s: float) -> AsyncIterator[None]:
    """Have the repository follow what happens on disk for the length of the block."""
    polling = asyncio.create_task(_keep_polling(repository, watch, every_s))
    try:
        yield
    finally:
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)


async def _keep_polling(repository: Repository, watch: Watch, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            changes = watch.compare(await _look_at(repository))
            await repository.follow(changes.load, changes.unload)
        except Exception as error:  # noqa: BLE001 - a disk that fails now may be back at the next look
            log.error("model repository cannot be polled", reason=f"{type(error).__name__}: {error}")  # noqa: TRY400
