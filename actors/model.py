"""One loaded version of a model: a router, its instances, and the scope they live and die in."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import structlog

from ..backends.durable_state import DurablePlan
from ..proto.admission import Admission
from ..proto.config import ModelConfig
from ..proto.errors import Fault, InferError
from ..proto.message import Request
from .batching import Joins
from .clock import now
from .instance_set import InstanceSet
from .leases import Leases
from .news import Abandon, Drain, Withdraw
from .ordering import Line
from .reply import Reply
from .reshaping import ReshapingReply, reshaped_outputs
from .router import Router
from .schedule import Job
from .schedules import is_ordered, schedule_of
from .statistics import Statistics

log: Final = structlog.get_logger("deuteron.model")


LEAVES_WITHIN_S: Final = 30.0
"""Seconds in which an instance is waited for that is to leave, and to which nothing is bound."""


class ModelVersion:
    """A plain model: requests wait at its router and run on its instances."""

    __slots__ = (
        "_despaired",
        "_instances",
        "_reshaped",
        "_router",
        "admission",
        "config",
        "edition",
        "labels",
        "leases",
        "name",
        "statistics",
        "version",
    )

    def __init__(
        self,
        config: ModelConfig,
        version: int,
        labels: Mapping[str, Sequence[str]],
        instances: InstanceSet,
        statistics: Statistics,
        joins: Joins | None = None,
    ) -> None:
        self.name = config.name
        self.version = version
        self.config = config
        self.labels = labels
        self.admission = Admission(config)
        self.statistics = statistics
        self.edition = b""
        self._reshaped = reshaped_outputs(config)
        self._instances = instances
        self._despaired = False
        line = Line() if is_ordered(config) else None
        durable = isinstance(instances.plan, DurablePlan)
        schedule = schedule_of(config, os.environ, statistics.sequences, durable=durable, joins=joins)
        self._router = Router(schedule, instances, statistics, line=line)
        self.leases = Leases(partial(self._router.signal, Drain()))
        if instances.gate is not None:
            self._router.stand_behind(instances.gate)

    def __repr__(self) -> str:
        return f"ModelVersion({self.name!r}, {self.version}, {self._router!r}, {self._instances!r})"

    def infer(self, request: Request, reply: Reply) -> Job:
        """Check a request and leave it with the router; raises InferError at once when it is refused."""
        self.admission.check(request)
        job = Job(request, reply, now())
        self.take(job)
        return job

    def take(self, job: Job) -> None:
        """Leave a checked request with the router; raises InferError when there is no room for it."""
        if self._reshaped:
            batching = self.config.max_batch_size > 0
            job.reply = ReshapingReply(job.reply, self._reshaped, batching=batching)
        self._router.post(job)

    def cancel(self, request: Request) -> None:
        """Take a request out of the queue; one that runs already is only told."""
        log.debug("Cancellation notification received for %s", self.name, request_id=request.id)
        request.cancel()
        self._router.signal(Withdraw(request))

    @property
    def busy(self) -> bool:
        """Whether a request waits or runs."""
        return bool(len(self._router.schedule)) or self._instances.busy

    @property
    def occupied(self) -> frozenset[str]:
        """The names of all instances, if a batch runs on each of them, else none."""
        return self._instances.occupied

    @property
    def pending(self) -> int:
        """Requests that wait, at the router or on a lane; where a lane takes several batches, each is one."""
        return self.statistics.pending + self._instances.lined_up

    async def is_ready(self) -> bool:
        """Tell whether all instances say that requests are welcome."""
        return await self._instances.is_ready()

    def drain(self) -> None:
        """Refuse what comes when nobody holds this version any more, and serve what came before."""
        self.leases.drain()

    async def serve(self) -> None:
        """Serve until drained; raises InferError(UNAVAILABLE) when every instance broke for good."""
        try:
            async with asyncio.TaskGroup() as group:
                self._instances.begin(group, self._router.signal, self._despair)
                await self._router.run()
                await self._instances.end()
        finally:
            await self._instances.close()
        if self._despaired:
            raise self._story()

    async def rearrange(self, config: ModelConfig) -> None:
        """Have the instances of a configuration that differs in nothing else, while requests go on."""
        gone = await self._instances.seat(config)
        self.config = config
        soon = [each for instance, each in gone.items() if not self._router.schedule.holds(instance)]
        if soon:
            await asyncio.wait(soon, timeout=LEAVES_WITHIN_S)

    def _despair(self) -> None:
        """Hear that every instance broke for good."""
        self._despaired = True
        self._router.signal(Abandon(self._story()))

    def _story(self) -> InferError:
        return InferError(
            Fault.UNAVAILABLE,
            f"every instance of model '{self.name}' broke more often than its restart budget allows",
        )
