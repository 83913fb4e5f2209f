"""The `data` of an input: JSON arrays, nested in any way, read into a tensor element by element.

Elements are taken in order; only their number must fit the shape. Integers are read with 64 bits and then cut
to the width of their datatype, as Triton does. Sizes are checked before anything is allocated for them.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..datatypes import Datatype
from ..errors import InferError, internal, invalid
from ..sizes import MAX_SIZE, shape_text, size_within_bounds
from ..tensor import Shape, Tensor
from .document import MAX_NESTING, TOO_DEEP
from .members import mismatch

_TASK: Final = "Unable to parse 'data'"

_length = struct.Struct("<I")


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


def read_data(name: str, datatype: Datatype, shape: Shape, data: object, max_size: int) -> Tensor:
    """Return the tensor that JSON arrays stand for; raises InferError.

    `max_size` bounds the bytes of the tensor. The data of a tensor without elements is not looked at.
    """
    if not shape or 0 in shape:
        return Tensor(datatype, shape, b"")
    count = _count(name, shape)
    if type(data) is not list:
        raise mismatch(_TASK, "array")
    if datatype is Datatype.BYTES:
        return Tensor(datatype, shape, read_strings(name, data, max_size))
    if size_within_bounds(shape, datatype.item_size or 1) is None:
        raise invalid(
            f"byte size overflow for input '{name}': element count ({count}) * data type size "
            f"({datatype.item_size}) exceeds maximum allowed size ({MAX_SIZE})"
        )
    check_size(name, count * datatype.item_size, max_size)
    elements = elements_of(name, datatype)
    return read_elements(datatype, shape, _flat(data, f"{_TASK}: "), count, elements)


def elements_of(name: str, datatype: Datatype) -> _Elements:
    """Return what elements of a datatype look like in JSON; raises InferError where they have no form."""
    elements = _ELEMENTS.get(datatype)
    if elements is None:
        if datatype is Datatype.INVALID:
            raise invalid(f"invalid datatype for input {name}")
        raise invalid(
            f"receiving {datatype.wire_name} data via JSON is not supported. Please use the binary data "
            f"format for input {name}"
        )
    return elements


def read_elements(
    datatype: Datatype, shape: Shape, flat: list[Any], count: int, elements: _Elements
) -> Tensor:
    """Return the tensor of a flat list; raises InferError where an element or their number does not fit."""
    if not elements.types.issuperset(map(type, flat[:count] if len(flat) > count else flat)):
        raise mismatch(_TASK, elements.kind)
    if len(flat) > count:
        raise internal(f"{_TASK}: Shape does not match true shape of 'data' field")
    if len(flat) < count:
        raise internal("Failed to parse 'data' field: shape does not match true shape")
    try:
        array = np.array(flat, dtype=elements.widest)
    except OverflowError:  # negative or of more than 64 bits: not of this kind either
        raise mismatch(_TASK, elements.kind) from None
    if array.dtype != datatype.numpy_type:
        with np.errstate(over="ignore"):  # a double too large for a float becomes infinite
            array = array.astype(datatype.numpy_type)
    return Tensor(datatype, shape, None, array.reshape(shape))


def read_strings(name: str, data: list[Any], max_size: int) -> bytes:
    """Return JSON strings spelt as BYTES elements; raises InferError.

    How many there must be is left to admission, as Triton does.
    """
    flat = _flat(data, "")
    if not {str}.issuperset(map(type, flat)):
        raise mismatch("Unable to parse JSON bytes array", "string")
    try:
        encoded = [element.encode() for element in flat]
    except UnicodeEncodeError:
        encoded = [_original_bytes(element) for element in flat]
    check_size(name, sum(map(len, encoded)) + _length.size * len(encoded), max_size)
    return b"".join(piece for element in encoded for piece in (_length.pack(len(element)), element))


def check_size(name: str, size: int, max_size: int) -> None:
    """Raise InferError when a tensor would take more bytes than JSON inputs may."""
    if size > max_size:
        raise invalid(
            f"JSON input '{name}' has a byte_size ({size} bytes) that exceeds the maximum allowed value of "
            f"{max_size} bytes. Use --http-max-input-size to increase the limit."
        )


def _count(name: str, shape: Shape) -> int:
    """Return the number of elements of a shape without zeros; raises InferError."""
    if min(shape) < 0:
        raise _bad_shape(name, shape, "contains one or more invalid dimensions")
    count = size_within_bounds(shape, 1)
    if count is None:
        raise _bad_shape(name, shape, f"causes total element count to exceed maximum size of {MAX_SIZE}")
    return count


def _bad_shape(name: str, shape: Shape, what: str) -> InferError:
    return invalid(f"invalid shape for input '{name}': shape {shape_text(shape)} {what}")


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
