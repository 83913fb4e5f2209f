"""How large a tensor is: the one place where dimensions that a stranger sent are multiplied.

Nothing is allocated before its size went through here. Zeros are left aside when the bounds are checked: a
shape such as [0, 2^62] holds nothing, and still no array can be made of it.
"""

from collections.abc import Iterable
from typing import Final

from .tensor import Shape

MAX_SIZE: Final = 2**63 - 1
"""Elements, and bytes, that a tensor may have: Triton counts both in signed 64-bit integers."""

WILDCARD: Final = -1
"""Stands for any size among the dimensions of a configuration."""

POINTER_SIZE: Final = 8
"""Bytes that one BYTES element takes in an array, whatever its length."""


def size_within_bounds(shape: Shape, item_size: int) -> int | None:
    """Return `item_size` times the product of dimensions that are not negative, None beyond `MAX_SIZE`."""
    size = item_size
    empty = False
    for dim in shape:
        if dim:
            size *= dim
            if size > MAX_SIZE:
                return None
        else:
            empty = True
    return 0 if empty else size


def reshaped_dims(sizes: Shape, dims: Shape, reshape: Shape) -> Shape:
    """Return the sizes that fit `dims` as they fit `reshape`, wildcards taking theirs in order."""
    variable = (size for size, dim in zip(sizes, dims, strict=True) if dim == WILDCARD)
    return tuple(next(variable) if dim == WILDCARD else dim for dim in reshape)


def shape_text(shape: Iterable[int]) -> str:
    """Return a shape as Triton prints it: `[-1,16]`."""
    return f"[{','.join(map(str, shape))}]"
