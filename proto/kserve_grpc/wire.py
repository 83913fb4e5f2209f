"""The outermost layer of protobuf's wire form, for messages whose tensors are too large to be copied twice.

A message is a row of fields, each with its number and its length. So the tensors of a request can be cut out
of it as views, and those of a response laid behind it as they are: protobuf, which would copy them in and out
of its own memory, sees the rest.
"""

from collections.abc import Sequence
from typing import Final

from ..tensor import Raw

LARGE: Final = 64 * 1024
"""Bytes from which this costs less than leaving it all to protobuf."""
MOST_FIELDS: Final = 10_000
"""Fields after which a message is left to protobuf, which is quicker with many small ones."""

_RAW_INPUT: Final = 7
_RAW_OUTPUT_TAG: Final = b"\x32"
_INFER_RESPONSE_TAG: Final = b"\x12"
_LENGTH_DELIMITED: Final = 2
_LONGEST_VARINT: Final = 10
_MORE: Final = 0x80


def split(body: Raw) -> tuple[bytes, Sequence[memoryview]] | None:
    """Return a `ModelInferRequest` without its raw contents, and these as views; None where it is odd.

    What is odd is for protobuf to read, or to refuse.
    """
    view = memoryview(body)
    end = len(view)
    rest: list[memoryview] = []
    raw: list[memoryview] = []
    at = 0
    for _ in range(MOST_FIELDS):
        if at == end:
            return b"".join(rest), raw
        begin = at
        tag, at = _varint(view, at)
        if tag & 7 != _LENGTH_DELIMITED:  # all fields of a request are
            return None
        size, at = _varint(view, at)
        if size < 0 or at + size > end:
            return None
        if tag >> 3 == _RAW_INPUT:
            raw.append(view[at : at + size])
        else:
            rest.append(view[begin : at + size])
        at += size
    return None


def with_raw_outputs(message: bytes, raw: Sequence[Raw]) -> list[Raw]:
    """Return a `ModelInferResponse` with raw contents laid behind it."""
    pieces: list[Raw] = [message]
    for each in raw:
        pieces.append(_RAW_OUTPUT_TAG + spelt(_size(each)))
        pieces.append(each)
    return pieces


def as_stream_response(pieces: Sequence[Raw]) -> list[Raw]:
    """Return a `ModelStreamInferResponse` around a `ModelInferResponse`."""
    return [_INFER_RESPONSE_TAG + spelt(sum(map(_size, pieces))), *pieces]


def spelt(number: int) -> bytes:
    """Return a varint."""
    if number < _MORE:
        return bytes((number,))
    spelling = bytearray()
    while number >= _MORE:
        spelling.append(number & 0x7F | _MORE)
        number >>= 7
    spelling.append(number)
    return bytes(spelling)


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """Return the varint at a place, and the place behind it; -1 where there is none."""
    number = shift = 0
    for place in range(at, min(at + _LONGEST_VARINT, len(view))):
        byte = view[place]
        number |= (byte & 0x7F) << shift
        if byte < _MORE:
            return number, place + 1
        shift += 7
    return -1, at


def _size(piece: Raw) -> int:
    return piece.nbytes if isinstance(piece, memoryview) else len(piece)
