"""One instance of a model that is a function: how a batch is answered, in each form that its outcome has.

| outcome | answered |
| --- | --- |
| a list, with an answer for each request | when the function returns |
| a generator of such lists | as they come, while the instance waits for the next |
| an awaitable of one, an asynchronous generator | when they come, beside other batches of the instance |

In a list that is generated, None is no answer to that request this time. What a function raises fails the
requests of its batch that have no final response yet; the instance lives on.
"""

import threading
from collections.abc import Awaitable, Sequence
from inspect import isasyncgen, isawaitable, isgenerator
from typing import Any, Final

import structlog

from ...proto.errors import Fault, InferError, internal
from ...proto.message import Response
from ..api import Batch, Emit, Seat
from ..bindings import Binding, Function
from ..python.coroutines import Coroutines
from ..python.exception_text import exception_text
from .answers import Answers
from .context import CURRENT, Context
from .errors import UnrecoverableError
from .request import Request

MAX_BESIDE: Final = 64
"""Batches of one asynchronous function that may be on their way at the same time."""

log: Final = structlog.stdlib.get_logger("deuteron.callable")


class CallableEngine:
    """Calls one function; owns the event loop of what it awaits."""

    def __init__(self, function: Function, binding: Binding, context: Context, seat: Seat) -> None:
        self._function = function
        self._binding = binding
        self._context = context
        self._name = seat.name
        self._decoupled = context.model_config.decoupled
        self._answers = Answers(context.model_config, strict=binding.strict)
        self._coroutines = Coroutines(seat.name)
        self._room = threading.BoundedSemaphore(MAX_BESIDE)

    def execute(self, batch: Batch, emit: Emit) -> None:
        """Have the function answer a batch; raises InferError where it fails."""
        token = CURRENT.set(self._context)
        try:
            outcome = self._function([Request.arrived(each) for each in batch.requests])
            if isgenerator(outcome):
                self._generate(outcome, batch, emit)
            elif isasyncgen(outcome):
                self._begin(self._generated(outcome, batch, emit), batch, emit)
            elif isawaitable(outcome):
                self._begin(self._awaited(outcome, batch, emit), batch, emit)
            else:
                self._answer(outcome, batch, emit, final=True)
        except BaseException as error:
            raise self._failure(error) from error
        finally:
            CURRENT.reset(token)

    def close(self) -> None:
        """End what is still awaited; its requests fail."""
        self._coroutines.close()

    # --- the forms of an outcome ---

    def _generate(self, outcome: Any, batch: Batch, emit: Emit) -> None:  # noqa: ANN401 - a generator of anything
        self._check_decoupled("a generator")
        try:
            for answers in outcome:
                self._answer(answers, batch, emit, final=False)
                if _is_unwanted(batch):
                    break
        finally:
            outcome.close()
        _end(batch, emit)

    async def _generated(self, outcome: Any, batch: Batch, emit: Emit) -> None:  # noqa: ANN401 - as above
        try:
            self._check_decoupled("a generator")
            async for answers in outcome:
                self._answer(answers, batch, emit, final=False)
                if _is_unwanted(batch):
                    break
        finally:
            await outcome.aclose()
        _end(batch, emit)

    async def _awaited(self, outcome: Awaitable[Any], batch: Batch, emit: Emit) -> None:
        self._answer(await outcome, batch, emit, final=True)

    def _begin(self, coroutine: Any, batch: Batch, emit: Emit) -> None:  # noqa: ANN401 - a coroutine
        """Run a coroutine beside the next batches, or wait until there is room for it.

        When nobody waits for any of its answers it is cancelled.
        """

        def done(_: object, error: BaseException | None) -> None:
            self._room.release()
            if error is not None:
                failure = InferError(Fault.CANCELLED, "") if _is_unwanted(batch) else self._failure(error)
                for row in range(len(batch.requests)):
                    emit(row, Response(error=failure))

        self._room.acquire()
        cancel = self._coroutines.start(coroutine, done)

        def look() -> None:
            if _is_unwanted(batch):
                cancel()

        for request in batch.requests:
            request.on_cancel = look
        look()

    # --- answers ---

    def _answer(self, answers: object, batch: Batch, emit: Emit, *, final: bool) -> None:
        requests = batch.requests
        if not isinstance(answers, Sequence) or len(answers) != len(requests):
            told = f"{len(answers)} of them" if isinstance(answers, Sequence) else type(answers).__name__
            raise TypeError(
                f"expected a list with an answer for each of {len(requests)} requests, got {told}"
            )
        responses = [
            None if answer is None and not final else self._answers.response(answer, request, final=final)
            for answer, request in zip(answers, requests, strict=True)
        ]
        for row, response in enumerate(responses):
            if response is not None:
                emit(row, response)

    def _check_decoupled(self, outcome: str) -> None:
        if not self._decoupled:
            raise TypeError(f"the function returned {outcome}, which takes ModelConfig(decoupled=True)")

    def _failure(self, error: BaseException) -> InferError:
        """Return what clients are told of an error, and tell whoever else must know."""
        if isinstance(error, InferError):
            return error
        text = exception_text(error)
        log.error("function failed", model=self._binding.name, instance=self._name, reason=text)
        if isinstance(error, UnrecoverableError):
            self._binding.unrecoverable(error)
        return internal(f"Failed to process the request(s) for model '{self._name}', message: {text}")


def _is_unwanted(batch: Batch) -> bool:
    return all(request.cancelled for request in batch.requests)


def _end(batch: Batch, emit: Emit) -> None:
    """Close every request, for all that there was to say has been said."""
    for row in range(len(batch.requests)):
        emit(row, Response(final=True, silent=True))
