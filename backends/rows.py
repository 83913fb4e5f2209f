"""Requests side by side: their inputs become one batch, and the outputs of the batch become their responses.

A model that batches sees the rows of all requests along the first axis, in the order of the requests. Joining
copies each row once, since that *is* the concatenation; a lone request is handed through without a copy.
Splitting never copies: a response holds views on the rows that are its own.

Inputs whose rows differ in shape are joined in `ragged`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..proto.errors import Fault, InferError, internal
from ..proto.message import Request, Response
from ..proto.tensor import Array, Tensor
from .api import Batch


@dataclass(frozen=True, slots=True)
class Rows:
    """How the batches of a model are joined and split whose inputs are alike in shape."""

    batching: bool
    """Whether tensors have rows."""

    def join(self, batch: Batch, names: Iterable[str]) -> dict[str, Array]:
        """Return the named inputs of a batch."""
        return join(batch, names, batching=self.batching)

    def split(self, batch: Batch, outputs: Mapping[str, Tensor]) -> list[Response]:
        """Return the response to each request."""
        return split(batch, outputs, batching=self.batching)


def join(batch: Batch, names: Iterable[str], *, batching: bool) -> dict[str, Array]:
    """Return the named inputs of a batch, each as one array; an input that no request brings is left out.

    Raises InferError for requests that do not fit together; a batcher never puts such side by side.
    """
    requests = batch.requests
    if len(requests) == 1:
        inputs = requests[0].inputs
        return {name: inputs[name].numpy() for name in names if name in inputs}
    if not batching:
        raise internal(f"{len(requests)} requests at once for a model that does not batch")
    joined = {}
    for name in names:
        parts = [request.inputs[name].numpy() for request in requests if name in request.inputs]
        if parts:
            joined[name] = _concatenate(name, parts, len(requests))
    return joined


def split(batch: Batch, outputs: Mapping[str, Tensor], *, batching: bool) -> list[Response]:
    """Return the response to each request of a batch: its own rows of the outputs it asked for.

    Raises InferError if an output has not one row for each row that went in.
    """
    requests = batch.requests
    rows = [_rows(request) for request in requests]
    if batching:
        _check_rows(outputs, sum(rows))
    if len(requests) == 1:
        wanted = requests[0].requested_outputs
        return [Response({name: outputs[name] for name in outputs if not wanted or name in wanted})]
    whole = [(name, tensor.datatype, tensor.numpy()) for name, tensor in outputs.items()]
    responses = []
    start = 0
    for request, count in zip(requests, rows, strict=True):
        own = slice(start, start + count)
        wanted = request.requested_outputs
        responses.append(
            Response(
                {
                    name: Tensor.from_numpy(array[own], datatype)
                    for name, datatype, array in whole
                    if not wanted or name in wanted
                }
            )
        )
        start += count
    return responses


def _concatenate(name: str, parts: Sequence[Array], expected: int) -> Array:
    if len(parts) != expected:
        raise internal(f"only {len(parts)} of {expected} requests in one batch bring input '{name}'")
    if any(part.shape[1:] != parts[0].shape[1:] for part in parts):
        shapes = ", ".join(sorted({str(list(part.shape)) for part in parts}))
        raise internal(f"requests in one batch bring input '{name}' in different shapes: {shapes}")
    return np.concatenate(parts)


def _rows(request: Request) -> int:
    """Count the rows a request really brings, which may be none; its `batch_size` counts at least 1."""
    for tensor in request.inputs.values():
        return tensor.shape[0] if tensor.shape else 1
    return request.batch_size


def _check_rows(outputs: Mapping[str, Tensor], expected: int) -> None:
    for name, tensor in outputs.items():
        rows = tensor.shape[0] if tensor.shape else 0
        if rows != expected:
            least = "at least " if rows < expected else ""
            raise InferError(
                Fault.UNSUPPORTED,
                f"failed to split the output tensor '{name}' in responses: "
                f"expected batch size of {least}{expected} in model output, got {rows}",
            )
