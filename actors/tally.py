"""The tally of a batch that streams: which response of each request is the next, and when it began."""

from collections.abc import Sequence

from ..proto.message import Response
from .clock import Instant, now
from .schedule import Job
from .statistics import Statistics


class Tally:
    """Counts the responses of the requests of one batch; on the loop."""

    __slots__ = ("_began", "_indexes", "_jobs", "_statistics")

    def __init__(self, jobs: Sequence[Job], statistics: Statistics) -> None:
        self._jobs = jobs
        self._statistics = statistics
        self._indexes = [0] * len(jobs)
        self._began: list[Instant] = [0] * len(jobs)
        """When the response before was handed on; 0 before the first one."""

    def count(self, row: int, response: Response, started: Instant, emitted: Instant) -> None:
        """Count the response that is about to be handed on; the batch started and the model gave it then."""
        sent = now()
        job = self._jobs[row]
        index = self._indexes[row]
        if not index:
            self._statistics.first_responded(sent - job.arrived)
        # A model may well give the next response away before the last one was handed on.
        began = min(self._began[row] or started, emitted)
        self._statistics.responded(index, _kind(job, response), began, emitted, sent)
        self._indexes[row] = index + 1
        self._began[row] = sent


def _kind(job: Job, response: Response) -> str:
    """Return the field of `ResponseStatistics` that a response is counted under."""
    if job.request.cancelled:
        return "cancel"
    if response.error is not None:
        return "fail"
    return "empty_response" if response.silent else "success"
