"""The router: the actor before every model, where requests wait and batches are cut.

It is a thin shell. What waits, who runs together and when is decided by its `Schedule`; the router tells the
schedule what happened and does what it orders. Waiting happens here and nowhere else, so order, deadlines and
cancellation are true here and nowhere else.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

from ..proto.errors import Fault, InferError, request_prefix
from ..proto.message import Request, Response
from .clock import SECOND, Clock, Instant, now
from .credits import Credits
from .gate import Gate
from .mailbox import Mailbox, MailboxClosedError, MailboxFullError
from .news import Abandon, Allow, Drain, Finished, Lost, Message, Offered, Retire, Returned, Withdraw
from .one_by_one import queue_full
from .ordering import Line
from .pacing import FastestFirst
from .schedule import Dispatch, Forget, InstanceId, Job, Order, Reject, Schedule
from .statistics import Statistics


class Hosts(Protocol):
    """What a router needs of the instances of its model."""

    def dispatch(self, instance: InstanceId, jobs: Sequence[Job]) -> None:
        """Send a batch on its way to an instance."""

    def forget(self, order: Forget) -> None:
        """Tell an instance of a sequence that was abandoned."""


class Router:
    """The queue of one model version and the credits of its instances."""

    __slots__ = (
        "_alarm",
        "_clock",
        "_credits",
        "_end",
        "_gate",
        "_hosts",
        "_leaving",
        "_line",
        "_mailbox",
        "_paced",
        "_running",
        "_statistics",
        "_turning",
        "schedule",
    )

    def __init__(
        self,
        schedule: Schedule,
        hosts: Hosts,
        statistics: Statistics,
        *,
        line: Line | None = None,
        clock: Clock = now,
    ) -> None:
        self.schedule = schedule
        self._paced = schedule if isinstance(schedule, FastestFirst) else None
        self._gate: Gate | None = None
        self._hosts = hosts
        self._statistics = statistics
        self._line = line
        self._clock = clock
        self._mailbox: Mailbox[Message] = Mailbox(clock=clock, turn=self._turn)
        self._credits = Credits()
        self._leaving: dict[InstanceId, Callable[[], None]] = {}
        self._running = 0
        self._turning = False
        self._alarm: asyncio.TimerHandle | None = None
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"Router({len(self.schedule)} wait, {self._running} run, credits {list(self._credits.idle)})"

    @property
    def outstanding(self) -> int:
        """Jobs and batches that are not done."""
        return len(self._mailbox) + len(self.schedule) + self._running

    def stand_behind(self, gate: Gate) -> None:
        """Give batches only to instances that a gate lets through; said before `run`."""
        self._gate = gate
        gate.wake = lambda: self._mailbox.signal(Offered())

    def post(self, job: Job) -> None:
        """Take a job; raises InferError(UNAVAILABLE) when the model stops or has no room."""
        at_once = self._is_idle and self.schedule.prompt
        try:
            self._mailbox.post(job, wake=not at_once)
        except MailboxFullError:
            raise queue_full(job.request) from None
        except MailboxClosedError:
            raise stopped(job.request) from None
        self._statistics.pending += 1
        if at_once:
            self._turn()

    def signal(self, message: Message) -> None:
        """Take news that must not be refused."""
        if type(message) is Finished and not self._turning:
            if not (message.rescheduled or self._somebody_waits):
                self._fold(message)  # a credit nobody waits for is no reason to take a turn
                return
            if message.is_idle:
                self._mailbox.leave(message)
                self._turn()
                return
        self._mailbox.signal(message)

    @property
    def _is_idle(self) -> bool:
        """Whether nothing runs or waits here, though it could run."""
        return bool(self._credits.idle) and not (self._running or self._turning or self._somebody_waits)

    @property
    def _somebody_waits(self) -> bool:
        """Whether a credit would be of use, or could be the last thing that an end waits for."""
        return bool(
            len(self.schedule)
            or len(self._mailbox)
            or self._leaving
            or self._mailbox.closed
            or self._gate is not None
        )

    async def run(self) -> None:
        """Live until drained or abandoned; whatever ends it, nobody who waits is left without an answer."""
        try:
            await self._end
        finally:
            if self._alarm is not None:
                self._alarm.cancel()
            self._abandon(InferError(Fault.UNAVAILABLE, "the model ended before this request was served"))

    def _turn(self) -> None:
        """Fold what came into the state, and obey what the schedule makes of it."""
        if self._end.done():
            return
        self._turning = True
        try:
            for message in self._mailbox.take():
                self._fold(message)
            if self._leaving:
                self._let_go()
            for order in self._orders():
                self._obey(order)
            if self._leaving:
                self._let_go()
            self._set_alarm(self.schedule.wake_at())
        except BaseException as error:  # noqa: BLE001 - whatever it is, the model must end with it
            self._end.set_exception(error)
        finally:
            self._turning = False
        if self._drained and not self._end.done():
            self._end.set_result(None)

    def _set_alarm(self, instant: Instant | None) -> None:
        """Take a turn at an instant though nothing happened."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if instant is not None:
            wait = max(0, instant - self._clock()) / SECOND
            self._alarm = asyncio.get_running_loop().call_later(wait, self._turn)

    @property
    def _drained(self) -> bool:
        return self._mailbox.closed and not self.outstanding

    def _orders(self) -> Iterable[Order]:
        if self._gate is not None and len(self.schedule):
            return self._admitted_orders(self._gate)
        if self._gate is not None:
            self._gate.stand_by()
            self._gate.settle()
        return self.schedule.plan(tuple(self._credits.idle), self._clock())

    def _admitted_orders(self, gate: Gate) -> Iterator[Order]:
        """Plan for one idle instance after the other, as the gate lets them through."""
        moment = self._clock()
        yield from self.schedule.plan((), moment)
        for instance in gate.admitted(tuple(self._credits.idle)):
            is_used = False
            for order in self.schedule.plan((instance,), moment):
                is_used = is_used or isinstance(order, Dispatch)
                yield order
            if not is_used:
                gate.decline(instance)
        if not len(self.schedule):
            gate.stand_by()
        gate.settle()

    def _fold(self, message: Message) -> None:
        """Let one message change the state; the only door through which it changes."""
        match message:
            case Job():
                self._admit(message)
            case Finished(instance, rescheduled):
                self._finish(instance, rescheduled)
            case Withdraw(request):
                withdrawn = self.schedule.withdraw(request)
                if withdrawn is not None:
                    self._refuse(withdrawn, InferError(Fault.CANCELLED, ""), "CANCELED")
            case Drain():
                self._mailbox.close()
            case Abandon(error):
                self._abandon(error)
            case Returned() | Lost() | Allow() | Retire():
                self._fold_change(message)

    def _fold_change(self, message: Returned | Lost | Allow | Retire) -> None:
        """Let the change of an instance change the state."""
        match message:
            case Returned(instance, credits_):
                self.schedule.returned(instance)
                self._credits.allow(instance, credits_)
            case Lost():
                self._lose(message)
            case Allow(instance, credits_):
                if instance in self._credits:  # one that is away for now says itself with what it comes back
                    self._credits.allow(instance, credits_)
            case Retire(instance, let_go):
                self.schedule.retire(instance)
                self._leaving[instance] = let_go

    def _obey(self, order: Order) -> None:
        match order:
            case Dispatch(instance, jobs, empty_rows):
                self._credits.spend(instance)
                self._running += 1
                self._statistics.pending -= len(jobs) - empty_rows
                if self._line is not None:
                    for job in jobs:
                        if not job.step:  # it has its place already
                            job.reply = self._line.reserve(job.reply)
                self._hosts.dispatch(instance, jobs)
            case Reject(job, error, reason):
                self._refuse(job, error, reason)
            case Forget():
                self._hosts.forget(order)

    def _finish(self, instance: InstanceId, rescheduled: Sequence[Job]) -> None:
        self._running -= 1
        if self._gate is not None:
            self._gate.finished(instance)
        self._credits.finished(instance)
        if self._paced is not None:
            self._paced.finished(instance, self._clock())
        for job in rescheduled:
            self._resume(job)

    def _admit(self, job: Job) -> None:
        try:
            self.schedule.admit(job, self._clock())
        except InferError as error:
            # A refusal at the door of the queue is the caller's to hear and no failure of the model.
            self._statistics.pending -= 1
            _answer(job, error)

    def _resume(self, job: Job) -> None:
        self._statistics.pending += 1
        job.step += 1
        try:
            self.schedule.resume(job, self._clock())
        except InferError as error:
            self._refuse(job, error, "CANCELED" if error.fault is Fault.CANCELLED else "OTHER")

    def _refuse(self, job: Job, error: InferError, reason: str) -> None:
        self._statistics.pending -= 1
        self._statistics.failed(self._clock() - job.arrived, reason)
        _answer(job, error)

    def _let_go(self) -> None:
        """Let the instances go to which nothing is bound any more."""
        for instance in [each for each in self._leaving if not self.schedule.holds(each)]:
            self._credits.allow(instance, 0)
            self.schedule.lost(instance)
            self._leaving.pop(instance)()

    def _lose(self, lost: Lost) -> None:
        instance = lost.instance
        self._credits.lost(instance)
        self._running -= lost.batches
        if self._gate is not None and lost.batches:
            self._gate.finished(instance)
        for job in self.schedule.lost(instance):
            self._refuse(job, InferError(Fault.UNAVAILABLE, _SEQUENCE_LOST), "OTHER")
        for job in lost.unbegun:
            self._statistics.pending += 1
            if job.request.cancelled:
                self._refuse(job, InferError(Fault.CANCELLED, ""), "CANCELED")
            else:
                self._admit(job)

    def _abandon(self, error: InferError) -> None:
        self._mailbox.close()
        waiting = self.schedule.clear()
        for message in self._mailbox.take():
            match message:
                case Job():
                    waiting.append(message)
                case Finished(_, jobs) | Lost(_, jobs):
                    self._statistics.pending += len(jobs)
                    waiting.extend(jobs)
        for job in waiting:
            self._refuse(job, error, "OTHER")


def stopped(request: Request) -> InferError:
    """Return the error of a request that came after its model began to stop."""
    return InferError(
        Fault.UNAVAILABLE,
        f"{request_prefix(request.id)}Server is stopping, scheduler for model has stopped accepting new "
        "inference requests",
    )


_SEQUENCE_LOST: Final = (
    "the instance of this sequence broke; the sequence must begin again with the START flag"
)


def _answer(job: Job, error: InferError) -> None:
    job.answered = True
    job.reply.send(Response(error=error))
