"""`InferenceResponseSender`: how model code answers a request whenever it likes, from whichever thread.

The sender is a handle; what became of the request so far is kept in its `Answer`. The two are apart so that
the backend can hold the answer and still notice that nobody holds the sender any more: then nobody can
answer, and the request has to be failed lest its client waits for ever.

A model that is not decoupled has one response for each request, but may send it without the final flag and
the flag alone afterwards. That response is kept back until the flag comes, so clients get both at once.

A decoupled model waits where it sends while its client is too far behind; see `credit`. When nothing was read
for too long the request is given up, and what the model still sends is dropped, as for any caller who went
away. A coroutine does not wait there, since that would stop all other requests of its loop.
"""

import threading
from collections.abc import Container
from typing import Final

from ....proto.errors import Fault, InferError
from ....proto.message import Flow, Request, Response
from ...batch import Emit
from ..coroutines import in_coroutine
from .errors import TritonModelException
from .names import EXTENSION_MODULE
from .response import InferenceResponse

TRITONSERVER_RESPONSE_COMPLETE_FINAL: Final = 1

NOT_READ: Final = "the responses of this request were not read for too long; it was given up"


class Answer:
    """What became of one request: how many responses it got, and whether it is closed."""

    __slots__ = (
        "_closed",
        "_count",
        "_decoupled",
        "_emit",
        "_is_given_up",
        "_kept",
        "_lock",
        "_row",
        "_wanted",
        "request",
    )

    def __init__(
        self, request: Request, row: int, emit: Emit, wanted: Container[str], *, decoupled: bool
    ) -> None:
        self.request = request
        self._row = row
        self._emit = emit
        self._wanted = wanted
        self._decoupled = decoupled
        # Reentrant: under it the garbage collector may find the sender gone, and fail this very answer.
        self._lock = threading.RLock()
        self._closed = False
        self._is_given_up = False
        self._count = 0
        self._kept: Response | None = None

    @property
    def closed(self) -> bool:
        """Whether the request has its final response."""
        return self._closed

    def check(self, response: InferenceResponse | None, *, final: bool) -> None:
        """Raise TritonModelException if this may not be sent now."""
        if not self._decoupled:
            if response is not None and self._count:
                raise _unable("Non-decoupled model cannot send more than one response.")
            if response is None and final and not self._count:
                raise _unable("Non-decoupled model cannot send complete final before sending a response.")
        if self._closed:
            raise _unable("Response sender has been closed.")

    def send(self, response: InferenceResponse | None, *, final: bool) -> None:
        """Send a response, or the final flag alone; raises TritonModelException if it may not be sent now."""
        kept = not (self._decoupled or final)
        outgoing = (
            Response(silent=True)
            if response is None
            else response.as_wire(self._wanted, final=final, kept=kept)
        )
        flow = self.request.flow
        if flow is not None and response is not None and self._decoupled:
            self.check(response, final=final)
            if not self._has_credit(flow, outgoing.byte_size):
                self._give_up()
        if self._is_given_up:
            return
        with self._lock:  # also round the emission: responses leave in the order they were counted
            self.check(response, final=final)
            self._count += 1
            self._closed = final
            if self._decoupled:
                self._emit(self._row, outgoing)
            elif kept:
                self._kept = outgoing
            else:
                self._emit(self._row, self._finish(response, outgoing))

    def fail(self, error: InferError) -> None:
        """Close the request with an error, unless it is closed already."""
        with self._lock:
            if not self._closed and not self._is_given_up:
                self._closed = True
                self._emit(self._row, Response(error=error))

    def close(self) -> None:
        """Let nothing more be sent; somebody else answers the request, if it got no response yet."""
        with self._lock:
            if self._kept is not None and not self._closed:
                self._kept.final = True
                self._emit(self._row, self._kept)
            self._closed = True

    def release(self) -> None:
        """Let what was sent go, and nothing more: another answer takes the request over."""
        with self._lock:
            if self._kept is not None and not self._closed:
                self._emit(self._row, self._kept)
            self._closed = True

    def _has_credit(self, flow: Flow, size: int) -> bool:
        """Wait until the client has read enough; tell whether it did."""
        if not flow.has_room and in_coroutine():
            flow.spend(size)
            return True
        return flow.take(size)

    def _give_up(self) -> None:
        """End the request, though the model may go on to send: its client reads nothing."""
        with self._lock:
            if not self._closed and not self._is_given_up:
                self._is_given_up = True
                self.request.cancel()
                self._emit(self._row, Response(error=InferError(Fault.UNAVAILABLE, NOT_READ)))

    def _finish(self, response: InferenceResponse | None, outgoing: Response) -> Response:
        if response is not None or self._kept is None:
            return outgoing
        self._kept.final = True
        return self._kept


class InferenceResponseSender:
    """Sends responses to one request."""

    __module__ = EXTENSION_MODULE
    __slots__ = ("__weakref__", "answer")

    def __init__(self, answer: Answer | None) -> None:
        """Take the answer to write to; a request that the model made itself has none."""
        self.answer = answer

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        """Send a response, the final flag, or both; raises TritonModelException if that is not allowed."""
        if response is not None and not isinstance(response, InferenceResponse):
            raise TypeError(f"send: response must be an InferenceResponse, not {type(response).__name__}")
        if flags not in (0, TRITONSERVER_RESPONSE_COMPLETE_FINAL):
            raise _unable("Unsupported flag provided.")
        if response is None and flags == 0:
            raise TritonModelException(
                "Inference Response object must be provided when the response flags is set to zero."
            )
        if self.answer is None:
            raise _unable("Response sender has no reference to the decoupled state of the model.")
        self.answer.send(response, final=flags == TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def is_cancelled(self) -> bool:
        """Tell whether nobody waits for the answer any more."""
        return self.answer is not None and self.answer.request.cancelled


def _unable(why: str) -> TritonModelException:
    return TritonModelException(f"Unable to send response. {why}")
