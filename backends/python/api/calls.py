"""Calls: what model code asks other models, and how it hears what they answer.

Requests go to the house at once, and responses come on its threads; here they are kept until the model reads
them. So a call costs its caller no thread: `exec` waits on a queue, `async_exec` on a future of the model's
own event loop.

Whatever goes wrong is the response, as in Triton: an `InferenceResponse` that is an error.
"""

import weakref
from queue import SimpleQueue
from typing import Final, Self

from ....proto.errors import Fault, InferError
from ....proto.message import Request, Response
from ...credit import Credit
from ...house import House, Withdraw
from ..promise import Awaited, Promise
from .caller import Caller, find_caller
from .errors import TritonModelException
from .names import EXTENSION_MODULE
from .response import InferenceResponse

BACKLOG: Final = 16_384
"""Responses that may wait for a model that does not read them before the other model waits where it sends.

More than for a client, since a model may well read one answer after the other of several that come at the
same time. Where the other model does not wait, the request is given up.
"""
BACKLOG_BYTES: Final = 256 << 20
"""Bytes of these responses."""


class ResponseIterator:
    """The responses of a model that sends any number of them; may be read again when all have come.

    A model that began to read and then lets go of the iterator wants no more: the request is withdrawn. One
    that never read wants it done, so it goes on, and what it answers is dropped.
    """

    __module__ = EXTENSION_MODULE
    __slots__ = ("__weakref__", "_inbox", "_next", "_read")

    def __init__(self, inbox: "_Inbox") -> None:
        self._inbox = inbox
        self._read: list[InferenceResponse] = []
        self._next = 0
        weakref.finalize(self, inbox.abandon).atexit = False

    def __iter__(self) -> Self:
        """Go on where the last reading stopped; begin anew where it came to the end."""
        if self._inbox.is_read and self._next >= len(self._read):
            self._next = 0
        return self

    def __next__(self) -> InferenceResponse:
        """Return the next response, after waiting for it; the last may have neither outputs nor an error."""
        if self._next >= len(self._read):
            if self._inbox.is_read:
                raise StopIteration
            self._read.append(InferenceResponse.of_wire(self._inbox.take()))
        self._next += 1
        return self._read[self._next - 1]

    def cancel(self) -> None:
        """Tell the other model that nobody needs more; what it still sends can be read."""
        if not self._inbox.is_read:
            self._inbox.withdraw()


class _Inbox:
    """Where responses wait until they are read; outlives its iterator until the last one has come."""

    __slots__ = ("_flow", "_is_over", "_waiting", "is_begun", "is_read", "withdraw")

    def __init__(self, request: Request) -> None:
        self._flow = request.flow = Credit(BACKLOG, BACKLOG_BYTES)
        self.withdraw: Withdraw = _nothing
        self.is_begun = False
        self.is_read = False
        """Whether the final response was taken."""
        self._waiting: SimpleQueue[Response] = SimpleQueue()
        self._is_over = False
        """Whether no more responses are kept: the final one is here, or nobody reads."""

    def receive(self, response: Response) -> None:
        """Keep a response; on a thread of the house."""
        if self._is_over:
            return
        if self._waiting.qsize() >= BACKLOG:
            response = Response(error=InferError(Fault.UNAVAILABLE, _TOO_SLOW))
            self.withdraw()
        self._is_over = response.final
        self._waiting.put(response)

    def take(self) -> Response:
        """Return the next response, after waiting for it."""
        self.is_begun = True
        response = self._waiting.get()
        self.is_read = response.final
        if not response.silent:
            self._flow.give_back()
        return response

    def abandon(self) -> None:
        """Keep nothing more: the iterator is gone."""
        if self.is_begun and not self.is_read:
            self.withdraw()
        self._is_over = True
        self._waiting = SimpleQueue()
        self._flow.lift()


def ask(caller: Caller | None, request: Request) -> InferenceResponse:
    """Ask a model and wait for its one response; raises TritonModelException where nobody may ask."""
    caller, house = _permitted(caller)
    received: SimpleQueue[Response] = SimpleQueue()
    house.ask(caller.asker, request, received.put, decoupled=False)
    return InferenceResponse.of_wire(received.get())


def ask_later(caller: Caller | None, request: Request) -> Awaited[InferenceResponse]:
    """Ask a model; the future is its one response, and cancelling it withdraws the request."""
    caller, house = _permitted(caller)
    promise: Promise[InferenceResponse] = Promise()

    def receive(response: Response) -> None:
        promise.keep(InferenceResponse.of_wire(response))

    promise.withdraw = house.ask(caller.asker, request, receive, decoupled=False)
    return promise.future


def ask_many(caller: Caller | None, request: Request) -> ResponseIterator:
    """Ask a model for any number of responses; the iterator waits for each."""
    caller, house = _permitted(caller)
    inbox = _Inbox(request)
    inbox.withdraw = house.ask(caller.asker, request, inbox.receive, decoupled=True)
    return ResponseIterator(inbox)


def ask_many_later(caller: Caller | None, request: Request) -> Awaited[ResponseIterator]:
    """Ask a model for any number of responses; the future is kept when the first has come."""
    caller, house = _permitted(caller)
    promise: Promise[ResponseIterator] = Promise()
    inbox = _Inbox(request)
    is_first = True

    def receive(response: Response) -> None:
        nonlocal is_first
        inbox.receive(response)
        if is_first:
            is_first = False
            promise.keep(ResponseIterator(inbox))

    inbox.withdraw = promise.withdraw = house.ask(caller.asker, request, receive, decoupled=True)
    return promise.future


def _permitted(caller: Caller | None) -> tuple[Caller, House]:
    """Return who asks and whom; raises TritonModelException where code asks that is not being served."""
    caller = caller or find_caller()
    if caller is None or caller.house is None or not caller.serving:
        raise TritonModelException("BLS is only supported during the 'execute' function.")
    return caller, caller.house


def _nothing() -> None:
    """Withdraw a request that the house has not taken yet."""


_TOO_SLOW: Final = f"more than {BACKLOG} responses wait to be read; the request was given up"
