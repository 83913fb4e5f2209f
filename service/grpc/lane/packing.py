"""Messages as they travel: five bytes before each, and compression by the name that headers give it."""

import struct
import zlib
from collections.abc import Mapping
from typing import Final

from ....proto.kserve_grpc import MAX_MESSAGE_SIZE
from ...http2.stream import Buffer
from ...settings import Compression
from ..status import Status

PREFIX: Final = struct.Struct(">BL")
"""Whether a message is packed, and how long it is."""
IDENTITY: Final = "identity"
ENCODINGS: Final = "identity, deflate, gzip"
"""What clients are told."""
_GZIP_BITS: Final = 16 + zlib.MAX_WBITS
PACKINGS: Final[Mapping[str, int]] = {"deflate": zlib.MAX_WBITS, "gzip": _GZIP_BITS}
"""How zlib is told of each."""
ALGORITHM: Final[Mapping[Compression, tuple[str, int]]] = {
    Compression.LOW: ("gzip", 1),
    Compression.MEDIUM: ("deflate", 6),
    Compression.HIGH: ("deflate", 9),
}
"""What gRPC makes of a level for clients that take all of its algorithms, and how hard it tries."""

MOST_UNPACKED: Final = 64 << 20
"""Bytes that any packed message may become."""
MOST_TIMES: Final = 128
"""How many times its size a message may become that is larger unpacked: whoever means well packs less."""


class CallRefusedError(Exception):
    """A call that cannot be carried; how it ends."""

    def __init__(self, status: Status, told: str) -> None:
        super().__init__(told)
        self.status = status
        self.told = told


def too_large(size: int) -> CallRefusedError:
    """Return the end of a call with a message beyond all bounds."""
    return CallRefusedError(
        Status.RESOURCE_EXHAUSTED, f"Received message larger than max ({size} vs. {MAX_MESSAGE_SIZE})"
    )


def unpacked(body: Buffer, packing: str) -> bytes:
    """Return what a packed message was; raises CallRefusedError."""
    bits = PACKINGS.get(packing)
    if bits is None:
        raise CallRefusedError(
            Status.INTERNAL if packing == IDENTITY else Status.UNIMPLEMENTED,
            f"Compression algorithm '{packing}' is not supported.",
        )
    most = min(MAX_MESSAGE_SIZE, max(MOST_UNPACKED, MOST_TIMES * len(body)))
    stream = zlib.decompressobj(bits)
    try:
        plain = stream.decompress(body, most + 1)
    except zlib.error as error:
        raise CallRefusedError(Status.INTERNAL, f"Failed to decompress message: {error}") from None
    if len(plain) > most:
        raise CallRefusedError(
            Status.RESOURCE_EXHAUSTED, f"Decompressed message larger than max ({most} bytes)"
        )
    if not stream.eof:
        raise CallRefusedError(Status.INTERNAL, "Failed to decompress message: it is cut off")
    return plain


def packed(message: bytes, packing: str, level: int) -> bytes:
    """Return a message as it travels, packed."""
    stream = zlib.compressobj(level, wbits=PACKINGS[packing])
    body = stream.compress(message) + stream.flush()
    return PREFIX.pack(1, len(body)) + body


def percent_encoded(text: str) -> str:
    """Return the message of a status as headers carry it."""
    return "".join(
        [
            chr(byte) if 0x20 <= byte <= 0x7E and byte != 0x25 else f"%{byte:02X}"  # noqa: PLR2004 - printable, but for the percent sign
            for byte in text.encode(errors="replace")
        ]
    )
