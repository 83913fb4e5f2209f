"""What a client knows of its model, and how arguments become inputs by that: names, datatypes, the batch.

No wire is known here. A sample has no batch dimension: one is put before it where the model batches, and
taken from what comes back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ...proto.byte_strings import encode_element
from ...proto.datatypes import Datatype, datatype_of_numpy
from .errors import BatchingNotSupportedError, ClientValueError

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

_BY_CONFIG_NAME = {datatype.config_name: datatype for datatype in Datatype}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output; the shape is without the batch dimension."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    optional: bool = False

    @classmethod
    def from_json(cls, members: Mapping[str, Any]) -> Self:
        """Read a tensor of a configuration."""
        return cls(
            members["name"],
            _BY_CONFIG_NAME.get(members.get("data_type", ""), Datatype.INVALID),
            tuple(map(int, members.get("dims", ()))),
            bool(members.get("optional", False)),
        )


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a client needs of a model's configuration."""

    name: str
    max_batch_size: int
    """0 means that tensors have no batch dimension."""
    decoupled: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> Self:
        """Read a configuration as either protocol tells it; what is left out has its default."""
        return cls(
            config["name"],
            int(config.get("max_batch_size", 0)),
            bool(config.get("model_transaction_policy", {}).get("decoupled", False)),
            tuple(map(TensorSpec.from_json, config.get("input", ()))),
            tuple(map(TensorSpec.from_json, config.get("output", ()))),
        )

    @property
    def supports_batching(self) -> bool:
        """Whether tensors have a batch dimension."""
        return self.max_batch_size > 0

    def batch(self, positional: Sequence[object], named: Mapping[str, object]) -> Arrays:
        """Return the inputs of a batch; raises ClientError where they cannot be those of the model."""
        if not self.supports_batching:
            raise BatchingNotSupportedError(f"model '{self.name}' takes no batches; ask it with infer_sample")
        return self._arrays(positional, named)

    def sample(self, positional: Sequence[object], named: Mapping[str, object]) -> Arrays:
        """Return the inputs of one sample, as a batch of one where the model batches; raises ClientError."""
        arrays = self._arrays(positional, named)
        if not self.supports_batching:
            return arrays
        return {name: array[np.newaxis] for name, array in arrays.items()}

    def unbatched(self, outputs: Arrays) -> Arrays:
        """Return the outputs of a sample as the sample was."""
        return {name: array[0] for name, array in outputs.items()} if self.supports_batching else outputs

    def _arrays(self, positional: Sequence[object], named: Mapping[str, object]) -> Arrays:
        if positional and named:
            raise ClientValueError("inputs are told by their places or by their names, not by both")
        if not positional and not named:
            raise ClientValueError(f"model '{self.name}' cannot be asked without inputs")
        if len(positional) > len(self.inputs):
            raise ClientValueError(
                f"model '{self.name}' has {len(self.inputs)} inputs, and {len(positional)} are given"
            )
        specs = {spec.name: spec for spec in self.inputs}
        if unknown := named.keys() - specs.keys():
            told = ", ".join(map(repr, sorted(unknown)))
            raise ClientValueError(f"model '{self.name}' has no input {told}; it has {', '.join(specs)}")
        given = named or dict(zip(specs, positional, strict=False))
        return {name: _array(specs[name], value) for name, value in given.items()}


def _array(spec: TensorSpec, value: object) -> Array:
    """Return a value as an array; one that is none yet gets the datatype of the input."""
    is_free = isinstance(value, np.ndarray) or spec.datatype is Datatype.BF16
    wanted = None if is_free else spec.datatype.numpy_type
    try:
        array = np.asarray(value, wanted)
    except (TypeError, ValueError, OverflowError) as error:
        raise ClientValueError(f"input '{spec.name}' cannot be made an array: {error}") from None
    match datatype_of_numpy(array.dtype):
        case Datatype.INVALID:
            raise ClientValueError(
                f"input '{spec.name}' is an array of {array.dtype}, which no tensor can hold"
            )
        case Datatype.BYTES:
            strings = np.empty(array.shape, np.object_)
            strings.reshape(-1)[:] = [encode_element(each) for each in array.reshape(-1)]
            return strings
    return np.ascontiguousarray(array).reshape(array.shape)
