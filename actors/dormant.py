"""A version of a model that is in memory only while it is used.

To everybody else it is a version like any other, READY from the moment its configuration is known. A request
that finds it asleep waits here until it is awake; what the waking of it takes is the matter of `waking`. What
is asleep has no instances, no threads and no weights. Its statistics go on over all its sleeps.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

from ..proto.admission import Admission
from ..proto.config import ModelConfig
from ..proto.errors import Fault, InferError
from ..proto.message import Request, Response
from .clock import SECOND, Instant, now
from .leases import Leases
from .one_by_one import QUEUE_CAPACITY, queue_full
from .reply import Reply
from .router import stopped
from .schedule import Job
from .servable import Loaded
from .statistics import Statistics

RETRY_AFTER: Final = 5 * SECOND
"""How long a version that could not be woken is not tried again: its requests hear at once why."""

Build = Callable[[Statistics], Awaitable[Loaded]]
"""Builds the version that does the work, and begins to serve it; raises InferError."""


class Alarm(Protocol):
    """Whoever wakes versions and lets them sleep."""

    def wake(self, version: "DormantVersion") -> None:
        """Have a version woken; harmless while that goes on."""

    def used(self, version: "DormantVersion") -> None:
        """Hear that a version was used while it was awake."""

    def is_alive(self, version: Loaded) -> bool:
        """Whether the version that does the work is still there."""

    async def dismiss(self, version: "DormantVersion") -> None:
        """Let a version sleep for ever."""


class DormantVersion:
    """A version that sleeps while nobody asks it."""

    __slots__ = (
        "_alarm",
        "_failure",
        "_retry_at",
        "_stop",
        "_waiting",
        "_worker",
        "admission",
        "build",
        "config",
        "edition",
        "labels",
        "leases",
        "name",
        "size_on_disk",
        "statistics",
        "version",
    )

    def __init__(
        self,
        config: ModelConfig,
        version: int,
        labels: Mapping[str, Sequence[str]],
        statistics: Statistics,
        build: Build,
        alarm: Alarm,
    ) -> None:
        self.name = config.name
        self.version = version
        self.config = config
        self.labels = labels
        self.admission = Admission(config)
        self.statistics = statistics
        self.edition = os.urandom(16)
        self.leases = Leases(self._begin_stop)
        self.build = build
        self.size_on_disk = 0
        """What it is taken to need before that is known."""
        self._alarm = alarm
        self._worker: Loaded | None = None
        """The version that does the work; None while this one sleeps."""
        self._waiting: list[Job] = []
        self._failure: InferError | None = None
        self._retry_at: Instant = 0
        self._stop = asyncio.Event()

    def __repr__(self) -> str:
        return f"DormantVersion({self.name!r}, {self.version}, {self._worker!r}, {len(self._waiting)} wait)"

    # --- what everybody sees ---

    def infer(self, request: Request, reply: Reply) -> Job:
        """Check a request and take it; raises InferError at once when it is refused."""
        self.admission.check(request)
        job = Job(request, reply, now())
        self.take(job)
        return job

    def take(self, job: Job) -> None:
        """Hand a checked request on, or let it wait until this version is awake; raises InferError."""
        if self._stop.is_set():
            raise stopped(job.request)
        worker = self._worker
        if worker is not None and self._alarm.is_alive(worker):
            self._alarm.used(self)
            worker.take(job)
            return
        if self._failure is not None and now() < self._retry_at:
            raise self._failure
        if len(self._waiting) >= QUEUE_CAPACITY:
            raise queue_full(job.request)
        self._waiting.append(job)
        self.statistics.pending += 1
        self._alarm.wake(self)

    def cancel(self, request: Request) -> None:
        """Mark a request, which is answered when this version wakes; one that is handed on is told."""
        request.cancelled = True
        if self._worker is not None:
            self._worker.cancel(request)

    @property
    def busy(self) -> bool:
        """Whether a request waits or runs."""
        return bool(self._waiting) or (self._worker is not None and self._worker.busy)

    @property
    def pending(self) -> int:
        """Requests that do not execute yet."""
        return self._worker.pending if self._worker is not None else self.statistics.pending

    async def is_ready(self) -> bool:
        """Tell that requests are welcome, unless the version that does the work says otherwise."""
        return self._worker is None or await self._worker.is_ready()

    def drain(self) -> None:
        """Refuse what comes when nobody holds this version any more, and serve what came before."""
        self.leases.drain()

    async def serve(self) -> None:
        """Serve until drained."""
        await self._stop.wait()
        await self._alarm.dismiss(self)

    def _begin_stop(self) -> None:
        self._stop.set()

    # --- what only those see who wake it and let it sleep ---

    @property
    def is_asked(self) -> bool:
        """Whether requests wait for this version to wake."""
        return bool(self._waiting)

    def awake(self, worker: Loaded) -> None:
        """Hear that the version that does the work serves now, and hand on what waits."""
        self._worker, self._failure = worker, None
        for job in self._take_waiting():
            if job.request.cancelled:
                self._refuse(job, InferError(Fault.CANCELLED, ""), "CANCELED")
                continue
            try:
                worker.take(job)
            except InferError as error:
                self._refuse(job, error, "OTHER")

    def not_awake(self, reason: str) -> None:
        """Hear why it cannot be woken, and tell whoever waits."""
        text = f"model '{self.name}' could not be loaded on demand: {reason}"
        self._failure = InferError(Fault.UNAVAILABLE, text)
        self._retry_at = now() + RETRY_AFTER
        for job in self._take_waiting():
            self._refuse(job, self._failure, "OTHER")

    def fall_asleep(self) -> Loaded | None:
        """Let go of the version that does the work, and return it."""
        worker, self._worker = self._worker, None
        return worker

    def _take_waiting(self) -> list[Job]:
        waiting, self._waiting = self._waiting, []
        self.statistics.pending -= len(waiting)
        return waiting

    def _refuse(self, job: Job, error: InferError, reason: str) -> None:
        self.statistics.failed(now() - job.arrived, reason)
        job.answered = True
        job.reply.send(Response(error=error))
