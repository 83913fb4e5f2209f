"""The conductor: leads one ensemble request through its steps, each a message to the router of its model.

Versions are chosen when the request begins, and held to its end, so it sees one set of models. The first
error ends the request at once: no further step starts, and those on their way are cancelled. Tensors pass
from step to step by reference; id, priority, time-out, parameters, trace and place in a sequence go with
every step. What runs when is decided by the `Trip`.

A decoupled step has credit for a number of answers, and gets it back as these are used up, but only while the
client of the ensemble keeps up with reading. So a slow client, a slow step and a limit on the requests of a
step all come to hold the producer back, and not to fill memory.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from ..backends.credit import Credit
from ..proto.config import ModelConfig
from ..proto.errors import Fault, InferError, invalid, request_prefix
from ..proto.message import Correlation, Flow, ParameterValue, Request, Response
from ..proto.tensor import Tensor
from .clock import Instant, now
from .ensemble import Answer, Step, Trip
from .graph import StepIndex
from .schedule import Job
from .servable import Servable
from .statistics import Execution, Statistics
from .tracing import trace_job, trace_responses


class Host(Protocol):
    """What a conductor needs of the ensemble it leads requests through."""

    name: str
    config: ModelConfig
    statistics: Statistics

    def inputs(self, step: Step) -> dict[str, Tensor]:
        """Return the inputs of a step in the form that its model expects."""

    def outputs(self, answer: Answer) -> dict[str, Tensor]:
        """Return the outputs of an answer in the form that the ensemble promises."""

    def may_go(self, conductor: "Conductor", step: Step) -> bool:
        """Tell whether a step may start; where not, `go` is called when it may."""

    def stay(self, conductor: "Conductor", step: Step) -> None:
        """Hear that a step that waited to go will not."""

    def came_home(self, step: StepIndex) -> None:
        """Hear that a step has ended that went."""

    def arrived(self, job: Job) -> None:
        """Hear that a request is about to be answered for the last time."""


class Conductor:
    """One request on its way."""

    __slots__ = (
        "_answered",
        "_ensemble",
        "_error",
        "_executions",
        "_held_credit",
        "_job",
        "_models",
        "_on_the_way",
        "_proceeding",
        "_ready",
        "_set_out",
        "_trip",
        "_unsettled",
    )

    def __init__(self, ensemble: Host, job: Job, trip: Trip, models: Sequence[Servable]) -> None:
        self._ensemble = ensemble
        self._job = job
        self._trip = trip
        self._models = models
        self._ready: deque[Step] = deque()
        """Steps that nothing keeps from starting."""
        self._on_the_way: dict[Step, _StepReply | None] = {}
        """Steps that have not ended; None for those that a limit lets wait."""
        self._proceeding = False
        self._executions: list[Execution] = []
        self._unsettled = 0
        """Steps that have answered, and whose execution is not yet told."""
        self._held_credit: list[Flow] = []
        """What gets credit back when the client has read enough."""
        self._answered = False
        """Whether a response was sent."""
        self._set_out: Instant = job.arrived

    def begin(self) -> None:
        """Start the steps that need nothing but the request."""
        self._set_out = now()
        for model in self._models:
            model.leases.take()
        self._advance(lambda: self._trip.begin(self._job.request.inputs))

    def cancel(self) -> None:
        """End the request, and all that is on its way for it."""
        self._fail(InferError(Fault.CANCELLED, ""))

    def go(self, step: Step) -> None:
        """Start a step that waited for its turn."""
        self._send(step)

    def hear(self, reply: "_StepReply", response: Response) -> None:
        """Take a response of a step."""
        if response.final:
            self._on_the_way.pop(reply.step, None)
        if not self._job.answered:
            if response.final:
                self._note(reply, response)
            if response.error is not None:
                self._fail(response.error)
            else:
                self._advance(lambda: self._absorb(reply, response))
        if response.final:
            self._ensemble.came_home(reply.step.index)

    def _absorb(self, reply: "_StepReply", response: Response) -> Sequence[Step]:
        steps: Sequence[Step] = ()
        if not response.silent:
            place = _place_told(response, reply.request)
            steps = self._trip.absorb(reply.step, response.outputs, place)
        if response.final:
            self._trip.end(reply.step)
        return steps

    def _note(self, reply: "_StepReply", response: Response) -> None:
        """Write down how a step went that has ended."""
        job = reply.job
        if job is None:  # answered before it was left with its model
            return
        model = self._models[reply.step.index]
        if job.request.trace is not None:
            job.request.trace.show("TENSOR_QUEUE_INPUT", job.request.inputs)
            trace_responses(job.request.trace, response)
            trace_job(job.request.trace, job, model.name, model.version, now())
        if job.execution is not None:
            self._executions.append(job.execution)
        elif model.config.decoupled and response.error is None:
            self._unsettled += 1
            job.on_settled = partial(self._settle, job)

    def _settle(self, job: Job) -> None:
        """Hear how long a step took that had answered before."""
        if job.execution is not None:
            self._executions.append(job.execution)
        self._unsettled -= 1
        if self._job.answered and not self._unsettled:
            self._count()

    def _advance(self, change: Callable[[], Sequence[Step]]) -> None:
        """Make a change to the trip, and do all that follows from it."""
        try:
            self._ready.extend(change())
        except InferError as error:
            self._fail(error)
            return
        if self._proceeding:  # a step answered while it was started
            return
        self._proceeding = True
        while self._ready and not self._job.answered:
            step = self._ready.popleft()
            if self._ensemble.may_go(self, step):
                self._send(step)
            else:
                self._on_the_way[step] = None
        self._proceeding = False
        self._answer()

    def _send(self, step: Step) -> None:
        asked = self._job.request
        model = self._models[step.index]
        correlation = asked.correlation if step.correlation is None else step.correlation
        reply = _StepReply(self, step, streams=model.config.decoupled)
        reply.request = Request(
            model.name,
            model.version,
            asked.id,
            self._ensemble.inputs(step),
            step.outputs,
            asked.parameters,
            correlation if correlation is not None and correlation.id else None,
            asked.priority,
            asked.timeout_us,
            trace=None if asked.trace is None else asked.trace.child(),
            flow=Credit() if model.config.decoupled else None,
        )
        self._on_the_way[step] = reply
        try:
            reply.job = model.infer(reply.request, reply)
        except InferError as error:
            del self._on_the_way[step]
            self._fail(error)
            self._ensemble.came_home(step.index)

    def _answer(self) -> None:
        """Send what has come to its turn, and end the request when nothing is on its way any more."""
        if self._job.answered:
            return
        answers, used_up = self._trip.take()
        is_over = not self._trip.running
        for number, answer in enumerate(answers, start=1):
            self._respond(answer, final=is_over and number == len(answers))
        if is_over and not answers:
            if self._answered or self._ensemble.config.decoupled:
                self._finish(Response(silent=True))
            else:
                self._fail(_deadlock(self._job.request))
        self._give_back(used_up)

    def _respond(self, answer: Answer, *, final: bool) -> None:
        response = Response(self._ensemble.outputs(answer), final=final)
        if response.outputs:
            places = [token.correlation for token in answer.values() if token.correlation is not None]
            response.parameters = _parameters(places[-1] if places else self._job.request.correlation)
        if not self._answered and self._ensemble.config.decoupled:
            self._ensemble.statistics.first_responded(now() - self._job.arrived)
        self._answered = True
        if self._job.request.flow is not None:
            self._job.request.flow.spend(response.byte_size)
        if final:
            self._finish(response)
        else:
            self._job.reply.send(response)

    def _give_back(self, used_up: Sequence[Step]) -> None:
        """Give credit back for answers of decoupled steps, once there is room for more of ours."""
        is_waiting = bool(self._held_credit)
        for step in used_up:
            reply = self._on_the_way.get(step)
            if reply is not None and reply.request.flow is not None:
                self._held_credit.append(reply.request.flow)
        flow = self._job.request.flow
        if flow is None or flow.has_room:
            self._release_credit()
        elif self._held_credit and not is_waiting:
            loop = asyncio.get_running_loop()
            flow.when_room(lambda: _call_on(loop, self._release_credit))

    def _release_credit(self) -> None:
        held, self._held_credit = self._held_credit, []
        for flow in held:
            flow.give_back()

    def _fail(self, error: InferError) -> None:
        """End the request with an error, and cancel what is on its way for it."""
        if self._job.answered:
            return
        told = InferError(error.fault, _in_ensemble(self._ensemble.name, error))
        self._finish(Response(error=told))
        for step, reply in list(self._on_the_way.items()):
            if reply is None:
                self._ensemble.stay(self, step)
            else:
                self._models[step.index].cancel(reply.request)

    def _finish(self, response: Response) -> None:
        """Send the last response and let go of everything."""
        self._job.answered = True
        for model in self._models:
            model.leases.give_back()
        if response.error is not None:
            cancelled = response.error.fault is Fault.CANCELLED
            took = now() - self._job.arrived
            statistics = self._ensemble.statistics
            statistics.failed(took, "CANCELED" if cancelled else "OTHER")
            if not cancelled:
                statistics.failures["OTHER"] += 1  # metrics tell the step's failure too, as Triton's do
        elif not self._unsettled:
            self._count()
        self._ensemble.arrived(self._job)
        self._job.reply.send(response)

    def _count(self) -> None:
        """Count a request that was served, when all is known of its steps."""
        job = self._job
        statistics = self._ensemble.statistics
        execution = Execution(
            self._set_out,
            sum(each.compute_input for each in self._executions),
            sum(each.compute_infer for each in self._executions),
            sum(each.compute_output for each in self._executions),
        )
        job.execution = execution
        rows = job.request.batch_size
        statistics.executed(rows, execution)
        statistics.succeeded(self._set_out - job.arrived, now() - job.arrived, rows, execution)
        if job.on_settled is not None:
            job.on_settled()


class _StepReply:
    """The return address of one step."""

    __slots__ = ("_conductor", "_kept", "_streams", "job", "request", "step")

    request: Request

    def __init__(self, conductor: Conductor, step: Step, *, streams: bool) -> None:
        self._conductor = conductor
        self._streams = streams
        self._kept: Response | None = None
        """The response of a step that gives one, until it ends."""
        self.step = step
        self.job: Job | None = None

    def send(self, response: Response) -> None:
        """Take a response; of a step that gives one it is passed on when the step ends."""
        if self._streams or (response.final and self._kept is None):
            self._conductor.hear(self, response)
            return
        if self._kept is None or (self._kept.silent and not response.silent):
            self._kept = response
        if response.final:
            self._kept.final = True
            self._conductor.hear(self, response if response.error is not None else self._kept)


def _in_ensemble(name: str, error: InferError) -> str:
    return f"in ensemble '{name}', {error.message}" if error.message else ""


def _deadlock(request: Request) -> InferError:
    """Return the error of a request for which a step had nothing to say at all."""
    return invalid(
        f"{request_prefix(request.id)}unexpected deadlock, at least one output is not set while no more "
        "ensemble steps can be made"
    )


def _place_told(response: Response, asked: Request) -> Correlation:
    """Return the place in a sequence of what a step answered: its request's, unless it tells another.

    Raises InferError where it tells what is no place.
    """
    told = response.parameters
    if not told or _PLACE.isdisjoint(told):
        return asked.correlation or _NO_SEQUENCE
    number = told.get("sequence_id", asked.correlation.id if asked.correlation is not None else 0)
    if isinstance(number, bool | float):
        raise invalid(
            "expected parameter 'sequence_id' to be TRITONSERVER_PARAMETER_INT or "
            "TRITONSERVER_PARAMETER_STRING"
        )
    for name in ("sequence_start", "sequence_end"):
        if not isinstance(told.get(name, False), bool):
            raise invalid(f"expect parameter '{name}' to be TRITONSERVER_PARAMETER_BOOL")
    if isinstance(number, int):
        number %= 2**64  # parameters are integers with a sign
    return Correlation(number, bool(told.get("sequence_start")), bool(told.get("sequence_end")))


def _parameters(place: Correlation | None) -> dict[str, ParameterValue]:
    """Return what Triton tells in every response of an ensemble; 0 is the ID of no sequence."""
    place = place or _NO_SEQUENCE
    number = place.id
    if isinstance(number, int) and number >= 2**63:
        number -= 2**64
    return {"sequence_id": number, "sequence_start": place.start, "sequence_end": place.end}


def _call_on(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Have a function called on a loop, from any thread; not at all where the loop has ended."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function)


_PLACE: Final = frozenset({"sequence_id", "sequence_start", "sequence_end"})
_NO_SEQUENCE: Final = Correlation(0)
