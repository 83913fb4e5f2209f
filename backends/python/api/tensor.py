"""`Tensor`: a named array, as model code gets and gives it.

Model code may write to every array it gets, and may go on writing to every array it gave. So the array of an
input is a copy of what the client sent, made when the model asks for it, and the elements of an output are
copied when its response goes out. What a model never looks at is never copied.
"""

from typing import Final, Self, cast

import numpy as np

from ....proto import tensor as wire
from ....proto.byte_strings import encode_byte_strings
from ....proto.datatypes import VALID_DATATYPES, Datatype
from ....proto.tensor import Array
from . import dlpack
from .errors import TritonModelException
from .names import EXTENSION_MODULE

_DATATYPES: Final = {
    datatype.numpy_type: datatype for datatype in VALID_DATATYPES if datatype is not Datatype.BF16
}


class Own:
    """Marks what was sent as the model's own: nobody else looks at its elements, so they need no copy."""

    __slots__ = ()


_copies = True


def leave_copying() -> None:
    """Copy nothing on its way out from now on: whoever takes a tensor in this process copies it at once."""
    global _copies  # noqa: PLW0603 - what becomes of tensors is the same for all models of a process
    _copies = False


class Tensor:
    """A name and an array; BYTES elements are the bytes they were when the tensor was made."""

    __module__ = EXTENSION_MODULE
    __slots__ = ("_array", "_datatype", "_source", "label")

    label: str
    """The name; `name` itself is a method."""
    _array: Array | None
    """What the model sees; None for what was sent and it did not look at."""
    _source: wire.Tensor | None
    """What was sent, or the elements of a BYTES tensor; None where only the array tells."""

    def __init__(self, name: str, array: Array) -> None:
        if not isinstance(name, str):
            raise TypeError(f"Tensor: name must be a str, not {type(name).__name__}")
        if not isinstance(array, np.ndarray):
            raise TypeError(f"Tensor '{name}': expected a numpy.ndarray, got {type(array).__name__}")
        if not name:
            raise TritonModelException("Tensor name cannot be an empty string.")
        datatype = _datatype_of(array)
        if not array.flags.c_contiguous:
            array = np.ascontiguousarray(array)
        self.label = name
        self._array = array
        self._datatype = datatype
        self._source = (
            wire.Tensor(datatype, array.shape, encode_byte_strings(array))
            if datatype is Datatype.BYTES
            else None
        )

    @classmethod
    def of_input(cls, name: str, source: wire.Tensor) -> Self:
        """Return the tensor that a client sent, or another model."""
        self = cls.__new__(cls)
        self.label = name
        self._array = None
        self._datatype = source.datatype
        self._source = source
        return self

    @staticmethod
    def from_dlpack(name: str, tensor: object) -> "Tensor":
        """Return a tensor over elements that another library exports; no copy."""
        if not name:
            raise TritonModelException("Tensor name cannot be an empty string.")
        self = Tensor.__new__(Tensor)
        self.label = name
        self._array, self._datatype = dlpack.adopt(tensor)
        self._source = None
        return self

    def name(self) -> str:
        """Return the name of the input or output."""
        return self.label

    def as_numpy(self) -> Array:
        """Return the elements; the same writable array each time."""
        if self._datatype is Datatype.BF16:
            raise TritonModelException(
                "Tensor dtype is BF16 and cannot be converted to NumPy. "
                "Use to_dlpack() and from_dlpack() instead."
            )
        return self._look()

    def triton_dtype(self) -> int:
        """Return the number of the datatype."""
        return int(self._datatype.value)

    def shape(self) -> list[int]:
        """Return the sizes of the dimensions, the batch dimension included."""
        known = self._source if self._array is None else self._array
        return list(cast("wire.Tensor | Array", known).shape)

    def is_cpu(self) -> bool:
        """Return True: the elements lie in host memory."""
        return True

    def to_dlpack(self) -> object:
        """Return a DLPack capsule over the elements; no copy of what the model has seen already."""
        if self._datatype is Datatype.BYTES:
            raise TritonModelException("DLPack does not have support for string tensors.")
        array = self._look()
        if not array.flags.writeable:  # the standard knows no way to say so
            array = self._array = array.copy()
        return dlpack.export(array, self._datatype, self)

    def __dlpack__(self, *, stream: object = None, **_wishes: object) -> object:
        """Return a DLPack capsule, whatever newer forms the consumer would also take."""
        return self.to_dlpack()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (dlpack.CPU, 0)

    def as_wire(self, *, kept: bool = False) -> wire.Tensor:
        """Return the elements as they are now; later writes of the model do not reach what is returned.

        Where whoever takes it copies it at once, it is copied here only if it is `kept` for a while.
        """
        array, source = self._array, self._source
        if source is not None and (array is None or self._datatype is Datatype.BYTES):
            return source
        array = self._look()
        if _copies or kept:
            return wire.Tensor(self._datatype, array.shape, array.tobytes())
        return wire.Tensor(self._datatype, array.shape, None, np.ascontiguousarray(array))

    def _look(self) -> Array:
        array = self._array
        if array is None:
            array = cast("wire.Tensor", self._source).numpy()
            if not isinstance(self._source, Own):
                array = array.copy()
            self._array = array
        return array


def _datatype_of(array: Array) -> Datatype:
    datatype = _DATATYPES.get(array.dtype)
    if datatype is not None:
        return datatype
    if array.dtype.type is np.bytes_:
        return Datatype.BYTES
    raise TritonModelException("NumPy dtype is not supported.")
