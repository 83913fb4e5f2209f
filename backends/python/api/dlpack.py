"""Tensors in and out of DLPack capsules, the way libraries share memory without knowing each other.

numpy does the work, but it has no BF16 and says little about what is wrong. So the header of a capsule is
read, and for BF16 patched, through ctypes: on the way in BF16 is told to be uint16, on the way out the other
way round. The header is that of the DLPack standard (`dlpack.h`, `DLManagedTensor`).
"""

import ctypes
from typing import Any, Final, Protocol, cast, runtime_checkable

import numpy as np

from ....proto.datatypes import Datatype, datatype_of_numpy
from ....proto.tensor import Array
from .errors import TritonModelException

CPU: Final = 1
CUDA: Final = 2
CUDA_HOST: Final = 3

_CAPSULE_NAME: Final = b"dltensor"
_UNSIGNED: Final = 1
_BFLOAT: Final = 4
_BFLOAT_BITS: Final = 16


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("ordinal", ctypes.c_int32))


class _ElementType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Header(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("rank", ctypes.c_int32),
        ("element", _ElementType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
_capsule_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_capsule_is_valid.restype = ctypes.c_int
_capsule_is_valid.argtypes = (ctypes.py_object, ctypes.c_char_p)


@runtime_checkable
class Producer(Protocol):
    """An object that can export its elements."""

    def __dlpack__(self, *, stream: object = None) -> object:
        """Return a capsule."""

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return the kind and the number of the device the elements lie on."""


class _Delivery:
    """A capsule dressed as the producer that numpy wants."""

    __slots__ = ("_capsule", "_device")

    def __init__(self, capsule: object, device: tuple[int, int]) -> None:
        self._capsule = capsule
        self._device = device

    def __dlpack__(self, **_wishes: object) -> object:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device


class _Held:
    """A writable array, seen through an object that keeps its owner alive."""

    __slots__ = ("__array_interface__", "_owner")

    def __init__(self, array: Array, owner: object) -> None:
        self.__array_interface__ = array.__array_interface__
        self._owner = owner


def export(array: Array, datatype: Datatype, owner: object) -> object:
    """Return a capsule over a writable array; it keeps the owner of the array alive."""
    capsule = np.asarray(_Held(array, owner)).__dlpack__()
    if datatype is Datatype.BF16:
        _header(capsule).element.code = _BFLOAT
    return capsule


def adopt(source: object) -> tuple[Array, Datatype]:
    """Return an array over the elements of a capsule, or of an object that makes one, and their datatype.

    Raises TritonModelException for what is no such object, for other devices, and for elements that are not
    in row-major order.
    """
    capsule = source
    if not _capsule_is_valid(source, _CAPSULE_NAME):
        if not isinstance(source, Producer):
            raise TritonModelException(
                "Provided tensor is not supported. Tensor must be a DLPack capsule "
                "or have `__dlpack__` and `__dlpack_device__` attributes"
            )
        _check_device(source.__dlpack_device__()[0])
        capsule = source.__dlpack__(stream=None)
    header = _header(capsule)
    _check_device(header.device.kind)
    _check_order(header)
    is_bfloat = (header.element.code, header.element.bits) == (_BFLOAT, _BFLOAT_BITS)
    if is_bfloat:
        header.element.code = _UNSIGNED
    delivery = _Delivery(capsule, (header.device.kind, header.device.ordinal))
    try:
        array: Array = np.from_dlpack(cast("Any", delivery))
    except (BufferError, RuntimeError) as error:
        raise TritonModelException(f"DLPack tensor is not supported: {error}") from None
    datatype = Datatype.BF16 if is_bfloat else datatype_of_numpy(array.dtype)
    if datatype is Datatype.INVALID:
        raise TritonModelException("Dtype is invalid.")
    return array, datatype


def _header(capsule: object) -> _Header:
    return _Header.from_address(_capsule_pointer(capsule, _CAPSULE_NAME))


def _check_device(kind: int) -> None:
    if kind == CUDA:
        raise TritonModelException(
            "DLPack capsule passed pointer to memory allocated on GPU device, when GPU is not available"
        )
    if kind not in (CPU, CUDA_HOST):
        raise TritonModelException(f"DLDevice type {kind} is not support by Python backend.")


def _check_order(header: _Header) -> None:
    sizes = header.shape[: header.rank]
    if not header.strides or 0 in sizes:
        return
    expected = 1
    for axis, size in reversed(list(enumerate(sizes))):
        if size != 1 and header.strides[axis] != expected:
            raise TritonModelException(
                "DLPack tensor is not contiguous. Only contiguous DLPack tensors that are stored in C-Order "
                "are supported."
            )
        expected *= size
