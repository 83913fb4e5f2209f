"""Elements of JSON arrays, nested in any way, made into tensors.

They are taken in order; only their number must fit. Integers are read with 64 bits and then cut to the width
of their datatype, as Triton does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..byte_strings import encode_byte_strings
from ..datatypes import Datatype
from ..errors import internal, invalid
from ..tensor import Shape, Tensor
from .document import MAX_NESTING, TOO_DEEP
from .members import mismatch

TASK: Final = "Unable to parse 'data'"


@dataclass(frozen=True, slots=True)
class _Elements:
    """What the elements of some datatypes look like in JSON, and the numpy type that holds them all."""

    types: frozenset[type]
    kind: str
    widest: np.dtype[Any]


_BOOLEANS: Final = _Elements(frozenset({bool}), "boolean", np.dtype(np.bool_))
_UNSIGNED: Final = _Elements(frozenset({int}), "unsigned-integer", np.dtype(np.uint64))
_SIGNED: Final = _Elements(frozenset({int}), "signed-integer", np.dtype(np.int64))
_NUMBERS: Final = _Elements(frozenset({int, float}), "number", np.dtype(np.float64))

_ELEMENTS: Final[Mapping[Datatype, _Elements]] = {
    Datatype.BOOL: _BOOLEANS,
    Datatype.UINT8: _UNSIGNED,
    Datatype.UINT16: _UNSIGNED,
    Datatype.UINT32: _UNSIGNED,
    Datatype.UINT64: _UNSIGNED,
    Datatype.INT8: _SIGNED,
    Datatype.INT16: _SIGNED,
    Datatype.INT32: _SIGNED,
    Datatype.INT64: _SIGNED,
    Datatype.FP32: _NUMBERS,
    Datatype.FP64: _NUMBERS,
}


def read_elements(name: str, datatype: Datatype, shape: Shape, data: list[Any], count: int) -> Tensor:
    """Return the tensor of `count` elements in arrays; raises InferError where there are others.

    The shape has that many elements. BYTES are read by `read_strings`.
    """
    elements = _ELEMENTS.get(datatype)
    if elements is None:
        if datatype is Datatype.INVALID:
            raise invalid(f"invalid datatype for input {name}")
        raise invalid(
            f"receiving {datatype.wire_name} data via JSON is not supported. Please use the binary data "
            f"format for input {name}"
        )
    flat = _flat(data, f"{TASK}: ")
    if not elements.types.issuperset(map(type, flat[:count] if len(flat) > count else flat)):
        raise mismatch(TASK, elements.kind)
    if len(flat) > count:
        raise internal(f"{TASK}: Shape does not match true shape of 'data' field")
    if len(flat) < count:
        raise internal("Failed to parse 'data' field: shape does not match true shape")
    try:
        array = np.array(flat, dtype=elements.widest)
    except OverflowError:  # negative or of more than 64 bits: not of this kind either
        raise mismatch(TASK, elements.kind) from None
    if array.dtype != datatype.numpy_type:
        with np.errstate(over="ignore"):  # a double too large for a float becomes infinite
            array = array.astype(datatype.numpy_type)
    return Tensor(datatype, shape, None, array.reshape(shape))


def read_strings(data: list[Any]) -> bytes:
    """Return the strings in arrays spelt as BYTES elements; raises InferError.

    How many there must be is left to admission, as Triton does.
    """
    flat = _flat(data, "")
    if not {str}.issuperset(map(type, flat)):
        raise mismatch("Unable to parse JSON bytes array", "string")
    try:
        encoded = [element.encode() for element in flat]
    except UnicodeEncodeError:
        encoded = [_original_bytes(element) for element in flat]
    return encode_byte_strings(np.array(encoded, dtype=np.object_))


def _flat(data: list[Any], error_prefix: str) -> list[Any]:
    """Return the elements of nested arrays in order; raises InferError where they are nested too deeply."""
    if list not in map(type, data):
        return data
    flat: list[Any] = []
    _flatten(data, flat, 1, error_prefix)
    return flat


def _flatten(data: list[Any], flat: list[Any], depth: int, error_prefix: str) -> None:
    if list not in map(type, data):
        if data and depth >= MAX_NESTING:
            raise invalid(error_prefix + TOO_DEEP)
        flat.extend(data)
        return
    if depth >= MAX_NESTING:
        raise invalid(error_prefix + TOO_DEEP)
    for element in data:
        if type(element) is list:
            _flatten(element, flat, depth + 1, error_prefix)
        else:
            flat.append(element)


def _original_bytes(text: str) -> bytes:
    """Return the bytes of a string as they came; raises InferError where an escape named half a character."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise internal(
            "failed to parse the request JSON buffer: The surrogate pair in string is invalid."
        ) from None
