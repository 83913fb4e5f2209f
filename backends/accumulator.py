"""Models that add up a sequence: every element of `OUTPUT` is the sum of all `INPUT` since its START.

They are there to test what surrounds them, and find out in two ways whose row is whose. A `sequence` model
goes by the row of the batch, as the direct strategy of the sequence batcher promises. A `dyna_sequence` model
goes by CORRID, as it must under the oldest strategy; with END it adds the correlation ID itself.

START, READY, END and CORRID are control inputs. The parameter `execute_delay_ms` is the time in milliseconds
that each execution takes.
"""

import time
from typing import Any

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


class AccumulatorBackend:
    """Makes models that add up sequences by the rows of their batches."""

    by_correlation = False

    def __init__(self, settings: Settings) -> None:
        """Take the settings, as every backend does; none means anything here."""

    def complete(self, config: ConfigMessage, files: ModelFiles) -> ConfigMessage:
        """Return the configuration as it is: there is no file to tell more."""
        return config

    def load(self, config: ModelConfig, files: ModelFiles, device: Device) -> "AccumulatorPlan":
        """Check that the model has the one input and the one output."""
        names = [each.name for each in config.inputs], [each.name for each in config.outputs]
        if names != (["INPUT"], ["OUTPUT"]):
            raise invalid(f"model '{config.name}' must have one input 'INPUT' and one output 'OUTPUT'")
        return AccumulatorPlan(config, by_correlation=self.by_correlation)


class CorrelatedAccumulatorBackend(AccumulatorBackend):
    """Makes models that add up sequences by their correlation IDs."""

    by_correlation = True


class AccumulatorPlan:
    """What the instances of one model share."""

    def __init__(self, config: ModelConfig, *, by_correlation: bool) -> None:
        self.datatype: Datatype = config.outputs[0].datatype
        self.delay = integer(config.parameters, "execute_delay_ms", 0) / 1000
        self.by_correlation = by_correlation

    def engine(self, seat: Seat) -> "AccumulatorEngine":
        """Make the engine of one instance, which has seen no sequence yet."""
        return AccumulatorEngine(self)

    def close(self) -> None:
        """Give back nothing."""


class AccumulatorEngine:
    """The sums of the sequences that one instance serves."""

    def __init__(self, plan: AccumulatorPlan) -> None:
        self._plan = plan
        self._sums: dict[object, Any] = {}

    def execute(self, batch: Batch, emit: Emit) -> None:
        """Add each request to the sum of its sequence, and answer with that."""
        if self._plan.delay:
            time.sleep(self._plan.delay)
        for row, request in enumerate(batch.requests):
            given = request.inputs["INPUT"].numpy()
            result = self._add(row, request, given.sum())
            array = np.full(given.shape, result).astype(self._plan.datatype.numpy_type)
            emit(row, Response({"OUTPUT": Tensor.from_numpy(array, self._plan.datatype)}))

    def forget_sequence(self, correlation_id: int | str, slot: int) -> None:
        """Forget the sum of an abandoned sequence."""
        key = correlation_id.encode() if isinstance(correlation_id, str) else correlation_id
        self._sums.pop(key if self._plan.by_correlation else slot, None)

    def close(self) -> None:
        """Forget the sums."""
        self._sums.clear()

    def _add(self, row: int, request: Request, number: Any) -> Any:  # noqa: ANN401 - a number of any datatype
        if not _control(request, "READY", default=True):
            return 0
        key = _control(request, "CORRID", default=0) if self._plan.by_correlation else row
        before = 0 if _control(request, "START", default=False) else self._sums.get(key, 0)
        total = self._sums[key] = before + number
        if self._plan.by_correlation and _control(request, "END", default=False):
            del self._sums[key]
            return total + _number(key)
        return total


def _number(correlation_id: int | bytes) -> int:
    """Return a correlation ID as a number; raises InferError where a text is none."""
    try:
        return int(correlation_id)
    except ValueError:
        raise invalid("the correlation ID of this model must be a number, or the digits of one") from None


def _control(request: Request, name: str, *, default: Any) -> Any:  # noqa: ANN401 - a control of any datatype
    """Return the one element of a control input."""
    tensor = request.inputs.get(name)
    return default if tensor is None else tensor.numpy().item()
