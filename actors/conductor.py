"""The conductor: leads one ensemble request through its steps, each a message to the router of its model.

Versions are chosen when the request begins, and held to its end, so it sees one set of models. The first
error ends the request: no further step starts, and the error is sent when the steps on their way have come
home. Tensors pass from step to step by reference.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from ..proto.admission import Admission
from ..proto.config import ModelConfig
from ..proto.errors import Fault, InferError, invalid, request_prefix
from ..proto.message import Correlation, ParameterValue, Request, Response
from ..proto.tensor import Tensor
from ..proto.trace import Trace
from .clock import Instant, now
from .ensemble import Graph, Step, StepIndex, Trip
from .leases import Leases
from .mailbox import Mailbox
from .reply import Reply
from .router import Drain, stopped
from .schedule import Job
from .servable import Servable
from .statistics import Execution, Statistics
from .tracing import trace_job, trace_responses

Find = Callable[[str, int], Servable]
"""Looks a model version up; raises InferError where there is none."""


class EnsembleVersion:
    """One loaded version of an ensemble: requests that travel through other models."""

    __slots__ = (
        "_find",
        "_graph",
        "_mailbox",
        "_travelling",
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
        statistics: Statistics,
        find: Find,
    ) -> None:
        self.name = config.name
        self.version = version
        self.config = config
        self.admission = Admission(config)
        self.statistics = statistics
        self.edition = b""
        self._graph = Graph(config)
        self._find = find
        self.labels: Mapping[str, Sequence[str]] = {**_inherited_labels(self._graph, find), **labels}
        self._travelling: dict[int, _Conductor] = {}
        self._mailbox: Mailbox[Drain] = Mailbox()
        self.leases = Leases(self._mailbox.close)

    def infer(self, request: Request, reply: Reply) -> Job:
        """Check a request and set out with it; raises InferError at once when it is refused."""
        self.admission.check(request)
        job = Job(request, reply, now())
        self.take(job)
        return job

    def take(self, job: Job) -> None:
        """Set out with a request that was checked; raises InferError when that cannot be any more."""
        request = job.request
        if self._mailbox.closed:
            raise stopped(request)
        models = [self._find(step.model_name, step.model_version) for step in self._graph.steps]
        conductor = _Conductor(self, job, Trip(self._graph, request.requested_outputs), models)
        self._travelling[id(request)] = conductor
        conductor.begin()

    def cancel(self, request: Request) -> None:
        """Tell every step that is on its way; no further one starts."""
        request.cancelled = True
        conductor = self._travelling.get(id(request))
        if conductor is not None:
            conductor.cancel()

    @property
    def pending(self) -> int:
        """Requests that wait: none does, an ensemble sets out at once."""
        return self.statistics.pending

    @property
    def busy(self) -> bool:
        """Whether a request is on its way."""
        return bool(self._travelling)

    async def is_ready(self) -> bool:
        """Tell that requests are welcome; what the models of the steps say is theirs alone."""
        return True

    def drain(self) -> None:
        """Refuse what comes when nobody holds this version any more; requests on their way arrive."""
        self.leases.drain()

    async def serve(self) -> None:
        """Live until drained and the last request has arrived."""
        while not self._mailbox.closed or self._travelling:
            await self._mailbox.wait()
            self._mailbox.take()

    def arrived(self, job: Job) -> None:
        """Hear from a conductor that its request is answered."""
        del self._travelling[id(job.request)]
        if self._mailbox.closed:
            self._mailbox.signal(Drain())


class _Conductor:
    """One request on its way."""

    __slots__ = ("_ensemble", "_error", "_executions", "_job", "_models", "_on_the_way", "_set_out", "_trip")

    def __init__(self, ensemble: EnsembleVersion, job: Job, trip: Trip, models: Sequence[Servable]) -> None:
        self._ensemble = ensemble
        self._job = job
        self._trip = trip
        self._models = models
        self._on_the_way: dict[StepIndex, Request] = {}
        self._executions: list[Execution] = []
        self._error: InferError | None = None
        self._set_out: Instant = job.arrived

    def begin(self) -> None:
        """Start the steps that need nothing but the request."""
        self._set_out = now()
        for model in self._models:
            model.leases.take()
        self._send_out(self._trip.begin(self._job.request.inputs))

    def cancel(self) -> None:
        """Cancel every step that is on its way."""
        self._error = self._error or InferError(Fault.CANCELLED, "")
        for index, request in list(self._on_the_way.items()):
            self._models[index].cancel(request)

    def absorb(self, index: StepIndex, response: Response, job: Job | None) -> None:
        """Take what a step answered."""
        self._on_the_way.pop(index, None)
        if job is not None and job.execution is not None:
            self._executions.append(job.execution)
        if job is not None and job.request.trace is not None:
            self._trace(index, job, job.request.trace, response)
        if response.error is not None:
            self._error = self._error or response.error
            self._settle()
        elif response.silent:
            self._error = self._error or _deadlock(self._job.request)
            self._settle()
        else:
            self._send_out(self._trip.absorb(index, response.outputs))

    def _trace(self, index: StepIndex, job: Job, trace: Trace, response: Response) -> None:
        """Write down what a step did."""
        model = self._models[index]
        trace.show("TENSOR_QUEUE_INPUT", job.request.inputs)
        trace_responses(trace, response)
        trace_job(trace, job, model.name, model.version, now())

    def _send_out(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if self._error is None:
                self._send(step)
        self._settle()

    def _send(self, step: Step) -> None:
        asked = self._job.request
        model = self._models[step.index]
        request = replace(
            asked,
            model_name=model.name,
            model_version=model.version,
            inputs={name: _fitted(tensor, model.config, name) for name, tensor in step.inputs.items()},
            requested_outputs=step.outputs,
            trace=None if asked.trace is None else asked.trace.child(),
        )
        self._on_the_way[step.index] = request
        reply = _StepReply(self, step.index)
        try:
            reply.job = model.infer(request, reply)
        except InferError as error:
            del self._on_the_way[step.index]
            self._error = self._error or error

    def _settle(self) -> None:
        """Answer the request when nothing is on its way any more."""
        if self._on_the_way or self._job.answered:
            return
        if self._error is None and not self._trip.ended:
            return
        self._job.answered = True
        for model in self._models:
            model.leases.give_back()
        response = self._response()
        self._count(response)
        self._ensemble.arrived(self._job)
        self._job.reply.send(response)

    def _response(self) -> Response:
        name = self._ensemble.name
        if self._error is not None:
            return Response(error=InferError(self._error.fault, _in_ensemble(name, self._error)))
        config = self._ensemble.config
        outputs = {
            name: _fitted_output(tensor, config, name) for name, tensor in self._trip.outputs().items()
        }
        return Response(outputs, _place_in_sequence(self._job.request.correlation) if outputs else {})

    def _count(self, response: Response) -> None:
        statistics = self._ensemble.statistics
        took = now() - self._job.arrived
        if response.error is not None:
            cancelled = response.error.fault is Fault.CANCELLED
            statistics.failed(took, "CANCELED" if cancelled else "OTHER")
            return
        rows = self._job.request.batch_size
        execution = Execution(
            self._set_out,
            sum(each.compute_input for each in self._executions),
            sum(each.compute_infer for each in self._executions),
            sum(each.compute_output for each in self._executions),
        )
        self._job.execution = execution
        statistics.executed(rows, execution)
        statistics.succeeded(self._set_out - self._job.arrived, took, rows, execution)


class _StepReply:
    """The return address of one step."""

    __slots__ = ("_conductor", "_index", "_response", "job")

    def __init__(self, conductor: _Conductor, index: StepIndex) -> None:
        self._conductor = conductor
        self._index = index
        self._response: Response | None = None
        self.job: Job | None = None

    def send(self, response: Response) -> None:
        """Take a response; a step that closes itself with a silent one has answered before."""
        if self._response is None or not response.silent:
            self._response = response
        if response.final:
            self._conductor.absorb(self._index, self._response, self.job)


def _inherited_labels(graph: Graph, find: Find) -> dict[str, Sequence[str]]:
    """Return the labels that outputs have from the models that make them."""
    inherited: dict[str, Sequence[str]] = {}
    for output in graph.outputs:
        writer = graph.writer_of(output)
        if writer is not None:
            step = graph.steps[writer[0]]
            labels = find(step.model_name, step.model_version).labels.get(writer[1])
            if labels is not None:
                inherited[output] = labels
    return inherited


def _fitted(tensor: Tensor, model: ModelConfig, name: str) -> Tensor:
    """Return a tensor with the batch dimension that a step's model expects, added or removed where needed."""
    spec = next((spec for spec in model.inputs if spec.name == name), None)
    return tensor if spec is None else _with_rank(tensor, len(spec.dims), batching=model.max_batch_size > 0)


def _fitted_output(tensor: Tensor, ensemble: ModelConfig, name: str) -> Tensor:
    spec = next(spec for spec in ensemble.outputs if spec.name == name)
    return _with_rank(tensor, len(spec.dims), batching=ensemble.max_batch_size > 0)


def _with_rank(tensor: Tensor, dims: int, *, batching: bool) -> Tensor:
    rank = len(tensor.shape)
    if batching and rank == dims:
        return tensor.reshaped((1, *tensor.shape))
    if not batching and rank == dims + 1 and tensor.shape[0] == 1:
        return tensor.reshaped(tensor.shape[1:])
    return tensor


def _in_ensemble(name: str, error: InferError) -> str:
    return f"in ensemble '{name}', {error.message}" if error.message else ""


def _deadlock(request: Request) -> InferError:
    """Return the error of a request for which a step had nothing to say at all."""
    return invalid(
        f"{request_prefix(request.id)}unexpected deadlock, at least one output is not set while no more "
        "ensemble steps can be made"
    )


def _place_in_sequence(correlation: Correlation | None) -> dict[str, ParameterValue]:
    """Return what Triton tells in every response of an ensemble; 0 is the ID of no sequence."""
    sequence = correlation or _NO_SEQUENCE
    number = sequence.id
    if isinstance(number, int) and number >= 2**63:
        number -= 2**64  # parameters are integers with a sign
    return {"sequence_id": number, "sequence_start": sequence.start, "sequence_end": sequence.end}


_NO_SEQUENCE: Final = Correlation(0)
