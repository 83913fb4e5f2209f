"""Waking: loads models when they are asked for, and makes room for them by letting others sleep.

Who has to go is decided by the books (see `residency`); here they are kept true. How much a model takes is
measured: it is what the server and its worker processes hold more when it is awake. So models wake one after
the other where there is a budget, and one that falls asleep has ended, and its memory is given back, before
the next one wakes. A model that is asked while it falls asleep wakes again.
"""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Final

import structlog

from ..backends.footprint import give_back, resident_bytes, return_large_blocks
from ..proto.errors import InferError
from .dormant import DormantVersion
from .records import on_one_line, titled
from .residency import OnDemand, Residency
from .servable import Loaded
from .serving import Serving

log: Final = structlog.get_logger("deuteron.repository")

SMALLEST: Final = 1 << 20
"""Bytes that a model is taken to need at least: measuring is not as exact as that."""
ENOUGH: Final = 0.9
"""The part of what versions took that is to come back when they fall asleep; else circles are sought."""
LOOK_EVERY_S: Final = 0.005
"""Seconds from one look to the next whether somebody is idle, where all are at work."""


class Waking:
    """Wakes versions and lets them sleep."""

    def __init__(self, serving: Serving, options: OnDemand) -> None:
        self._serving = serving
        self._books: Residency[DormantVersion] = Residency(options.budget)
        self._turn = asyncio.Lock() if options.budget else None
        if options.budget:
            return_large_blocks()
        self._tasks: dict[DormantVersion, asyncio.Task[None]] = {}
        self.hits = 0
        """Requests that found their model awake."""
        self.misses = 0
        """Times a model had to be woken."""
        self.evictions = 0
        """Times one had to sleep to make room."""

    @property
    def awake(self) -> int:
        """Versions that are awake."""
        return len(self._books)

    @property
    def used_bytes(self) -> int:
        """What they take, as it was measured."""
        return self._books.used

    def used(self, version: DormantVersion) -> None:
        """Hear that a version was used while it was awake."""
        self.hits += 1
        if version in self._books:
            self._books.touch(version)

    def is_alive(self, version: Loaded) -> bool:
        """Whether the version that does the work is still there."""
        return self._serving.is_alive(version)

    def wake(self, version: DormantVersion) -> None:
        """Have a version woken; harmless while that goes on."""
        if version not in self._tasks:
            self.misses += 1
            task = self._tasks[version] = asyncio.create_task(self._wake(version))
            task.add_done_callback(lambda _: self._tasks.pop(version))

    async def dismiss(self, version: DormantVersion) -> None:
        """Let a version sleep for ever."""
        task = self._tasks.get(version)
        if task is not None:
            await asyncio.wait((task,))
        await self._let_sleep(version)
        self._books.forget(version)

    async def _wake(self, version: DormantVersion) -> None:
        async with self._turn or nullcontext():
            await self._let_sleep(version)  # what is left of one that broke for good
            await self._make_room(version)
            before = await asyncio.to_thread(resident_bytes)
            try:
                worker = await version.build(version.statistics)
            except BaseException as error:  # noqa: BLE001 - also one that was broken off: those who wait are to hear
                reason = titled(error)
                log.error("model cannot be woken", model=version.name, reason=on_one_line(reason))  # noqa: TRY400 - its own text says enough
                version.not_awake(error.message if isinstance(error, InferError) else reason)
                return
            after = await asyncio.to_thread(resident_bytes)
            self._books.enter(version, max(after - before, version.size_on_disk, SMALLEST))
        version.awake(worker)

    async def _make_room(self, version: DormantVersion) -> None:
        needed = self._books.size_of(version, max(version.size_on_disk, self._books.usual_size, SMALLEST))
        while (going := self._books.who_must_go(needed, lambda each: not each.busy)) is None:  # noqa: ASYNC110 - as below
            await asyncio.sleep(LOOK_EVERY_S)  # nobody calls when a model has nothing more to do
        if going:
            await self._evict(going)

    async def _evict(self, going: Sequence[DormantVersion]) -> None:
        """Let versions sleep and see that their memory comes back."""
        expected = sum(self._books.size_of(each, 0) for each in going)
        before = await asyncio.to_thread(resident_bytes)
        for each in going:
            self.evictions += 1
            await self._let_sleep(each)
        await asyncio.to_thread(give_back)
        if before - await asyncio.to_thread(resident_bytes) < expected * ENOUGH:
            await asyncio.to_thread(give_back, thoroughly=True)

    async def _let_sleep(self, version: DormantVersion) -> None:
        worker = version.fall_asleep()
        self._books.leave(version)
        if worker is not None:
            worker.drain()
            await self._serving.ended(worker)
