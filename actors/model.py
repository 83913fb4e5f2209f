"""One loaded version of a model: a router, its instances, and the scope they live and die in."""

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import structlog

from ..backends.api import Plan
from ..backends.durable_state import DurablePlan
from ..proto.admission import Admission
from ..proto.config import ModelConfig
from ..proto.errors import Fault, InferError
from ..proto.message import Request
from ..proto.phases import InstancePhase
from .clock import now
from .gate import Gate
from .instance import Instance
from .lane import Lane
from .leases import Leases
from .ordering import Line
from .reply import Reply
from .reshaping import ReshapingReply, reshaped_outputs
from .router import Abandon, Drain, Router, Withdraw
from .schedule import Forget, InstanceId, Job
from .schedules import is_ordered, schedule_of
from .statistics import Statistics

log: Final = structlog.get_logger("deuteron.model")


async def take_down(name: str, instances: Iterable[Instance], plan: Plan) -> None:
    """Close the instances of a model, however far they came, and then what they share."""
    lane = Lane(f"{name}_close")
    for instance in instances:
        await instance.close()
    await lane.call(plan.close)
    lane.close()


class ModelVersion:
    """A plain model: requests wait at its router and run on its instances."""

    __slots__ = (
        "_gate",
        "_instances",
        "_plan",
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
        plan: Plan,
        instances: Sequence[Instance],
        statistics: Statistics,
    ) -> None:
        self.name = config.name
        self.version = version
        self.config = config
        self.labels = labels
        self.admission = Admission(config)
        self.statistics = statistics
        self.edition = b""
        self.leases = Leases(lambda: self._router.signal(Drain()))
        self._plan = plan
        self._reshaped = reshaped_outputs(config)
        self._instances = {instance.id: instance for instance in instances}
        line = Line() if is_ordered(config) else None
        durable = isinstance(plan, DurablePlan)
        schedule = schedule_of(config, os.environ, statistics.sequences, durable=durable)
        self._gate: Gate | None = None
        self._router = Router(schedule, self, statistics, line=line)

    def __repr__(self) -> str:
        return (
            f"ModelVersion({self.name!r}, {self.version}, {self._router!r}, {list(self._instances.values())})"
        )

    def limit(self, gate: Gate) -> None:
        """Let instances run only as a gate lets them through; said before `serve`."""
        self._gate = gate
        self._router.stand_behind(gate)

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
        request.cancelled = True
        self._router.signal(Withdraw(request))

    @property
    def busy(self) -> bool:
        """Whether a request waits or runs."""
        return bool(len(self._router.schedule)) or any(instance.busy for instance in self._instances.values())

    @property
    def pending(self) -> int:
        """Requests that wait, at the router or on a lane; where a lane takes several batches, each is one."""
        return self.statistics.pending + sum(each.lined_up for each in self._instances.values())

    async def is_ready(self) -> bool:
        """Tell whether all instances say that requests are welcome."""
        return all(await asyncio.gather(*(instance.is_ready() for instance in self._instances.values())))

    def drain(self) -> None:
        """Refuse what comes when nobody holds this version any more, and serve what came before."""
        self.leases.drain()

    async def serve(self) -> None:
        """Serve until drained; raises InferError(UNAVAILABLE) when every instance broke for good."""
        try:
            async with asyncio.TaskGroup() as group:
                lives = [group.create_task(self._live(instance)) for instance in self._instances.values()]
                await self._router.run()
                await asyncio.gather(*(instance.vacate() for instance in self._instances.values()))
                for life in lives:
                    life.cancel()
        finally:
            await self._close()
        if all(life.cancelled() is False for life in lives):
            raise self._story()

    async def _live(self, instance: Instance) -> None:
        await instance.live(self._router.signal)
        if all(each.phase is InstancePhase.AWAY for each in self._instances.values()):
            self._router.signal(Abandon(self._story()))

    def _story(self) -> InferError:
        return InferError(
            Fault.UNAVAILABLE,
            f"every instance of model '{self.name}' broke more often than its restart budget allows",
        )

    def dispatch(self, instance: InstanceId, jobs: Sequence[Job]) -> None:
        """Send a batch on its way to an instance."""
        self._instances[instance].dispatch(jobs)

    def forget(self, order: Forget) -> None:
        """Tell an instance of a sequence that was abandoned."""
        self._instances[order.instance].forget(order)

    async def _close(self) -> None:
        if self._gate is not None:
            self._gate.close()
        await take_down(self.name, self._instances.values(), self._plan)
