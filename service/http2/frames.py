"""The frames of RFC 9113: their numbers, and how those that a server sends are spelt."""

import struct
from collections.abc import Mapping
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client begins with."""

HEAD_SIZE: Final = 9
"""Bytes before the payload of each frame."""
HEAD: Final = struct.Struct(">HBBBL")
"""The length in two parts, the kind, the flags, the stream."""
STREAM_ID: Final = 0x7FFF_FFFF
"""The bits of a number of four bytes that count: the first is reserved."""

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

DEFAULT_WINDOW: Final = 65_535
LARGEST_WINDOW: Final = 2**31 - 1
SMALLEST_MAX_FRAME: Final = 16_384
LARGEST_MAX_FRAME: Final = 2**24 - 1

PRIORITY_SIZE: Final = 5
SETTING: Final = struct.Struct(">HL")
NUMBER: Final = struct.Struct(">L")
_GOAWAY: Final = struct.Struct(">LL")


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    size = len(payload)
    return HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream_id) + payload


def data_head(size: int, stream_id: int, flags: int = 0) -> bytes:
    """Return what stands before the payload of a DATA frame."""
    return HEAD.pack(size >> 8, size & 0xFF, DATA, flags, stream_id)


def header_frames(stream_id: int, block: bytes, most: int, flags: int = 0) -> bytes:
    """Return a header block as HEADERS, and CONTINUATION where it is longer than a frame may be."""
    if len(block) <= most:
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    pieces = [block[at : at + most] for at in range(0, len(block), most)]
    frames = [frame(HEADERS, flags, stream_id, pieces[0])]
    frames += [frame(CONTINUATION, 0, stream_id, piece) for piece in pieces[1:-1]]
    return b"".join((*frames, frame(CONTINUATION, END_HEADERS, stream_id, pieces[-1])))


def settings(values: Mapping[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*each) for each in values.items()))


def rst_stream(stream_id: int, code: int) -> bytes:
    """Return what ends a stream at once."""
    return frame(RST_STREAM, 0, stream_id, NUMBER.pack(code))


def window_update(stream_id: int, increment: int) -> bytes:
    """Return the permission to send more, on a stream or with 0 on the connection."""
    return frame(WINDOW_UPDATE, 0, stream_id, NUMBER.pack(increment))


def goaway(last_stream_id: int, code: int, told: str = "") -> bytes:
    """Return the end of the connection: streams up to the last one are answered, later ones are not."""
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last_stream_id, code) + told.encode())
