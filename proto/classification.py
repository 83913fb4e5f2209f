"""The classification extension: instead of all values, the best few, each with its index and its label."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from .datatypes import Datatype
from .errors import internal, invalid
from .tensor import Array, Tensor

MAX_CLASSES: Final = 1_000_000
"""Values of one batch item among which the best are looked for."""

_UNSUPPORTED: Final = frozenset(
    {Datatype.INVALID, Datatype.BOOL, Datatype.FP16, Datatype.BF16, Datatype.BYTES}
)


def classify(tensor: Tensor, count: int, labels: Sequence[str], *, batching: bool) -> Tensor:
    """Return the `count` best classes as BYTES elements `<value>:<index>[:<label>]`, the best first.

    The shape is [batch, k] for a model that batches, else [k], with k at most the values there are. Of equal
    values the one with the lowest index is better; what is not a number is worse than any. Raises InferError.
    """
    datatype = tensor.datatype
    if datatype in _UNSUPPORTED:
        raise invalid(f"class result not available for output due to unsupported type '{datatype.wire_name}'")
    shape = tensor.shape
    batched = batching and len(shape) > 0 and shape[0] > 0
    rows = shape[0] if batched else 1
    classes = tensor.element_count // rows
    if classes > MAX_CLASSES:
        raise invalid("classification output tensor too large")
    try:
        values = tensor.numpy().reshape(rows, classes)
    except ValueError:
        raise internal("classification output tensor does not have the size of its shape") from None
    best = min(count, classes)
    elements = [element for row in values for element in _best(row, best, labels)]
    shape = (rows, best) if batched else (best,)
    return Tensor.from_numpy(np.array(elements, dtype=np.object_).reshape(shape))


def _best(row: Array, count: int, labels: Sequence[str]) -> list[bytes]:
    # Sorted upwards from the back and then read from the end: of equal values the lowest index comes first.
    last = len(row) - 1
    keys = np.nan_to_num(row[::-1], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    order = last - np.argsort(keys, kind="stable")[::-1][:count]
    written = "{:f}:{}".format if row.dtype.kind == "f" else "{:d}:{}".format
    return [
        _labelled(written(value, index), index, labels).encode()
        for value, index in zip(row[order].tolist(), order.tolist(), strict=True)
    ]


def _labelled(text: str, index: int, labels: Sequence[str]) -> str:
    return f"{text}:{labels[index]}" if index < len(labels) and labels[index] else text
