"""Ragged batches: requests whose inputs differ in shape, joined element by element, and dealt out again.

A ragged input reaches its model as one row of all elements of all requests, also where there is but one
request: a model cannot be written for both. All other inputs are joined as ever (see `rows`).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from ..proto.batch_tensors import BatchInput, BatchInputKind, batch_inputs, batch_outputs
from ..proto.config import ModelConfig
from ..proto.errors import Fault, InferError, internal, invalid
from ..proto.message import Response
from ..proto.sizes import WILDCARD
from ..proto.tensor import Array, Shape, Tensor
from .api import Batch
from .rows import Rows, join, split

BACKENDS: Final = frozenset({"onnxruntime", "pytorch"})
"""The backends that join rows, and can make inputs of a batch and deal out its outputs."""


def rows_of(config: ModelConfig) -> "Rows | Ragged":
    """Return how the batches of a model are joined and split; raises InferError where that cannot be."""
    asked = config.message
    is_ragged = (
        any(spec.allow_ragged_batch for spec in config.inputs) or asked.batch_input or asked.batch_output
    )
    return Ragged(config) if is_ragged else Rows(config.max_batch_size > 0)


class Ragged:
    """How the batches of a model are joined and split whose inputs may differ in shape."""

    __slots__ = ("_batching", "_inputs", "_made", "_scattered")

    def __init__(self, config: ModelConfig) -> None:
        self._batching = config.max_batch_size > 0
        self._inputs = [spec.name for spec in config.inputs if spec.allow_ragged_batch]
        self._made = batch_inputs(config)
        self._scattered = _scattered(config)

    def join(self, batch: Batch, names: Iterable[str]) -> dict[str, Array]:
        """Return the named inputs of a batch, and those that are made of it."""
        joined = join(batch, [name for name in names if name not in self._inputs], batching=self._batching)
        for name in self._inputs:
            parts = [_source(batch, row, name).numpy().reshape(-1) for row in range(len(batch.requests))]
            joined[name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
        for each in self._made:
            shapes = [_source(batch, row, each.source).shape for row in range(len(batch.requests))]
            made = _make(each, shapes)
            joined.update(dict.fromkeys(each.targets, made))
        return joined

    def split(self, batch: Batch, outputs: Mapping[str, Tensor]) -> list[Response]:
        """Return the response to each request: its rows of the outputs, or its elements."""
        plain = {name: tensor for name, tensor in outputs.items() if name not in self._scattered}
        responses = split(batch, plain, batching=self._batching)
        for name, (source, dims) in self._scattered.items():
            shapes = [_filled(dims, _source(batch, row, source).shape) for row in range(len(responses))]
            pieces = _deal_out(name, outputs[name], shapes)
            for request, response, piece in zip(batch.requests, responses, pieces, strict=True):
                if not request.requested_outputs or name in request.requested_outputs:
                    response.outputs[name] = piece
        for response in responses:
            response.outputs = {name: response.outputs[name] for name in outputs if name in response.outputs}
        return responses


def _source(batch: Batch, row: int, name: str) -> Tensor:
    tensor = batch.requests[row].inputs.get(name)
    if tensor is None:
        raise internal(f"a request of a ragged batch does not bring input '{name}'")
    return tensor


def _scattered(config: ModelConfig) -> dict[str, tuple[str, Shape]]:
    """Return for each output that is dealt out its source, and its shape with any size where that decides."""
    rows = (WILDCARD,) if config.max_batch_size > 0 else ()
    inputs = {spec.name: spec for spec in config.inputs}
    outputs = {spec.name: spec for spec in config.outputs}
    scattered: dict[str, tuple[str, Shape]] = {}
    for each in batch_outputs(config):
        source = inputs[each.source]
        rank = len(rows) + len(source.dims if source.reshape is None else source.reshape)
        for name in each.targets:
            spec = outputs[name]
            dims = (*rows, *(spec.dims if spec.reshape is None else spec.reshape))
            if WILDCARD in dims[rank:]:
                raise invalid(
                    f"batch output '{name}' of model '{config.name}' has more variable dimensions than its "
                    f"source input '{each.source}' can fill"
                )
            scattered[name] = each.source, dims
    return scattered


def _filled(dims: Shape, source: Shape) -> Shape:
    return tuple(source[axis] if dim == WILDCARD else dim for axis, dim in enumerate(dims))


def _deal_out(name: str, tensor: Tensor, shapes: Sequence[Shape]) -> list[Tensor]:
    elements = tensor.numpy().reshape(-1)
    counts = [math.prod(shape) for shape in shapes]
    if sum(counts) != elements.size:
        raise InferError(
            Fault.UNSUPPORTED,
            f"failed to deal out the output tensor '{name}': the requests have room for {sum(counts)} "
            f"elements, the model made {elements.size}",
        )
    pieces = []
    start = 0
    for shape, count in zip(shapes, counts, strict=True):
        pieces.append(Tensor.from_numpy(elements[start : start + count].reshape(shape), tensor.datatype))
        start += count
    return pieces


def _make(wanted: BatchInput, shapes: Sequence[Shape]) -> Array:
    return _MAKERS[wanted.kind](shapes).astype(wanted.datatype.numpy_type, copy=False)


def _counts(shapes: Sequence[Shape]) -> Array:
    return np.array([math.prod(shape) for shape in shapes], np.int64)


def _ends(shapes: Sequence[Shape]) -> Array:
    return np.cumsum(_counts(shapes))


def _bounds(shapes: Sequence[Shape]) -> Array:
    return np.concatenate(([0], _ends(shapes)))


def _room(shapes: Sequence[Shape]) -> Array:
    return np.zeros(_counts(shapes).max(), np.int64)


def _item_shapes(shapes: Sequence[Shape]) -> Array:
    """Return the shape of each row; the first dimension of a request counts its rows."""
    return np.repeat(
        np.array([shape[1:] for shape in shapes], np.int64), [shape[0] for shape in shapes], axis=0
    )


_MAKERS: Final[Mapping[BatchInputKind, Callable[[Sequence[Shape]], Array]]] = {
    BatchInputKind.ELEMENT_COUNT: _counts,
    BatchInputKind.ACCUMULATED_ELEMENT_COUNT: _ends,
    BatchInputKind.ACCUMULATED_ELEMENT_COUNT_WITH_ZERO: _bounds,
    BatchInputKind.MAX_ELEMENT_COUNT_AS_SHAPE: _room,
    BatchInputKind.ITEM_SHAPE: _item_shapes,
    BatchInputKind.ITEM_SHAPE_FLATTEN: lambda shapes: _item_shapes(shapes).reshape(-1),
}
