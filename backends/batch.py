"""A batch, and how it is answered: all that an engine's own code needs to know of those above it.

Apart from the faces in `api`, for the code of Python models runs in processes that import as little as can
be.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..proto.message import Request, Response


@dataclass(slots=True)
class Batch:
    """Requests that execute together, side by side.

    The two marks are the engine's to set, in nanoseconds of `time.monotonic_ns`, where it can tell the phases
    of its work apart; an engine that cannot leaves them 0 and all its time counts as inference.
    """

    requests: Sequence[Request]
    size: int
    """Rows of all requests together, each counting at least 1."""
    inputs_ready: int = field(default=0, compare=False)
    outputs_started: int = field(default=0, compare=False)
    rescheduled: Sequence[int] = field(default=(), compare=False)
    """Rows whose requests are to come again, for another step; the engine's to set before `execute` returns.
    Such a row may have got responses, but none that is final."""


class Emit(Protocol):
    """Answers one request of a batch; may be called from any thread, also after `execute` returned.

    Each request gets any number of responses and exactly one that is final. One that is still unanswered when
    `execute` returns stays open: the engine that left it so must answer it later, or fail it. A row that is
    rescheduled is answered no more: its request comes again, as a row of another batch.
    """

    def __call__(self, row: int, response: Response) -> None:
        """Send a response to the request at index `row` of the batch."""
