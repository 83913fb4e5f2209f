"""How a job on its way through a model is written into its trace; nothing is measured for that alone."""

from ..proto.message import Response
from ..proto.trace import Trace
from .clock import Instant
from .schedule import Job


def trace_responses(trace: Trace, response: Response) -> None:
    """Write down the outputs of a response."""
    trace.show("TENSOR_BACKEND_OUTPUT", response.outputs)


def trace_job(trace: Trace, job: Job, name: str, version: int, ended: Instant) -> None:
    """Write down the way of an answered job; a model that leads others has no computation of its own."""
    trace.model_name = name
    trace.model_version = version
    trace.request_id = job.request.id
    trace.mark("REQUEST_START", job.arrived)
    trace.mark("QUEUE_START", job.queued or job.arrived)
    execution = job.execution
    if execution is not None and job.queued:
        moment = execution.started
        trace.mark("COMPUTE_START", moment)
        moment += execution.compute_input
        trace.mark("COMPUTE_INPUT_END", moment)
        moment += execution.compute_infer
        trace.mark("COMPUTE_OUTPUT_START", moment)
        trace.mark("COMPUTE_END", moment + execution.compute_output)
    trace.mark("REQUEST_END", ended)
