"""The observer: which requests are looked at more closely, and what is told of them afterwards.

A request may be traced, or be one that the access log wants; both need the same moments. Most of these the
actors take anyway for the statistics, and an `Observation` reads them off the job once it is answered; what
the front adds is when it received the request and when it sent the response. Requests nobody looks at have
no observation: they pay for one question, whether anything is observed at all.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ..actors.clock import MICROSECOND, Instant, now
from ..actors.reply import Reply
from ..actors.schedule import Job
from ..actors.servable import Servable
from ..actors.tracing import trace_job, trace_responses
from ..proto.errors import Fault, InferError
from ..proto.message import Request, Response
from ..proto.trace import Trace
from ..proto.trace_context import read_context
from .access_log import AccessLog
from .logs import printable
from .settings import TraceSettings
from .trace_settings import Changes
from .tracer import Sampler, Tracer


@dataclass(frozen=True, slots=True)
class Front:
    """A protocol, and what traces call its activities."""

    name: str
    receive_start: str
    receive_end: str
    send_start: str
    send_end: str


HTTP: Final = Front("HTTP", "HTTP_RECV_START", "HTTP_RECV_END", "HTTP_SEND_START", "HTTP_SEND_END")
GRPC: Final = Front("gRPC", "GRPC_WAITREAD_START", "GRPC_WAITREAD_END", "GRPC_SEND_START", "GRPC_SEND_END")
LIBRARY: Final = Front(
    "library", "LIBRARY_RECV_START", "LIBRARY_RECV_END", "LIBRARY_SEND_START", "LIBRARY_SEND_END"
)
"""The program that has the server for a library."""

Headers = Iterable[tuple[str | bytes, str | bytes]]


class Observer:
    """Decides who is observed; used on the loop."""

    __slots__ = ("_access_log", "_tracer", "active")

    def __init__(self, tracer: Tracer | None = None, access_log: AccessLog | None = None) -> None:
        self._tracer = tracer or Tracer(TraceSettings())
        self._access_log = access_log
        self.active = False
        """Whether anybody could be observed; what each request asks."""
        self._reconsider()

    def begin(
        self, front: Front, received: Instant, request: Request, model: Servable, headers: Headers
    ) -> "Observation | None":
        """Return the observation of a request that a front began to receive then, if it is observed.

        Its headers, or the metadata of its call, may tell the trace that it is part of.
        """
        caller = read_context(headers) if self._tracer.takes_contexts else None
        sampled = self._tracer.sample(model.name, caller)
        access_log = self._access_log if self._access_log is not None and self._access_log.wants() else None
        if sampled is None and access_log is None:
            return None
        return Observation(front, received, request, model, sampled, access_log)

    def trace_settings(self, model: str) -> TraceSettings:
        """Return what holds for a model, or with an empty name for all."""
        return self._tracer.settings(model)

    def change_trace(self, model: str, changes: Changes) -> None:
        """Change what is traced of a model, or of all; raises InferError and then has changed nothing."""
        self._tracer.change(model, changes)
        self._reconsider()

    def close(self) -> None:
        """Write what is not written yet, and observe nobody from now on; blocks until it is written."""
        self._tracer.close()
        if self._access_log is not None:
            self._access_log.close()
        self._tracer = Tracer(TraceSettings())
        self._access_log = None
        self._reconsider()

    def _reconsider(self) -> None:
        self.active = self._access_log is not None or self._tracer.active


class Observation:
    """One request that is observed: it stands between its front and its model."""

    __slots__ = (
        "_access_log",
        "_closed",
        "_decoded",
        "_ended",
        "_error",
        "_front",
        "_job",
        "_model",
        "_received",
        "_reply",
        "_request",
        "_responses",
        "_sampled",
        "_sends",
    )

    _reply: Reply

    def __init__(
        self,
        front: Front,
        received: Instant,
        request: Request,
        model: Servable,
        sampled: tuple[Trace, Sampler] | None,
        access_log: AccessLog | None,
    ) -> None:
        self._front = front
        self._received = received
        self._decoded = now()
        self._request = request
        self._model = model
        self._sampled = sampled
        self._access_log = access_log
        self._responses: list[Instant] = []
        self._sends: list[tuple[Instant, Instant]] = []
        self._ended: Instant = 0
        self._closed = False
        self._job: Job | None = None
        self._error: InferError | None = None
        if sampled is not None:
            request.trace = sampled[0]
            request.trace.show("TENSOR_QUEUE_INPUT", request.inputs)

    def infer(self, request: Request, reply: Reply) -> Job:
        """Leave the request with its model; raises InferError at once where it is refused."""
        self._reply = reply
        try:
            self._job = self._model.infer(request, self)
        except InferError as error:
            self._error = error
            self._closed = True
            self._log()
            raise
        return self._job

    def cancel(self, request: Request) -> None:
        """Tell the model that nobody waits for the request any more."""
        self._model.cancel(request)

    def send(self, response: Response) -> None:
        """Take a response of the model and pass it on."""
        moment = now()
        if not response.silent and not self._closed:
            self._responses.append(moment)
        if self._request.trace is not None:
            trace_responses(self._request.trace, response)
        if response.error is not None:
            self._error = response.error
        if response.final:
            self._ended = moment
            if self._closed and self._job is not None:
                self._write_trace_of_given_up(self._job, response)
        self._reply.send(response)

    def sent(self, began: Instant) -> None:
        """Hear that the front sent what it made of a response, and when it began to."""
        self._sends.append((began, now()))

    def close(self, error: BaseException | None = None) -> None:
        """Hear that the front has done with the request, and tell of it as soon as all is known.

        An error is one of the front: that a response could not be told, or that nobody waits for it.
        """
        if self._closed:
            return
        self._closed = True
        if isinstance(error, InferError):
            self._error = error
        elif not self._ended:
            # The log has it now; the trace goes on, for what was given up is often executed all the same.
            self._error = InferError(Fault.CANCELLED, "")
            self._log()
            return
        job = self._job
        if job is not None and job.execution is None and self._error is None and self._model.config.decoupled:
            job.on_settled = self._tell
        else:
            self._tell()

    def _write_trace_of_given_up(self, job: Job, last: Response) -> None:
        """Write the trace of a request that its model has come to the end of, long after its front."""
        if job.execution is None and last.error is None and self._model.config.decoupled:
            job.on_settled = self._write_trace
        else:
            self._write_trace()

    def _tell(self) -> None:
        self._write_trace()
        self._log()

    def _write_trace(self) -> None:
        if self._sampled is None or self._job is None:
            return
        trace, sampler = self._sampled
        job = self._job
        front = self._front
        trace_job(trace, job, self._model.name, self._model.version, self._ended or now())
        trace.mark(front.receive_start, self._received)
        trace.mark(front.receive_end, self._decoded)
        for moment in self._responses[:1]:
            trace.mark("INFER_RESPONSE_COMPLETE", moment)
        for began, ended in self._sends:
            trace.mark(front.send_start, began)
            trace.mark(front.send_end, ended)
        sampler.collect(trace)

    def _log(self) -> None:
        if self._access_log is None:
            return
        end = self._sends[-1][1] if self._sends else self._ended or now()
        members: dict[str, Any] = {
            "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "event": "request",
            "protocol": self._front.name,
            "model": self._model.name,
            "version": self._model.version,
            "request_id": printable(self._request.id),
            "status": "OK" if self._error is None else self._error.fault.name,
            "batch_size": self._request.batch_size,
            "responses": len(self._responses),
            "total_us": _us(end - self._received),
            "receive_us": _us(self._decoded - self._received),
            **self._phases(),
            "send_us": _us(sum(ended - began for began, ended in self._sends)),
        }
        if self._error is not None:
            members["error"] = printable(self._error.message)
        self._access_log.write(members)

    def _phases(self) -> dict[str, int]:
        """Return how long the stages of the model took, where it came to them."""
        job = self._job
        if job is None or job.execution is None:
            return {}
        execution = job.execution
        return {
            "queue_us": _us(execution.started - (job.queued or job.arrived)),
            "compute_input_us": _us(execution.compute_input),
            "compute_infer_us": _us(execution.compute_infer),
            "compute_output_us": _us(execution.compute_output),
        }


def _us(elapsed: int) -> int:
    return elapsed // MICROSECOND
