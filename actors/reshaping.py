"""Outputs in the shape a configuration promises, where the model makes them in another.

The way in is admission's: a client's shape becomes the model's there. This is the way out, and only replies
to models with such outputs pass through it.
"""

from collections.abc import Mapping, Sequence

from ..proto.config import ModelConfig
from ..proto.config.model_config import OutputSpec
from ..proto.message import Response
from ..proto.sizes import WILDCARD, reshaped_dims
from ..proto.tensor import Tensor
from .reply import Reply


def reshaped_outputs(config: ModelConfig) -> dict[str, OutputSpec]:
    """Return the outputs of a model that clients get in another shape."""
    return {spec.name: spec for spec in config.outputs if spec.reshape is not None}


class ReshapingReply:
    """A reply that passes responses on with their outputs in the promised shape."""

    __slots__ = ("_batch_axes", "_reply", "_specs")

    def __init__(self, reply: Reply, specs: Mapping[str, OutputSpec], *, batching: bool) -> None:
        self._reply = reply
        self._specs = specs
        self._batch_axes = 1 if batching else 0

    def send(self, response: Response) -> None:
        """Reshape the outputs that need it and pass the response on."""
        for name, tensor in response.outputs.items():
            spec = self._specs.get(name)
            if spec is not None and spec.reshape is not None:
                response.outputs[name] = self._reshaped(tensor, spec.dims, spec.reshape)
        self._reply.send(response)

    def _reshaped(self, tensor: Tensor, dims: Sequence[int], made: Sequence[int]) -> Tensor:
        rows, own = tensor.shape[: self._batch_axes], tensor.shape[self._batch_axes :]
        fits = len(own) == len(made) and all(
            dim in (WILDCARD, size) for size, dim in zip(own, made, strict=True)
        )
        # A model that makes another shape than it said gets it through, as it does where nothing is reshaped.
        return tensor.reshaped(rows + reshaped_dims(own, tuple(made), tuple(dims))) if fits else tensor
