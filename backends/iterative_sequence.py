"""Models that count down: asked for n, they answer n - 1, n - 2 … 0, one number with each execution.

They are there to test what surrounds them. Until 0 is told a request is rescheduled, so one answer after the
other is a step of its own through the schedule. What is left of a request is remembered by its correlation
ID, which an iterative model may count on.

The parameter `execute_delay_ms` is the time in milliseconds that each request of an execution takes; half a
second where it is not set.
"""

import time
from typing import Final

import numpy as np

from ..proto.config import ModelConfig
from ..proto.datatypes import Datatype
from ..proto.errors import invalid
from ..proto.message import Request, Response
from ..proto.schema.model_config_pb2 import ModelConfig as ConfigMessage
from ..proto.tensor import Tensor
from .api import Batch, Emit, ModelFiles, Seat, Settings
from .device import Device
from .parameters import integer

DELAY_MS: Final = 500


class IterativeSequenceBackend:
    """Makes models that count down."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings, as every backend does; none means anything here."""

    def complete(self, config: ConfigMessage, files: ModelFiles) -> ConfigMessage:
        """Return the configuration as it is: there is no file to tell more."""
        return config

    def load(self, config: ModelConfig, files: ModelFiles, device: Device) -> "IterativeSequencePlan":
        """Check that the model is decoupled, and has the one input and the one output."""
        inputs = [(each.name, each.datatype) for each in config.inputs]
        outputs = [(each.name, each.datatype) for each in config.outputs]
        if (inputs, outputs) != ([("INPUT", Datatype.INT32)], [("OUTPUT", Datatype.INT32)]):
            raise invalid(
                f"model '{config.name}' must have one input 'INPUT' and one output 'OUTPUT', both TYPE_INT32"
            )
        if not config.decoupled:
            raise invalid(f"model '{config.name}' must be decoupled: it answers a request more than once")
        return IterativeSequencePlan(integer(config.parameters, "execute_delay_ms", DELAY_MS) / 1000)


class IterativeSequencePlan:
    """What the instances of one model share."""

    def __init__(self, delay: float) -> None:
        """Take the seconds that a request of an execution takes."""
        self._delay = delay

    def engine(self, seat: Seat) -> "IterativeSequenceEngine":
        """Make the engine of one instance, which has nothing to count down yet."""
        return IterativeSequenceEngine(self._delay)

    def close(self) -> None:
        """Give back nothing."""


class IterativeSequenceEngine:
    """How far the sequences of one instance have counted."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._left: dict[int | str, int] = {}

    def execute(self, batch: Batch, emit: Emit) -> None:
        """Tell each request its next number, and have it come again until that is 0."""
        again = []
        for row, request in enumerate(batch.requests):
            time.sleep(self._delay)
            given = request.inputs["INPUT"]
            left = self._count(request, int(given.numpy().flat[0]))
            told = Tensor.from_numpy(np.full(given.shape, left, np.int32))
            emit(row, Response({"OUTPUT": told}, final=left <= 0))
            if left > 0:
                again.append(row)
        batch.rescheduled = again

    def forget_sequence(self, correlation_id: int | str, slot: int) -> None:
        """Forget the count of an abandoned sequence."""
        self._left.pop(correlation_id, None)

    def close(self) -> None:
        """Forget all counts."""
        self._left.clear()

    def _count(self, request: Request, first: int) -> int:
        """Return the next number of a sequence; the last one is forgotten."""
        correlation = request.correlation
        if correlation is None:  # no sequence, so there will be no other step
            return first - 1
        before = first if correlation.start else self._left.pop(correlation.id, first)
        if before > 1:
            self._left[correlation.id] = before - 1
        return before - 1
