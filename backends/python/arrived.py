"""A request as it arrives in `execute`: the model's view of it, and the backend's way to its answer.

The usual request is answered by what `execute` returns and never needs more than this one object. Only when
the model takes its sender, or returns None for it, an `Answer` is made that keeps count of what was sent.
"""

import threading
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from ...proto.message import Request
from ..batch import Emit
from .api.request import (
    TRITONSERVER_REQUEST_RELEASE_ALL,
    TRITONSERVER_REQUEST_RELEASE_RESCHEDULE,
    InferenceRequest,
)
from .api.response import InferenceResponse
from .api.sender import Answer, InferenceResponseSender
from .api.trace import InferenceTrace

_NO_TRACE: Final = InferenceTrace()

_senders_are_made = threading.RLock()  # reentrant, for the garbage collector may run model code under it


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for the answers to all requests of a model."""

    decoupled: bool
    outputs: tuple[str, ...]
    """The names of all outputs, sorted: what a request wants that names none."""


class ArrivedRequest(InferenceRequest):
    """One request of a batch."""

    __slots__ = ("_answer", "_emit", "_row", "_settled", "_terms")

    _answer: Answer | None
    """What was sent so far, once the model took the sender."""

    def __init__(self, request: Request, row: int, emit: Emit, terms: Terms) -> None:
        self.request = request
        self.release_flags = TRITONSERVER_REQUEST_RELEASE_ALL
        self._row = row
        self._emit = emit
        self._terms = terms
        self._caller = None
        self._inputs = None
        self._flags = None
        self._trace = _NO_TRACE if request.trace is None else InferenceTrace(request.trace)
        self._sender = None
        self._answer = None
        self._settled = False

    @property
    def comes_again(self) -> bool:
        """Whether the model wants to run another step of it."""
        return self.release_flags == TRITONSERVER_REQUEST_RELEASE_RESCHEDULE

    def requested_output_names(self) -> list[str]:
        """Return the names of the outputs that are wanted, sorted, each once."""
        return super().requested_output_names() or list(self._terms.outputs)

    def get_response_sender(self) -> InferenceResponseSender:
        """Return the sender of this request; the same each time, from whichever thread."""
        return self.open()[1]

    def open(self) -> tuple[Answer, InferenceResponseSender]:
        """Return the answer of this request, and the sender that writes to it."""
        with _senders_are_made:
            if self._answer is None or self._sender is None:
                self._answer = Answer(
                    self.request, self._row, self._emit, self._wanted, decoupled=self._terms.decoupled
                )
                self._sender = InferenceResponseSender(self._answer)
                if self._settled:
                    self._answer.close()
            return self._answer, self._sender

    def check(self, response: InferenceResponse) -> None:
        """Raise TritonModelException if the request may not be answered with this any more."""
        if self._answer is not None:
            self._answer.check(response, final=True)

    def settle(self, response: InferenceResponse) -> None:
        """Answer with what `execute` returned."""
        self._settled = True
        if self._answer is None:
            self._emit(self._row, response.as_wire(self._wanted, final=True))
        else:
            self._answer.send(response, final=True)

    def hand_on(self) -> None:
        """Leave the answer to the next step of the request: in this one the model sends nothing more."""
        if self._answer is not None:
            self._answer.release()
        self._settled = True

    def close(self) -> None:
        """Let the model send nothing more."""
        self._settled = True
        if self._answer is not None:
            self._answer.close()

    @property
    def _wanted(self) -> Container[str]:
        return self.request.requested_outputs or self._terms.outputs
