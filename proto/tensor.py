"""A tensor on its way through the house: a datatype, a shape, and a view on elements that somebody owns.

A tensor has two faces and makes each at most once: the *raw* one, the bytes as a wire spells them, and the
*numpy* one. What came from a socket never becomes an array unless a model asks for it, and what a model
produced never becomes bytes unless a socket asks for it; between the two nothing is copied. BYTES is the
exception: its faces differ in form, so changing over costs one pass over the elements.
"""

import math
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from .byte_strings import decode_byte_strings, encode_byte_strings
from .datatypes import Datatype, datatype_of_numpy

MAX_RANK: Final = 32
"""Dimensions a tensor may have; numpy itself ends at 64."""

SMALL: Final = 4096
"""Bytes up to which a copy costs less than the making of a view."""

Raw = bytes | bytearray | memoryview
Array = npt.NDArray[Any]
Shape = tuple[int, ...]


class Tensor:
    """Elements of one datatype in row-major order; immutable by convention, shared by reference."""

    __slots__ = ("_array", "_raw", "datatype", "shape")

    datatype: Datatype
    shape: Shape

    def __init__(self, datatype: Datatype, shape: Shape, raw: Raw | None, array: Array | None = None) -> None:
        self.datatype = datatype
        self.shape = shape
        self._raw = raw
        self._array = array

    @classmethod
    def from_numpy(cls, array: Array, datatype: Datatype | None = None) -> Self:
        """Return a tensor over an array; only BF16 (as `uint16`) needs its datatype told."""
        return cls(datatype or datatype_of_numpy(array.dtype), array.shape, None, array)

    @property
    def raw(self) -> Raw:
        """The elements as a wire spells them: little-endian, row-major, BYTES with their lengths."""
        if self._raw is None:
            self._raw = self._spell()
        return self._raw

    @property
    def byte_size(self) -> int:
        """Bytes of the raw face, computed without making it wherever elements have one size."""
        if self._raw is not None:
            return self._raw.nbytes if isinstance(self._raw, memoryview) else len(self._raw)
        if self.datatype is Datatype.BYTES:
            return len(self.raw)
        return self.element_count * self.datatype.item_size

    @property
    def element_count(self) -> int:
        """The product of the dimensions; 1 for a scalar."""
        return math.prod(self.shape)

    def numpy(self) -> Array:
        """Return the elements as an array of this shape; read-only where the bytes belong to a socket.

        Raises ValueError where bytes and shape do not fit; a checked request cannot.
        """
        if self._array is None:
            self._array = self._read()
        return self._array

    def lies_in(self, owner: bytes) -> bool:
        """Whether the elements are a view on these very bytes."""
        return type(self._raw) is memoryview and self._raw.obj is owner

    def reshaped(self, shape: Shape) -> "Tensor":
        """Return the same elements under another shape of the same size."""
        array = None if self._array is None else self._array.reshape(shape)
        return Tensor(self.datatype, shape, self._raw, array)

    def _spell(self) -> Raw:
        array = self._array
        if array is None:
            return b""
        if self.datatype is Datatype.BYTES:
            return encode_byte_strings(array)
        if array.nbytes <= SMALL:
            return array.tobytes()
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data

    def _read(self) -> Array:
        raw = self._raw if self._raw is not None else b""
        if self.datatype is Datatype.BYTES:
            elements = decode_byte_strings(raw)
            array = np.empty(len(elements), dtype=np.object_)
            array[:] = elements
            return array.reshape(self.shape)
        return np.frombuffer(raw, dtype=self.datatype.numpy_type).reshape(self.shape)

    def __repr__(self) -> str:
        return f"Tensor({self.datatype.wire_name}{list(self.shape)})"
