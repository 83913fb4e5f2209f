"""One instance of a Python model: what it owes to a batch, and what happens when it does not keep to that.

`execute` of the model gets the requests of a batch and returns one response for each, or None for those that
it answers through their senders. Whatever it raises, and whatever else it returns, fails the requests of the
batch that have no final response yet; the instance lives on. The texts are those of Triton's python backend
(`pb_stub.cc`), for clients have come to know them.

A coroutine is waited for, so calls to one instance do not overlap; only a decoupled model's runs on beside
the next calls.
"""

import time
from collections.abc import Mapping, Sequence
from inspect import iscoroutine
from typing import Any

from ...proto.errors import InferError, internal
from ..batch import Batch, Emit
from .api.errors import TritonModelException
from .api.log import LogLevel, log_about_model
from .api.response import InferenceResponse
from .arrived import ArrivedRequest, Terms
from .coroutines import Coroutines
from .exception_text import exception_text
from .model_code import ModelCode
from .open_answers import OpenAnswers


class ContractError(Exception):
    """A model that does not do what is asked of every model; the message says what, without a traceback."""


class PythonEngine:
    """An instance of `TritonPythonModel`, initialised; owns its code, its answers and its coroutines."""

    def __init__(
        self, code: ModelCode, name: str, arguments: Mapping[str, str], terms: Terms, max_batch_size: int
    ) -> None:
        """Make and initialise the instance; raises InferError with what the model raised."""
        self._code = code
        self._name = name
        self._terms = terms
        self._max_batch_size = max_batch_size
        self._limit = max(1, max_batch_size)
        self._open = OpenAnswers(self._failure)
        self._coroutines = Coroutines(name)
        self._caller = code.caller
        try:
            self._model = code.model_class()()
            if hasattr(self._model, "initialize"):
                self._model.initialize(dict(arguments))
        except InferError:
            raise
        except BaseException as error:
            raise internal(exception_text(error)) from error
        self._caller.serving = True

    def execute(self, batch: Batch, emit: Emit) -> None:
        """Have the model answer a batch; raises InferError where it fails as a whole."""
        if batch.size > self._limit:
            raise internal(
                f"batch size {batch.size} for '{self._name}', max allowed is {self._max_batch_size}"
            )
        terms = self._terms
        arrived = [ArrivedRequest(request, row, emit, terms) for row, request in enumerate(batch.requests)]
        batch.inputs_ready = time.monotonic_ns()
        try:
            returned = self._call(arrived)
            batch.outputs_started = time.monotonic_ns()
            batch.rescheduled = self._answer(arrived, returned)
        except BaseException as error:
            batch.outputs_started = batch.outputs_started or time.monotonic_ns()
            for request in arrived:
                request.close()
            failure = self._failure(_reason(error))
            log_about_model(LogLevel.ERROR, failure.message, str(self._code.path))
            raise failure from error

    @property
    def tells_readiness(self) -> bool:
        """Whether the model has something to say about its readiness."""
        return hasattr(self._model, "is_ready")

    def is_ready(self) -> bool:
        """Ask the model, if it has something to say; an exception means no."""
        check = getattr(self._model, "is_ready", None)
        if check is None:
            return True
        try:
            told = check()
            if iscoroutine(told):
                told = self._coroutines.run(told)
        except BaseException as error:  # noqa: BLE001 - model code may raise anything; its thread goes on
            reason = exception_text(error)
        else:
            if isinstance(told, bool):
                return told
            reason = "is_ready() must return a boolean value"
        log_about_model(LogLevel.ERROR, reason, str(self._code.path))
        return False

    def forget_sequence(self, correlation_id: int | str, slot: int) -> None:
        """Tell the model, if it wants to hear it, that a sequence was abandoned."""
        forget = getattr(self._model, "forget_sequence", None)
        if forget is None:
            return
        try:
            told = forget(correlation_id, slot)
            if iscoroutine(told):
                self._coroutines.run(told)
        except BaseException as error:  # noqa: BLE001 - model code may raise anything; no request waits for this
            log_about_model(LogLevel.ERROR, exception_text(error), str(self._code.path))

    def close(self) -> None:
        """Finalise the model; requests that it still owes an answer fail."""
        self._caller.serving = False
        self._caller.house = None
        try:
            if hasattr(self._model, "finalize"):
                self._model.finalize()
        except BaseException as error:  # noqa: BLE001 - a model that cannot finalise must still go
            log_about_model(LogLevel.ERROR, exception_text(error), str(self._code.path))
        self._coroutines.close()
        self._open.fail_all(self._failure("the instance was closed before it answered"))
        self._model = None
        self._code.close()

    def _call(self, arrived: list[ArrivedRequest]) -> object:
        execute = getattr(self._model, "execute", None)
        if execute is None:
            raise ContractError(f"Python model {self._code.path} does not implement `execute` method.")
        returned: object = execute(arrived.copy())  # the model may do with its list what it likes
        if returned is not None and iscoroutine(returned):
            if not self._terms.decoupled:
                return self._coroutines.run(returned)
            self._coroutines.start(returned, lambda result, error: self._ended(arrived, result, error))
            return None
        return returned

    def _answer(self, arrived: Sequence[ArrivedRequest], returned: Any) -> Sequence[int]:  # noqa: ANN401 - model code returns anything
        """Answer what can be answered now; return the rows that are to come again."""
        if returned is None:
            return [row for row, request in enumerate(arrived) if self._leave_open(request)]
        self._check(arrived, returned)
        again = []
        for row, (request, response) in enumerate(zip(arrived, returned, strict=True)):
            if response is not None:
                request.settle(response)
            elif self._leave_open(request):
                again.append(row)
        return again

    def _check(self, arrived: Sequence[ArrivedRequest], returned: Any) -> None:  # noqa: ANN401 - model code returns anything
        """Raise if what `execute` returned is not one response, or None, for each request."""
        if self._terms.decoupled:
            raise ContractError(self._must_return_none)
        if not isinstance(returned, list):
            raise ContractError(f"Expected a list in the execute return, found type '{type(returned)}'.")
        if len(returned) != len(arrived):
            raise ContractError(
                "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
                f"InferenceRequest(s) size is:{len(arrived)}, and InferenceResponse(s) size is:"
                f"{len(returned)}\n"
            )
        for request, response in zip(arrived, returned, strict=True):
            if response is None:
                continue
            if request.comes_again:
                raise ContractError(
                    "Expected a None object in the execute function return list for reschduled request, "
                    f"found type '{type(response)}'."
                )
            if not isinstance(response, InferenceResponse):
                raise ContractError(
                    "Expected an 'InferenceResponse' object in the execute function return list, found type "
                    f"'{type(response)}'."
                )
            try:
                request.check(response)
            except TritonModelException as error:
                raise ContractError(str(error)) from None

    def _leave_open(self, request: ArrivedRequest) -> bool:
        """Leave a request to its next step and return True, or to whoever holds its sender."""
        if request.comes_again:
            request.hand_on()
            return True
        answer, sender = request.open()
        if not answer.closed:
            self._open.expect(answer, sender)
        return False

    def _ended(
        self, arrived: Sequence[ArrivedRequest], returned: object, error: BaseException | None
    ) -> None:
        """Fail what the coroutine of a decoupled model did not answer, if it did not end as it should."""
        if error is not None:
            reason = exception_text(error)
        elif returned is not None:
            reason = self._must_return_none
        else:
            return
        failure = self._failure(reason)
        log_about_model(LogLevel.ERROR, failure.message, str(self._code.path))
        for request in arrived:
            request.open()[0].fail(failure)

    @property
    def _must_return_none(self) -> str:
        mode = f"Python model '{self._name}' is using the decoupled mode"
        return f"{mode} and the execute function must return None."

    def _failure(self, reason: str) -> InferError:
        return internal(f"Failed to process the request(s) for model '{self._name}', message: {reason}")


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, ContractError) else exception_text(error)
