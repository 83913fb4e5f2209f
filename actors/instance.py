"""One instance of a model: an engine on a lane of its own, and what happens when it breaks.

Batches go straight to the lane and come back from it; nothing here waits for them. Those for an engine that
works in another process are sent there at once, and the loop hears when they have returned: no thread waits.

What the instance itself lives through is slow and rare: it is seated, it may break, it comes back on a new
lane after a wait, and when it breaks too often it stays away. Its life cycle is the table `INSTANCE` in
`proto/phases.py`.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import structlog

from ..backends.api import Engine, Plan, RemembersSequences, RemoteEngine, Seat
from ..backends.device import Stream
from ..proto.errors import InferError, internal
from ..proto.phases import INSTANCE, InstanceEvent, InstancePhase, advance
from .clock import SECOND, now
from .lane import Lane
from .news import Finished, Lost, Message, Returned
from .readiness import Readiness
from .run import Run
from .schedule import Forget, InstanceId, Job
from .statistics import Statistics
from .supervisor import RestartBudget

log: Final = structlog.get_logger("deuteron.instance")


class Instance:
    """An engine, its lane, and the batches that are open on it."""

    __slots__ = (
        "_breakage",
        "_budget",
        "_finished",
        "_flying",
        "_idle",
        "_laden",
        "_open",
        "_plan",
        "_readiness",
        "_remote",
        "_running",
        "_seat",
        "_signal",
        "_vacant",
        "broken",
        "depth",
        "engine",
        "id",
        "lane",
        "phase",
        "statistics",
        "stream",
        "streaming",
    )

    engine: Engine
    _remote: RemoteEngine | None
    """The engine, if it works elsewhere and is watched."""

    def __init__(
        self, seat: Seat, plan: Plan, lane: Lane, statistics: Statistics, *, streaming: bool, depth: int
    ) -> None:
        self.id: InstanceId = seat.index
        self.lane = lane
        self.stream: Stream = seat.stream
        self.streaming = streaming
        self.depth = depth
        self.broken = False
        self.phase = InstancePhase.STARTING
        self._seat = seat
        self._finished = Finished(seat.index)
        self._idle = Finished(seat.index, is_idle=True)
        self._plan = plan
        self._readiness = Readiness(seat.name)
        self.statistics = statistics
        self._budget = RestartBudget()
        self._open: set[Run] = set()
        self._flying: dict[Run, None] = {}
        """Batches that a remote engine has, in the order it got them."""
        self._laden: set[Run] = set()
        """Those of them that the lane still has to send; what comes after them must not overtake them."""
        self._remote = None
        self._running = 0
        self._vacant: asyncio.Future[None] | None = None
        self._breakage: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._signal: Callable[[Message], None] = _nobody

    def __repr__(self) -> str:
        return f"Instance({self._seat.name}, {self.phase.value})"

    async def start(self) -> None:
        """Seat the engine; raises what the engine raises."""
        try:
            self.engine = await self.lane.call(self._plan.engine, self._seat)
        except BaseException:
            self._advance(InstanceEvent.FAILED)
            raise
        self._advance(InstanceEvent.SEATED)

    async def live(self, signal: Callable[[Message], None]) -> None:
        """Take batches, and come back after each breakage, until the restart budget is spent."""
        self._signal = signal
        while self.phase is InstancePhase.READY:
            self._watch()
            signal(Returned(self.id, self.depth))
            breakage = await self._breakage
            log.error("instance broke", instance=self._seat.name, error=_describe(breakage))
            await self._come_back()

    @property
    def busy(self) -> bool:
        """Whether a batch runs here, or a request is open that one has left."""
        return self._running > 0 or bool(self._open)

    @property
    def name(self) -> str:
        """What the instance is called."""
        return self._seat.name

    @property
    def runs(self) -> bool:
        """Whether a batch runs here."""
        return self._running > 0

    @property
    def lined_up(self) -> int:
        """Batches on the lane behind the one that runs."""
        return max(0, self._running - 1)

    async def is_ready(self) -> bool:
        """Tell whether the engine says so; an instance that is away for now does not speak for the model."""
        return self.phase is not InstancePhase.READY or await self._readiness.ask(self.engine)

    def dispatch(self, jobs: Sequence[Job]) -> None:
        """Send a batch to the lane."""
        self._running += 1
        run = Run(self, jobs)
        if self._remote is None:
            self.lane.do(run.execute)
        else:
            self._send(run, self._remote)

    def forget(self, order: Forget) -> None:
        """Have the engine hear, after the batches it has, of a sequence that was abandoned."""
        engine = self.engine
        if self.phase is InstancePhase.READY and isinstance(engine, RemembersSequences):
            if self._remote is None or self._laden:
                self.lane.do(partial(self._forget, engine, order))
            else:
                self._forget(engine, order)

    def _forget(self, engine: RemembersSequences, order: Forget) -> None:
        try:
            engine.forget_sequence(order.correlation_id, order.slot)
        except Exception as error:  # noqa: BLE001 - whatever it is, no request waits for it and the lane goes on
            log.warning("engine did not forget a sequence", instance=self._seat.name, error=_describe(error))

    def finished(self, run: Run) -> None:
        """Answer a run that has returned, and ask for the next."""
        self._running -= 1
        if self._remote is not None:
            self._flying.pop(run, None)
            run.stop_clock()
        if run.breakage is not None:
            error = internal(f"instance '{self._seat.name}' broke: {_describe(run.breakage)}")
            self._break((run,), error, run.breakage)
        elif not run.ran:
            self._signal(Lost(self.id, run.jobs))
        else:
            self._settle(run)
        self._note_vacancy()

    def _settle(self, run: Run) -> None:
        """Count a batch that has run, answer it, and ask for the next: an idle engine asks first."""
        run.count()
        asks_first = not self._running and not run.batch.rescheduled
        if asks_first:
            self._signal(self._idle)
        run.answer()
        if run.unanswered:
            self._open.add(run)
        if not asks_first:
            again = run.rescheduled
            self._signal(Finished(self.id, again) if again else self._finished)

    def delivered(self, run: Run) -> None:
        """Pass on responses of a run that came while it ran or after it returned."""
        run.deliver()
        if not run.unanswered:
            self._open.discard(run)
            self._note_vacancy()

    async def vacate(self) -> None:
        """Wait until no batch runs, and every request that was left open has been answered."""
        while self.busy:
            if self._vacant is None or self._vacant.done():
                self._vacant = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._vacant)

    async def close(self) -> None:
        """Close the engine and let the lane end; requests still open are failed."""
        self._fail_open(internal(f"instance '{self._seat.name}' was closed before it answered"))
        if self.phase is InstancePhase.READY:
            await self._close_engine()
        self.lane.close()
        self._readiness.close()
        self._advance(InstanceEvent.CLOSED)

    def _send(self, run: Run, engine: RemoteEngine) -> None:
        self._flying[run] = None
        if engine.patience_s:
            loop = asyncio.get_running_loop()
            run.timer = loop.call_later(engine.patience_s, engine.overdue, run.batch)
        if self._laden or engine.is_heavy(run.batch):
            self._laden.add(run)
            self.lane.do(partial(self._begin, run, engine))
        else:
            run.begin(engine)

    def _begin(self, run: Run, engine: RemoteEngine) -> None:
        run.begin(engine)
        self._laden.discard(run)

    def _watch(self) -> None:
        """Hear from now on what an engine that works elsewhere has to say."""
        engine = self.engine
        if isinstance(engine, RemoteEngine):
            self._remote = engine
            loop = asyncio.get_running_loop()
            loop.add_reader(engine.fileno(), self._hear, engine)
            engine.serve(partial(self.lane.report, self._lose, engine), loop.call_soon)

    def _unwatch(self) -> None:
        if self._remote is not None:
            asyncio.get_running_loop().remove_reader(self._remote.fileno())
            self._remote = None

    def _hear(self, engine: RemoteEngine) -> None:
        if not engine.hear():
            asyncio.get_running_loop().remove_reader(engine.fileno())

    def _lose(self, engine: RemoteEngine, error: InferError) -> None:
        """Hear that a remote engine is gone: what it had not answered by then is failed."""
        if engine is self._remote and self.phase is InstancePhase.READY:
            while engine.hear():
                pass
            self._unwatch()
            flying = tuple(self._flying)
            self._flying.clear()
            self._running -= len(flying)
            for run in flying:
                run.stop_clock()
            self._break([run for run in flying if engine.has_begun(run.batch)], error, error)
            for run in flying:
                if not engine.has_begun(run.batch):
                    self._signal(Lost(self.id, run.jobs))

    def _break(self, runs: Sequence[Run], error: InferError, breakage: BaseException) -> None:
        moment = now()
        for run in runs:
            for job in run.jobs:
                if not job.empty_row:
                    self.statistics.failed(moment - job.arrived, "BACKEND")
            run.deliver()
            run.fail(error)
        self._fail_open(error)
        self._advance(InstanceEvent.BROKE)
        self._signal(Lost(self.id, batches=len(runs)))
        self._breakage.set_result(breakage)

    async def _come_back(self) -> None:
        """Take a new seat on a new lane, after a wait, as often as the budget allows."""
        old_lane = self.lane
        await self._close_engine()
        old_lane.close()
        while self.phase is InstancePhase.BROKEN:
            wait = self._budget.spend(now())
            if wait is None:
                log.error("instance stays away, its restart budget is spent", instance=self._seat.name)
                self._advance(InstanceEvent.GAVE_UP)
                return
            await asyncio.sleep(wait / SECOND)
            self._advance(InstanceEvent.RESTARTED)
            self.lane = Lane(self._seat.name)
            try:
                await self.start()
            except Exception as error:  # noqa: BLE001 - any failure to start again spends the budget
                log.error("instance did not come back", instance=self._seat.name, error=_describe(error))  # noqa: TRY400 - model code, its own text says enough
                self.lane.close()
        self.broken = False
        self._breakage = asyncio.get_running_loop().create_future()
        log.info("instance is back", instance=self._seat.name)

    async def _close_engine(self) -> None:
        self._unwatch()
        try:
            await self.lane.call(self.engine.close)
        except Exception as error:  # noqa: BLE001 - an engine that cannot close must not keep others from closing
            log.warning("engine did not close", instance=self._seat.name, error=_describe(error))

    def _fail_open(self, error: InferError) -> None:
        for run in self._open:
            run.fail(error)
        self._open.clear()
        self._note_vacancy()

    def _note_vacancy(self) -> None:
        if self._vacant is not None and not self.busy and not self._vacant.done():
            self._vacant.set_result(None)

    def _advance(self, event: InstanceEvent) -> None:
        self.phase = advance(INSTANCE, self.phase, event)


def _describe(error: BaseException) -> str:
    return error.message if isinstance(error, InferError) else f"{type(error).__name__}: {error}"


def _nobody(message: Message) -> None:
    """Take the news of an instance that was not given to a router yet: there are none."""
    raise AssertionError(f"an instance without a router has no news, yet it said {message!r}")
