"""The outputs of a response as a cache keeps them: bytes of their own, and their spelling in a shared one.

A response of a model holds views on memory that belongs to its batch, so whoever wants to keep one has to
copy it. A shared cache is written by other servers, and by anyone who can reach it, so what it holds is
believed no more than what a client sends: `decode` checks every length, dimension and count before it uses
it, and makes nothing larger than what it was given.

The spelling, integers little-endian:

    magic "DTRC", spelling 1 (u8), number of outputs (u16), then for each output
    length of the name (u16), name in UTF-8, datatype (u8), rank (u8), dimensions (u64 each),
    number of bytes (u64), the bytes as a wire spells them
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from .byte_strings import TruncatedElementError, decode_byte_strings
from .datatypes import Datatype
from .tensor import MAX_RANK, Raw, Shape, Tensor

MAX_OUTPUTS: Final = 65_535
ENTRY_OVERHEAD: Final = 256
"""About what an entry takes besides its tensors, in bytes."""
TENSOR_OVERHEAD: Final = 128
"""About what a tensor takes besides its elements and its name."""
MAX_EXTENT: Final = 2**62

_MAGIC: Final = b"DTRC"
_SPELLING: Final = 1
_head = struct.Struct("<4sBH")
_name_length = struct.Struct("<H")
_kind = struct.Struct("<BB")
_size = struct.Struct("<Q")


class StoredOutputsError(ValueError):
    """Bytes that spell no outputs."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One output."""

    name: str
    datatype: Datatype
    shape: Shape
    raw: bytes


@dataclass(frozen=True, slots=True)
class StoredOutputs:
    """All outputs of one response."""

    tensors: tuple[StoredTensor, ...]

    @classmethod
    def of(cls, outputs: Mapping[str, Tensor]) -> Self:
        """Copy the outputs of a response."""
        return cls(
            tuple(
                StoredTensor(name, tensor.datatype, tensor.shape, bytes(tensor.raw))
                for name, tensor in outputs.items()
            )
        )

    def restored(self) -> dict[str, Tensor]:
        """Return outputs for a response; their elements are shared with every other one made from these."""
        return {each.name: Tensor(each.datatype, each.shape, each.raw) for each in self.tensors}


def stored_size(outputs: Mapping[str, Tensor]) -> int:
    """Return how many bytes of memory outputs would take in a cache."""
    own = sum(len(name) + tensor.byte_size for name, tensor in outputs.items())
    return ENTRY_OVERHEAD + TENSOR_OVERHEAD * len(outputs) + own


def encode(stored: StoredOutputs) -> bytes:
    """Return the spelling of outputs; raises StoredOutputsError for what it has no place for."""
    if len(stored.tensors) > MAX_OUTPUTS:
        raise StoredOutputsError(f"{len(stored.tensors)} outputs")
    pieces = [_head.pack(_MAGIC, _SPELLING, len(stored.tensors))]
    for each in stored.tensors:
        name = each.name.encode()
        if len(name) > MAX_OUTPUTS or len(each.shape) > MAX_RANK:
            raise StoredOutputsError(f"output '{each.name[:100]}' has too long a name or too many dimensions")
        pieces += (
            _name_length.pack(len(name)),
            name,
            _kind.pack(each.datatype.value, len(each.shape)),
            *(_size.pack(dim) for dim in each.shape),
            _size.pack(len(each.raw)),
            each.raw,
        )
    return b"".join(pieces)


def decode(spelt: Raw) -> StoredOutputs:
    """Return the outputs that bytes spell; raises StoredOutputsError where they spell none."""
    reader = _Reader(spelt)
    magic, spelling, count = reader.unpack(_head)
    if magic != _MAGIC or spelling != _SPELLING:
        raise StoredOutputsError("these are no stored outputs")
    tensors = tuple(_decode_tensor(reader) for _ in range(count))
    if reader.remaining:
        raise StoredOutputsError(f"{reader.remaining} bytes behind the last output")
    if len({each.name for each in tensors}) != count:
        raise StoredOutputsError("two outputs have the same name")
    return StoredOutputs(tensors)


class _Reader:
    """Takes bytes from the front, and never more than there are."""

    __slots__ = ("_offset", "_view")

    def __init__(self, spelt: Raw) -> None:
        self._view = memoryview(spelt)
        self._offset = 0

    @property
    def remaining(self) -> int:
        return len(self._view) - self._offset

    def take(self, size: int) -> bytes:
        if size > self.remaining:
            raise StoredOutputsError(f"{size} bytes are announced, and {self.remaining} are left")
        self._offset += size
        return bytes(self._view[self._offset - size : self._offset])

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size))


def _decode_tensor(reader: _Reader) -> StoredTensor:
    (length,) = reader.unpack(_name_length)
    try:
        name = reader.take(length).decode()
    except UnicodeDecodeError as error:
        raise StoredOutputsError("a name is not text") from error
    number, rank = reader.unpack(_kind)
    try:
        datatype = Datatype(number)
    except ValueError as error:
        raise StoredOutputsError(f"there is no datatype {number}") from error
    if datatype is Datatype.INVALID or rank > MAX_RANK:
        raise StoredOutputsError(f"datatype {number} with {rank} dimensions")
    shape = tuple(reader.unpack(_size)[0] for _ in range(rank))
    (size,) = reader.unpack(_size)
    raw = reader.take(size)
    _check_elements(datatype, shape, raw)
    return StoredTensor(name, datatype, shape, raw)


def _check_elements(datatype: Datatype, shape: Shape, raw: bytes) -> None:
    """Raise StoredOutputsError where bytes and shape do not fit."""
    # A tensor of no elements may have other dimensions of any size; numpy has a bound on these too.
    if math.prod(max(1, dim) for dim in shape) * max(1, datatype.item_size) >= MAX_EXTENT:
        raise StoredOutputsError(f"no tensor has the shape {list(shape)}")
    count = math.prod(shape)
    if datatype is not Datatype.BYTES:
        if count * datatype.item_size != len(raw):
            raise StoredOutputsError(f"{len(raw)} bytes for {count} elements of {datatype.wire_name}")
        return
    try:
        found = len(decode_byte_strings(raw))
    except TruncatedElementError as error:
        raise StoredOutputsError(str(error)) from error
    if found != count:
        raise StoredOutputsError(f"{found} strings for {count} elements")
