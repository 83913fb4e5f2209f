"""The `data` of an input in JSON: its shape and size are checked before anything is allocated for it."""

from ..datatypes import Datatype
from ..errors import InferError, invalid
from ..sizes import MAX_SIZE, shape_text, size_within_bounds
from ..tensor import Shape, Tensor
from .elements import TASK, read_elements, read_strings
from .members import mismatch


def read_data(name: str, datatype: Datatype, shape: Shape, data: object, max_size: int) -> Tensor:
    """Return the tensor that JSON arrays stand for; raises InferError.

    `max_size` bounds the bytes of the tensor. The data of a tensor without elements is not looked at.
    """
    if not shape or 0 in shape:
        return Tensor(datatype, shape, b"")
    count = _count(name, shape)
    if type(data) is not list:
        raise mismatch(TASK, "array")
    if datatype is Datatype.BYTES:
        raw = read_strings(data)
        _check_size(name, len(raw), max_size)
        return Tensor(datatype, shape, raw)
    if size_within_bounds(shape, datatype.item_size or 1) is None:
        raise invalid(
            f"byte size overflow for input '{name}': element count ({count}) * data type size "
            f"({datatype.item_size}) exceeds maximum allowed size ({MAX_SIZE})"
        )
    _check_size(name, count * datatype.item_size, max_size)
    return read_elements(name, datatype, shape, data, count)


def _check_size(name: str, size: int, max_size: int) -> None:
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
