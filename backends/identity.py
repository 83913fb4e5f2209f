"""Models that answer with what they are asked: `OUTPUT<suffix>` is `INPUT<suffix>`, without a copy.

Any number of tensors, of any datatype. For an optional input that is missing the output is zeros, with 1 for
each dimension of variable size. Every response carries the same four parameters, one of each kind.

The backend is there to test what surrounds it. The parameters of a model tell it to be slow or to fail:

* `execute_delay_ms`: milliseconds that each execution takes;
* `instance_wise_delay_multiplier`: times the number of the instance, it multiplies that delay where it
  makes it longer;
* `creation_delay_sec`: seconds that loading takes;
* `fail_load`: loading fails, with this message;
* `fail_every`: an engine refuses every n-th of its executions;
* `break_every`: an engine breaks at every n-th of its executions, and the house must make a new one.
"""

import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..proto.config import ModelConfig
from ..proto.config.model_config import InputSpec
from ..proto.datatypes import Datatype
from ..proto.errors import internal, invalid
from ..proto.message import Parameters, Request, Response
from ..proto.schema.model_config_pb2 import ModelConfig as ConfigMessage
from ..proto.tensor import Shape, Tensor
from .api import Batch, Emit, ModelFiles, Seat, Settings
from .device import Device
from .parameters import integer

RESPONSE_PARAMETERS: Final[Parameters] = {
    "param0": "an example string parameter",
    "param1": 42,
    "param2": False,
    "param3": 123.123,
}


class DeliberateBreakError(Exception):
    """What an engine raises because `break_every` says so."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An output and the input it repeats."""

    output: str
    input: str
    datatype: Datatype
    absent_shape: Shape
    """The shape of the zeros that stand in for a missing input, without the batch dimension."""

    def zeros(self, rows: int | None) -> Tensor:
        """Return what stands in for a missing input; `rows` is None where the model does not batch."""
        shape = self.absent_shape if rows is None else (rows, *self.absent_shape)
        fill = b"" if self.datatype is Datatype.BYTES else 0
        return Tensor.from_numpy(np.full(shape, fill, self.datatype.numpy_type), self.datatype)


class IdentityBackend:
    """Makes models that repeat their inputs."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings, as every backend does; none means anything here."""

    def complete(self, config: ConfigMessage, files: ModelFiles) -> ConfigMessage:
        """Return the configuration as it is: there is no file to tell more."""
        return config

    def load(self, config: ModelConfig, files: ModelFiles, device: Device) -> "IdentityPlan":
        """Check the configuration, and wait or fail where it says so."""
        if message := config.parameters.get("fail_load"):
            raise internal(message)
        time.sleep(integer(config.parameters, "creation_delay_sec", 0))
        return IdentityPlan(config, pair(config))


def pair(config: ModelConfig) -> tuple[Pair, ...]:
    """Return each output of a model with the input it repeats; raises InferError where they do not match."""
    if len(config.inputs) != len(config.outputs):
        raise invalid("model configuration must have equal input/output pairs")
    inputs = {_suffix("input", "INPUT", each.name): each for each in config.inputs}
    outputs = {_suffix("output", "OUTPUT", each.name): each for each in config.outputs}
    pairs = []
    for suffix, output in outputs.items():
        if suffix not in inputs:
            raise invalid("expected input and output indices to match")
        source = inputs[suffix]
        if source.datatype is not output.datatype:
            types = f"{source.datatype.config_name} and {output.datatype.config_name}"
            raise invalid(f"expected input and output datatype to match, got {types}")
        inner = output.dims if output.reshape is None else output.reshape
        if _inner(source) != inner:
            shapes = " and ".join(f"[{','.join(map(str, shape))}]" for shape in (_inner(source), inner))
            raise invalid(f"expected input and output shape to match, got {shapes}")
        pairs.append(
            Pair(
                output.name, source.name, output.datatype, tuple(1 if size == -1 else size for size in inner)
            )
        )
    return tuple(pairs)


def _suffix(kind: str, prefix: str, name: str) -> str:
    if not name.startswith(prefix):
        raise invalid(f"expected {kind} name to follow {prefix}<index> pattern, got '{name}'")
    return name.removeprefix(prefix)


def _inner(spec: InputSpec) -> Shape:
    return spec.dims if spec.reshape is None else spec.reshape


class IdentityPlan:
    """What the instances of one model share: the pairs, and when to be slow or to fail."""

    def __init__(self, config: ModelConfig, pairs: tuple[Pair, ...]) -> None:
        self.pairs = pairs
        self.batching = config.max_batch_size > 0
        self.delay_ms = integer(config.parameters, "execute_delay_ms", 0)
        self.multiplier = integer(config.parameters, "instance_wise_delay_multiplier", 0)
        self.fail_every = integer(config.parameters, "fail_every", 0)
        self.break_every = integer(config.parameters, "break_every", 0)

    def engine(self, seat: Seat) -> "IdentityEngine":
        """Make the engine of one instance."""
        return IdentityEngine(self, delay=self.delay_ms * max(1, self.multiplier * seat.index) / 1000)

    def close(self) -> None:
        """Give back nothing."""


class IdentityEngine:
    """Answers each request with its own inputs; counts its executions to know when to fail."""

    def __init__(self, plan: IdentityPlan, delay: float) -> None:
        """Take the seconds that an execution lasts."""
        self._plan = plan
        self._delay = delay
        self._executions = 0

    def execute(self, batch: Batch, emit: Emit) -> None:
        """Answer all requests of a batch, or fail where the parameters of the model say so."""
        self._executions += 1
        if self._delay:
            time.sleep(self._delay)
        if _is_due(self._plan.break_every, self._executions):
            raise DeliberateBreakError(f"execution {self._executions} breaks, as 'break_every' says")
        if _is_due(self._plan.fail_every, self._executions):
            raise internal(f"execution {self._executions} is refused, as 'fail_every' says")
        for row, request in enumerate(batch.requests):
            emit(row, Response(self._answer(request), RESPONSE_PARAMETERS))

    def close(self) -> None:
        """Give back nothing."""

    def _answer(self, request: Request) -> dict[str, Tensor]:
        given, wanted = request.inputs, request.requested_outputs
        rows = request.batch_size if self._plan.batching else None
        return {
            pair.output: given[pair.input] if pair.input in given else pair.zeros(rows)
            for pair in self._plan.pairs
            if not wanted or pair.output in wanted
        }


def _is_due(every: int, count: int) -> bool:
    return every > 0 and count % every == 0
