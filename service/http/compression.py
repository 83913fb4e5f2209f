"""Content encodings: what a request may be compressed with, and what a response is.

The encodings are Triton's, gzip and deflate. Nothing is ever decompressed beyond the size that it may have.
"""

import zlib
from typing import Final

from ...proto.errors import Fault, InferError, invalid

IDENTITY: Final = "identity"
ENCODINGS: Final = ("gzip", "deflate")

_ZLIB_OR_GZIP: Final = 32 + zlib.MAX_WBITS
_GZIP: Final = 16 + zlib.MAX_WBITS


class UnknownEncodingError(InferError):
    """A `Content-Encoding` that is not understood."""

    def __init__(self) -> None:
        super().__init__(Fault.UNSUPPORTED, "Unsupported compression type")


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """Return a body as it was before its `Content-Encoding`; raises InferError for a bomb or a broken one."""
    if encoding not in ENCODINGS:
        raise UnknownEncodingError
    if not body:
        raise invalid("nothing to be decompressed")
    inflater = zlib.decompressobj(_ZLIB_OR_GZIP)
    try:
        text = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise invalid(f"failed to decompress the request body: {error}") from None
    if len(text) > limit:
        raise invalid(
            f"Decompressed data size exceeds the maximum allowed value of {limit} bytes. "
            "Use --http-max-input-size to increase the limit."
        )
    if not inflater.eof or inflater.unused_data:
        raise invalid("failed to decompress the request body: incomplete or trailing data")
    return text


def compressed(body: bytes, encoding: str) -> bytes:
    """Return a body in the form of an encoding, `gzip` or `deflate`."""
    deflater = zlib.compressobj(wbits=_GZIP if encoding == "gzip" else zlib.MAX_WBITS)
    return deflater.compress(body) + deflater.flush()


def preferred_encoding(accepted: str) -> str:
    """Return what an `Accept-Encoding` likes best of what there is; the first of equals, else `identity`."""
    best, best_weight = IDENTITY, 0.0
    for entry in accepted.split(","):
        name, _, quality = entry.strip(" ").partition(";q=")
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            continue
        if (name in ENCODINGS or name == IDENTITY) and weight > best_weight:
            best, best_weight = name, weight
    return best
