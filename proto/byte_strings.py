"""How BYTES elements are spelt in one buffer: each a little-endian uint32 length, then that many bytes."""

import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

LENGTH_SIZE: Final = 4
"""Bytes of the length before each element."""

_length = struct.Struct("<I")


class TruncatedElementError(ValueError):
    """A buffer that ends inside a length or inside an element."""

    def __init__(self, remaining: int, *, inside_length: bool) -> None:
        super().__init__(f"buffer ends inside {'a length' if inside_length else 'an element'}")
        self.remaining = remaining
        self.inside_length = inside_length


def encode_element(element: object) -> bytes:
    """Return the bytes of one element: bytes as they are, text in UTF-8, anything else as its `str`."""
    if isinstance(element, bytes | bytearray | memoryview | np.bytes_):
        return bytes(element)
    return str(element).encode()


def encode_byte_strings(elements: npt.NDArray[Any]) -> bytes:
    """Return one buffer that spells all elements of an array in row-major order."""
    pieces: list[bytes] = []
    for element in elements.ravel():
        encoded = encode_element(element)
        pieces.append(_length.pack(len(encoded)))
        pieces.append(encoded)
    return b"".join(pieces)


def decode_byte_strings(buffer: bytes | bytearray | memoryview) -> list[bytes]:
    """Return the elements that a buffer spells; raises `TruncatedElementError` where it ends too early."""
    view = memoryview(buffer)
    size = len(view)
    elements: list[bytes] = []
    offset = 0
    while offset < size:
        if size - offset < LENGTH_SIZE:
            raise TruncatedElementError(size - offset, inside_length=True)
        (length,) = _length.unpack_from(view, offset)
        offset += LENGTH_SIZE
        if length > size - offset:
            raise TruncatedElementError(size - offset, inside_length=False)
        elements.append(bytes(view[offset : offset + length]))
        offset += length
    return elements
