"""A run: one batch on its way through a lane, from dispatch to its last response.

`execute` and `emit` are the half that happens on the lane; `settle` and `deliver` are the half on the loop.
What the engine emits is held until the batch has returned, and then goes out at once: one wake for all rows,
and whoever has an answer finds it in the statistics already. A model that streams has its responses passed on
as they come.

Between the halves stands a deque: the lane appends first and looks at `returned` afterwards, the loop sets
nothing and reads all, so a response from a thread of the model's own is never left lying.
"""

from asyncio import TimerHandle
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from ..backends.api import Batch, Engine, RemoteEngine
from ..backends.device import Stream
from ..proto.errors import Fault, InferError
from ..proto.message import Response
from .clock import Instant, now
from .lane import Lane
from .reply import EarlyReply
from .schedule import Job
from .statistics import Execution, Statistics
from .tally import tally


class Host(Protocol):
    """What a run needs of the instance it runs on."""

    lane: Lane
    engine: Engine
    stream: Stream
    broken: bool
    """Whether the engine must not be used again; raised on the lane."""
    streaming: bool
    """Whether responses go out as they come."""
    statistics: Statistics

    def finished(self, run: "Run") -> None:
        """Hear that a run has returned; on the loop."""

    def delivered(self, run: "Run") -> None:
        """Hear that responses wait in a run; on the loop."""


class Run:
    """One batch, with the jobs it answers."""

    __slots__ = (
        "_held",
        "_host",
        "batch",
        "breakage",
        "ended",
        "jobs",
        "refusal",
        "rescheduled",
        "returned",
        "started",
        "timer",
        "unanswered",
    )

    def __init__(self, host: Host, jobs: Sequence[Job]) -> None:
        requests = [job.request for job in jobs]
        self.jobs = jobs
        self.batch = Batch(requests, sum([request.batch_size for request in requests]))
        self.started: Instant = 0
        self.ended: Instant = 0
        self.refusal: InferError | None = None
        self.breakage: BaseException | None = None
        self.returned = False
        self.rescheduled: Sequence[Job] = ()
        self.unanswered = len(jobs)
        self.timer: TimerHandle | None = None
        """Ends an engine that has the batch for too long, where it may not."""
        self._host = host
        self._held: deque[tuple[int, Response, Instant]] = deque()

    @property
    def ran(self) -> bool:
        """Whether the engine ever saw this batch."""
        return self.started != 0

    def execute(self) -> None:
        """Run the batch on the instance's engine; on the lane. Does nothing on a broken instance."""
        host = self._host
        if not host.broken:
            self._execute(host)
        self.returned = True
        if not host.streaming and self.refusal is None and self.breakage is None:
            self._send_early()
        host.lane.report(host.finished, self)

    def _send_early(self) -> None:
        """Tell callers on threads of their own what they wait for; on the lane."""
        jobs = self.jobs
        for job in jobs:
            if isinstance(job.reply, EarlyReply):
                break
        else:
            return
        for row, response, _ in tuple(self._held):
            reply = jobs[row].reply
            if isinstance(reply, EarlyReply) and response.final and not response.silent:
                reply.send_early(response)

    def begin(self, engine: RemoteEngine) -> None:
        """Send the batch to an engine that works elsewhere; on the loop, or on the lane if it is heavy."""
        self.started = now()
        try:
            if all(request.cancelled for request in self.batch.requests):
                raise InferError(Fault.CANCELLED, "")  # noqa: TRY301 - refused like what the engine refuses
            engine.begin(self.batch, self.emit, self._done)
        except InferError as error:
            self.refusal = error
            self.ended = now()
            self.returned = True
            self._host.lane.report(self._host.finished, self)

    def stop_clock(self) -> None:
        """Let the engine take as long as it likes from now on."""
        if self.timer is not None:
            self.timer.cancel()

    def emit(self, row: int, response: Response) -> None:
        """Take a response from the engine, on any thread."""
        host = self._host
        self._held.append((row, response, now() if host.streaming else 0))
        if self.returned or host.streaming:
            host.lane.report(host.delivered, self)

    def deliver(self) -> None:
        """Pass on all responses that wait here; on the loop."""
        held = self._held
        while held:
            row, response, emitted = held.popleft()
            self._answer(row, response, emitted)

    def fail(self, error: InferError) -> None:
        """Answer every job that has no final response yet with an error; on the loop."""
        moment = now()
        for row in range(len(self.jobs)):
            self._answer(row, Response(error=error), moment)

    def count(self) -> None:
        """Count what happened; on the loop, once, after the batch has run and before it is answered."""
        statistics = self._host.statistics
        moment = now()
        if self.refusal is not None:
            if self.refusal.fault is not Fault.CANCELLED:
                statistics.executed(self.batch.size, self._phases())  # it ran, for nothing
            for job in self.jobs:
                if not job.empty_row:
                    statistics.failed(moment - job.arrived, _reason(self.refusal))
            return
        execution = self._phases()
        statistics.executed(self.batch.size, execution)
        for job in self.jobs:
            if job.empty_row:
                continue
            job.execution = execution
            statistics.succeeded(
                self.started - job.queued, moment - job.arrived, job.request.batch_size, execution
            )

    def answer(self) -> None:
        """Answer as far as the batch has said it; on the loop, once, after it was counted."""
        self.deliver()
        if self.refusal is not None:
            self.fail(self.refusal)
            return
        if self.batch.rescheduled:
            self._give_back()
        if self._host.streaming:
            self._tell_settled()

    def _give_back(self) -> None:
        """Let go of the jobs that are to come again; another run will answer them."""
        left = [self.jobs[row] for row in set(self.batch.rescheduled) if not self.jobs[row].answered]
        self.unanswered -= len(left)
        self.rescheduled = [job for job in left if not job.empty_row]

    def _done(self, refusal: InferError | None) -> None:
        """Hear that the batch has returned; on the loop."""
        self.refusal = refusal
        self.ended = now()
        self.returned = True
        self._host.finished(self)

    def _tell_settled(self) -> None:
        for job in self.jobs:
            if job.on_settled is not None and job not in self.rescheduled:
                job.on_settled()

    def _execute(self, host: Host) -> None:
        if all(request.cancelled for request in self.batch.requests):
            self.started = self.ended = now()
            self.refusal = InferError(Fault.CANCELLED, "")
            return
        self.started = now()
        try:
            host.engine.execute(self.batch, self.emit)
            host.stream.synchronize()
        except InferError as error:
            self.refusal = error
        except BaseException as error:  # noqa: BLE001 - a broken engine may raise anything; it must not end the lane
            self.breakage = error
            host.broken = True
        self.ended = now()

    def _answer(self, row: int, response: Response, emitted: Instant) -> None:
        job = self.jobs[row]
        if job.answered:
            return
        if self._host.streaming and not job.empty_row:
            tally(self._host.statistics, job, response, self.started, emitted)
        if response.final:
            job.answered = True
            self.unanswered -= 1
            if job.request.flow is not None:
                job.request.flow.lift()  # a thread that waits to send more finds out that it may not
        job.reply.send(response)

    def _phases(self) -> Execution:
        inputs_ready = self.batch.inputs_ready or self.started
        outputs_started = self.batch.outputs_started or self.ended
        return Execution(
            started=self.started,
            compute_input=inputs_ready - self.started,
            compute_infer=outputs_started - inputs_ready,
            compute_output=self.ended - outputs_started,
        )


def _reason(refusal: InferError) -> str:
    return "CANCELED" if refusal.fault is Fault.CANCELLED else "BACKEND"
