"""Models that answer a request any number of times, from threads of their own, to test what surrounds them.

A `repeat` model answers once for each element of `IN`: it waits the milliseconds that `DELAY` has for it, and
sends the element as `OUT` and its index as `IDX`. `execute` itself takes the milliseconds in `WAIT`. The
final flag follows by itself.

A `square` model answers as often as the one element of `IN` says, each time with that number. Its parameters
make it slow, and let it fail:

* `CUSTOM_INFER_DELAY_NS`, `CUSTOM_OUTPUT_DELAY_NS`: nanoseconds before and after a response is computed;
* `CUSTOM_CANCEL_DELAY_NS`: nanoseconds that it takes to see that a request was cancelled;
* `CUSTOM_FAIL_COUNT`, `CUSTOM_EMPTY_COUNT`: how many responses are errors, and how many of those after them
  are left out; they are the last ones.

Names, parameters and texts are those of Triton's backends. Beyond them, `repeat` stops when it is cancelled,
and both wait for clients who read too slowly.
"""

import threading
import time
from collections.abc import Callable

import numpy as np

from ..proto.config import ModelConfig
from ..proto.config.model_config import InputSpec, OutputSpec
from ..proto.config.shapes import spell
from ..proto.datatypes import Datatype
from ..proto.errors import Fault, InferError, invalid
from ..proto.message import Request, Response
from ..proto.schema.model_config_pb2 import ModelConfig as ConfigMessage
from ..proto.tensor import Tensor
from .api import Batch, Emit, Engine, ModelFiles, Seat, Settings
from .device import Device
from .parameters import integer

NANOSECOND = 1e-9


class RepeaterPlan:
    """A model: what makes its engines."""

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make

    def engine(self, seat: Seat) -> Engine:
        """Make the engine of one instance."""
        return self._make()

    def close(self) -> None:
        """Give back nothing."""


class RepeatBackend:
    """Makes models that answer with one element after the other."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings, as every backend does; none means anything here."""

    def complete(self, config: ConfigMessage, files: ModelFiles) -> ConfigMessage:
        """Return the configuration as it is: there is no file to tell more."""
        return config

    def load(self, config: ModelConfig, files: ModelFiles, device: Device) -> RepeaterPlan:
        """Check that the model has the inputs and outputs of its kind."""
        if config.max_batch_size:
            raise invalid("repeat backend only supports models with max_batch_size == 0")
        _check(config.inputs, "input", IN=Datatype.INT32, DELAY=Datatype.UINT32, WAIT=Datatype.UINT32)
        _check(config.outputs, "output", OUT=Datatype.INT32, IDX=Datatype.UINT32)
        return RepeaterPlan(RepeatEngine)


class SquareBackend:
    """Makes models that answer with a number as often as it says."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings, as every backend does; none means anything here."""

    def complete(self, config: ConfigMessage, files: ModelFiles) -> ConfigMessage:
        """Return the configuration as it is: there is no file to tell more."""
        return config

    def load(self, config: ModelConfig, files: ModelFiles, device: Device) -> RepeaterPlan:
        """Check that the model has the input and the output of its kind."""
        _check(config.inputs, "input", IN=Datatype.INT32)
        _check(config.outputs, "output", OUT=Datatype.INT32)
        return RepeaterPlan(lambda: SquareEngine(config))


def _check(tensors: tuple[InputSpec, ...] | tuple[OutputSpec, ...], kind: str, **expected: Datatype) -> None:
    """Raise InferError unless these tensors are there, in any order, each with its datatype."""
    found = {spec.name: spec.datatype for spec in tensors}
    if len(found) != len(expected):
        plural = "" if len(expected) == 1 else "s"
        raise invalid(f"expected {len(expected)} {kind}{plural}, got {len(found)}")
    for name, datatype in expected.items():
        if name not in found:
            raise invalid(f"expected an {kind} tensor with name {name}, got {', '.join(found)}")
        if found[name] is not datatype:
            raise invalid(f"expected {name} datatype to be {datatype.name}, got {found[name].config_name}")


class _Answers:
    """The threads that answer, one for each request."""

    def __init__(self) -> None:
        self._threads: set[threading.Thread] = set()
        self._closing = threading.Event()

    def start(self, answer: Callable[[], None]) -> None:
        """Answer a request on a thread of its own."""

        def run() -> None:
            try:
                answer()
            finally:
                self._threads.discard(thread)

        thread = threading.Thread(target=run, name="repeater", daemon=True)
        self._threads.add(thread)
        thread.start()

    def pause(self, seconds: float) -> None:
        """Wait, unless the engine closes."""
        if seconds > 0:
            self._closing.wait(seconds)

    def close(self) -> None:
        """End all waits, and then all threads."""
        self._closing.set()
        for thread in list(self._threads):
            thread.join()


def _send(request: Request, emit: Emit, row: int, response: Response) -> None:
    """Send a response when the client has read enough of those before."""
    if request.flow is not None and not request.flow.take(response.byte_size):
        request.cancel()
    emit(row, response)


def _scalar(number: int, datatype: Datatype, dims: int = 1) -> Tensor:
    return Tensor.from_numpy(np.full((1,) * dims, number, datatype.numpy_type))


class RepeatEngine:
    """One instance of a `repeat` model."""

    def __init__(self) -> None:
        self._answers = _Answers()

    def execute(self, batch: Batch, emit: Emit) -> None:
        """Begin to answer the one request of a batch, and wait as long as it says."""
        (request,) = batch.requests
        given, delays = request.inputs["IN"], request.inputs["DELAY"]
        if given.shape != delays.shape:
            shapes = f"{spell(given.shape)} and {spell(delays.shape)}"
            raise invalid(f"expected IN and DELAY shape to match, got {shapes}")
        numbers, pauses = given.numpy().ravel().tolist(), delays.numpy().ravel().tolist()
        self._answers.start(lambda: self._answer(request, emit, numbers, pauses))
        self._answers.pause(int(request.inputs["WAIT"].numpy().ravel()[0]) / 1000)

    def close(self) -> None:
        """Let the threads end."""
        self._answers.close()

    def _answer(self, request: Request, emit: Emit, numbers: list[int], pauses: list[int]) -> None:
        for index, (number, pause) in enumerate(zip(numbers, pauses, strict=True)):
            self._answers.pause(pause / 1000)
            if request.cancelled:
                break
            outputs = {"OUT": _scalar(number, Datatype.INT32), "IDX": _scalar(index, Datatype.UINT32)}
            _send(request, emit, 0, Response(outputs, final=False))
        emit(0, Response(silent=True))


class SquareEngine:
    """One instance of a `square` model."""

    def __init__(self, config: ModelConfig) -> None:
        def number(key: str) -> int:
            return integer(config.parameters, key, 0)

        self._answers = _Answers()
        self._infer_delay = number("CUSTOM_INFER_DELAY_NS") * NANOSECOND
        self._output_delay = number("CUSTOM_OUTPUT_DELAY_NS") * NANOSECOND
        self._cancel_delay = number("CUSTOM_CANCEL_DELAY_NS") * NANOSECOND
        self._failing = number("CUSTOM_FAIL_COUNT")
        self._empty = number("CUSTOM_EMPTY_COUNT")

    def execute(self, batch: Batch, emit: Emit) -> None:
        """Begin to answer all requests of a batch."""
        for row, request in enumerate(batch.requests):
            if request.inputs["IN"].element_count != 1:
                raise invalid("unexpected shape for IN input")
            self._answers.start(lambda row=row, request=request: self._answer(request, emit, row))  # type: ignore[misc]

    def close(self) -> None:
        """Let the threads end."""
        self._answers.close()

    def _answer(self, request: Request, emit: Emit, row: int) -> None:
        given = request.inputs["IN"]
        times = int(given.numpy().ravel()[0])
        for index in range(times - self._empty):
            if request.cancelled:
                break
            self._answers.pause(self._infer_delay)
            response = Response({"OUT": _scalar(times, Datatype.INT32, len(given.shape))}, final=False)
            response.computed = time.monotonic_ns()
            self._answers.pause(self._output_delay)
            if index >= times - self._empty - self._failing:
                response.error = InferError(Fault.UNKNOWN, "simulated failure")
            _send(request, emit, row, response)
        if request.cancelled:
            self._answers.pause(self._cancel_delay)
        else:
            for _ in range(min(self._empty, times) - 1):
                self._answers.pause(self._infer_delay)
                emit(row, Response(silent=True, final=False))
            self._answers.pause(self._infer_delay if self._empty else 0)
        emit(row, Response(silent=True))
