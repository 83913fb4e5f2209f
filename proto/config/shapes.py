"""Shapes in configurations: how many elements, how many bytes, and whether that can be said at all."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from ..datatypes import Datatype
from .complaint import Complaint

ANY: Final = -1
"""A dimension of any size."""

INT64_MAX: Final = 2**63 - 1

_LENGTH_BYTES: Final = 4
"""What an empty element of BYTES takes: its length."""


def spell(dims: Sequence[int]) -> str:
    """Return a shape as messages spell it: `[1,-1,3]`."""
    return f"[{','.join(map(str, dims))}]"


def count(dims: Sequence[int]) -> int:
    """Return the number of elements, 0 for no dimensions, `ANY` if one is of any size."""
    if ANY in dims:
        return ANY
    return math.prod(dims) if dims else 0


def check_element_count(dims: Sequence[int], tensor: str, path: str) -> Iterator[Complaint]:
    """Check that elements can be counted in 64 bits."""
    if any(dim < ANY for dim in dims):
        yield Complaint(f"tensor '{tensor}' contains an invalid dimension in shape {spell(dims)}", path)
    elif count(dims) > INT64_MAX:
        yield Complaint(f"element count for tensor '{tensor}' exceeds maximum size of {INT64_MAX}", path)


def check_byte_size(datatype: Datatype, dims: Sequence[int], tensor: str, path: str) -> Iterator[Complaint]:
    """Check that bytes can be counted in 64 bits."""
    if any(dim < ANY for dim in dims):
        yield Complaint(f"tensor '{tensor}' contains an invalid dimension {spell(dims)}", path)
    elif count(dims) * (datatype.item_size or _LENGTH_BYTES) > INT64_MAX:
        yield Complaint(f"byte size for tensor '{tensor}' exceeds maximum size of {INT64_MAX}", path)
