"""The instances of one version of a model: who is there, who comes, and who goes while the others serve.

Newcomers are seated before anything else changes; where one cannot be, nothing has. Then they are introduced
to the router, and it is told whom to let go. An instance leaves when nothing is bound to it (a sequence lives
where it began, to its end) and it has answered what it was given.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Final

import structlog

from ..backends.api import Plan, Seat
from ..backends.device import HostStream
from ..proto.config import ModelConfig
from ..proto.errors import Fault, InferError
from ..proto.phases import InstancePhase
from .gate import Gate
from .instance import Instance
from .lane import Lane
from .news import Allow, Message, Retire
from .schedule import Forget, InstanceId, Job
from .schedules import depth_of
from .seating import Place, places_of, rearrange
from .statistics import Statistics

log: Final = structlog.get_logger("deuteron.model")

Signal = Callable[[Message], None]


class InstanceSet:
    """All instances of a version, over the plan that they share."""

    __slots__ = (
        "_by_id",
        "_despair",
        "_gone",
        "_group",
        "_lives",
        "_numbers",
        "_places",
        "_signal",
        "_statistics",
        "gate",
        "plan",
    )

    _signal: Signal
    _despair: Callable[[], None]

    def __init__(self, plan: Plan, statistics: Statistics, gate: Gate | None = None) -> None:
        self.gate = gate
        """What lets instances run, where they need resources that all models share."""
        self.plan = plan
        self._statistics = statistics
        self._by_id: dict[InstanceId, Instance] = {}
        self._places: dict[InstanceId, Place] = {}
        self._numbers = count()
        self._group: asyncio.TaskGroup | None = None
        self._lives: dict[InstanceId, asyncio.Task[None]] = {}
        self._gone: dict[InstanceId, asyncio.Future[None]] = {}
        """Those that are to leave, and what tells when they have."""

    def __repr__(self) -> str:
        return repr(list(self._by_id.values()))

    @property
    def busy(self) -> bool:
        """Whether a batch runs, or a request is open that one has left."""
        return any(instance.busy for instance in self._by_id.values())

    @property
    def occupied(self) -> frozenset[str]:
        """The names of all instances, if a batch runs on each of them, else none."""
        if not all(instance.runs for instance in self._by_id.values()):
            return frozenset()
        return frozenset(instance.name for instance in self._by_id.values())

    @property
    def lined_up(self) -> int:
        """Batches on lanes behind those that run."""
        return sum(instance.lined_up for instance in self._by_id.values())

    async def is_ready(self) -> bool:
        """Tell whether all instances say that requests are welcome."""
        return all(await asyncio.gather(*(instance.is_ready() for instance in self._by_id.values())))

    def dispatch(self, instance: InstanceId, jobs: Sequence[Job]) -> None:
        """Send a batch to an instance."""
        self._by_id[instance].dispatch(jobs)

    def forget(self, order: Forget) -> None:
        """Tell an instance of a sequence that was abandoned."""
        self._by_id[order.instance].forget(order)

    async def seat(
        self, config: ModelConfig, first_lane: Lane | None = None
    ) -> Mapping[InstanceId, asyncio.Future[None]]:
        """Have the instances that a configuration asks for; return what tells when those that go have gone.

        The first of all may have a lane already. Raises what an engine raises that cannot be seated; then all
        is as it was.
        """
        staying = {id_: place for id_, place in self._places.items() if id_ not in self._gone}
        change = rearrange(staying, places_of(config))
        depth = 1 if self.gate is not None else depth_of(config, len(change.kept) + len(change.added))
        added = {next(self._numbers): place for place in change.added}
        self._join(added)
        newcomers: list[Instance] = []
        for id_, place in added.items():
            lane = first_lane if first_lane is not None and not newcomers else Lane(place.name)
            seat = Seat(place.name, id_, place.device, HostStream())
            newcomers.append(
                Instance(seat, self.plan, lane, self._statistics, streaming=config.decoupled, depth=depth)
            )
        await self._start(newcomers)
        for instance, place in zip(newcomers, change.added, strict=True):
            self._by_id[instance.id] = instance
            self._places[instance.id] = place
            if self._group is not None:
                self._introduce(instance, self._group)
        self._places.update(change.kept)
        for id_ in change.kept:
            self._by_id[id_].depth = depth
            self._signal(Allow(id_, depth))
        return {id_: self._dismiss(id_) for id_ in change.left}

    def begin(self, group: asyncio.TaskGroup, signal: Signal, despair: Callable[[], None]) -> None:
        """Let all instances live, in a scope, and tell their news to a router.

        Whoever gives the scope hears by `despair` that all broke more often than they may.
        """
        self._group, self._signal, self._despair = group, signal, despair
        for instance in self._by_id.values():
            self._introduce(instance, group)

    async def end(self) -> None:
        """Wait until all have answered what they were given, and let none come back from now on."""
        await asyncio.gather(*(instance.vacate() for instance in self._by_id.values()))
        self._group = None
        for life in self._lives.values():
            life.cancel()

    async def close(self) -> None:
        """Close the instances, however far they came, and then what they share."""
        self._group = None
        if self.gate is not None:
            self.gate.close()
        for instance in tuple(self._by_id.values()):
            await instance.close()
        for gone in self._gone.values():
            gone.set_result(None)
        # What has ended lets go of all that leads back to it: memory is not to wait for the collector.
        self._gone.clear()
        self._by_id.clear()
        self._lives.clear()
        self._signal, self._despair = _nobody, _nobody
        lane = Lane("close")
        try:
            await lane.call(self.plan.close)
        finally:
            lane.close()

    def _join(self, added: Mapping[InstanceId, Place]) -> None:
        """Let newcomers take part in what is shared, or none and raise the first error."""
        if self.gate is None:
            return
        joined: list[InstanceId] = []
        try:
            for id_, place in added.items():
                self.gate.join(id_, place.claim)
                joined.append(id_)
        except InferError:
            self._part(joined)
            raise

    def _part(self, ids: Iterable[InstanceId]) -> None:
        if self.gate is not None:
            for id_ in ids:
                self.gate.leave(id_)

    async def _start(self, newcomers: Sequence[Instance]) -> None:
        """Seat all, or none and raise the first error."""
        outcomes = await asyncio.gather(*(each.start() for each in newcomers), return_exceptions=True)
        failure = next((outcome for outcome in outcomes if outcome is not None), None)
        if failure is None and self._lives and self._group is None:
            failure = InferError(Fault.UNAVAILABLE, "the model ended while its instances changed")
        if failure is not None:
            for instance in newcomers:
                await instance.close()
            self._part(instance.id for instance in newcomers)
            raise failure

    def _introduce(self, instance: Instance, group: asyncio.TaskGroup) -> None:
        self._lives[instance.id] = group.create_task(self._live(instance))

    async def _live(self, instance: Instance) -> None:
        await instance.live(self._signal)
        if all(each.phase is InstancePhase.AWAY for each in self._by_id.values()):
            self._despair()

    def _dismiss(self, id_: InstanceId) -> asyncio.Future[None]:
        """Ask the router to let an instance go; return what tells when it has gone."""
        self._gone[id_] = asyncio.get_running_loop().create_future()
        self._signal(Retire(id_, lambda: self._see_off(id_)))
        return self._gone[id_]

    def _see_off(self, id_: InstanceId) -> None:
        if self._group is not None:
            self._group.create_task(self._leave(id_))

    async def _leave(self, id_: InstanceId) -> None:
        instance, life = self._by_id[id_], self._lives.pop(id_)
        life.cancel()
        await asyncio.wait((life,))
        await instance.vacate()
        self._part((id_,))
        del self._by_id[id_]
        await instance.close()
        log.info("instance left", instance=self._places.pop(id_).name)
        self._gone.pop(id_).set_result(None)


def _nobody(*_: object) -> None:
    """Take the news of instances that are closed: there are none."""
