"""Random tensors: shapes that fit an input, elements of every datatype, and both in JSON and in bytes."""

import struct
from random import Random
from typing import Any, Final

import numpy as np

from .models import ANY, Model, Place

Element = bool | int | float | str

INTEGER_BITS: Final = {
    "UINT8": 8,
    "UINT16": 16,
    "UINT32": 32,
    "UINT64": 64,
    "INT8": 8,
    "INT16": 16,
    "INT32": 32,
    "INT64": 64,
}
NUMPY: Final[dict[str, Any]] = {
    "BOOL": np.bool_,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    **{name: np.dtype(name.lower()) for name in INTEGER_BITS},
}
ONLY_BINARY: Final = frozenset({"FP16", "BF16"})
STRINGS: Final = ("", "a", "deuteron", "two words", "Grüße", '"quoted"', "line\nline", "\u0000", "x" * 40)


def shape_of(rng: Random, model: Model, place: Place, rows: int) -> list[int]:
    """Return a shape that fits; `rows` is the batch where there is one."""
    own = [rng.randint(1, 3) if dim == ANY else dim for dim in place.dims]
    return [rows, *own] if model.max_batch_size else own


def elements(rng: Random, datatype: str, count: int) -> list[Element]:
    """Return so many elements, extremes among them."""
    return [_element(rng, datatype) for _ in range(count)]


def _element(rng: Random, datatype: str) -> Element:
    if datatype == "BOOL":
        return rng.random() < 0.5
    if datatype == "BYTES":
        return rng.choice(STRINGS)
    bits = INTEGER_BITS.get(datatype)
    if bits is None:
        return rng.choice((0.0, 1.5, -2.25, 0.1, 65504.0, float(rng.randint(-100, 100))))
    low, high = (0, 2**bits - 1) if datatype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return rng.choice((rng.randint(low, high), low, high, rng.randint(0, 10)))


def as_bytes(datatype: str, values: list[Element]) -> bytes:
    """Return elements as they are spelt behind the JSON, and in raw contents."""
    if datatype == "BYTES":
        encoded = [str(value).encode() for value in values]
        return b"".join(struct.pack("<I", len(each)) + each for each in encoded)
    packed: bytes = np.array(values, NUMPY[datatype]).tobytes()
    return packed


def count_of(shape: list[int]) -> int:
    """Return the number of elements of a shape."""
    return int(np.prod(shape, dtype=np.int64))
