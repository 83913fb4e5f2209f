"""The tally of a model that streams: which response of its request is the next, and when it began."""

from ..proto.message import Response
from .clock import Instant, now
from .schedule import Job
from .statistics import Statistics


def tally(statistics: Statistics, job: Job, response: Response, started: Instant, emitted: Instant) -> None:
    """Count a response that is about to be handed on; its batch started, and the model gave it, then."""
    sent = now()
    if not job.responses:
        statistics.first_responded(sent - job.arrived)
    # A model may well give the next response away before the last one was handed on.
    began = min(max(job.responded, started), emitted)
    computed = response.computed or emitted
    statistics.responded(job.responses, _kind(job, response), began, computed, sent)
    job.responses += 1
    job.responded = sent


def _kind(job: Job, response: Response) -> str:
    """Return the field of `ResponseStatistics` that a response is counted under."""
    if response.error is not None:
        return "fail"
    if not response.silent:
        return "success"
    return "cancel" if job.request.cancelled else "empty_response"
