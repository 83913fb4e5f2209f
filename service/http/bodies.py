"""Request bodies: read whole, decompressed, and never larger than they may be.

A body that lies in its buffer already, as that of most requests does, is taken without waiting. For one that
is still on its way the bounds are those of a stranger: its size before it is read where it is announced, its
size while it grows, the number of its chunks, and the time it may keep silent.
"""

import asyncio
import zlib
from typing import Final

from aiohttp import StreamReader, hdrs
from aiohttp.web import BaseRequest

from ...proto.errors import Fault, InferError, invalid
from ...proto.kserve_http.document import parse_document
from ...proto.kserve_http.members import JsonObject, object_or_empty

MAX_BODY_SIZE: Final = 2**31 - 1
"""Bytes of a body in all, tensors included: what gRPC takes in one message."""
MAX_CHUNKS: Final = 65536
SILENCE_S: Final = 60.0
"""How long a body may not grow before its sender is given up."""

_ZLIB_OR_GZIP: Final = 32 + zlib.MAX_WBITS
_GZIP: Final = 16 + zlib.MAX_WBITS
_ENCODINGS: Final = ("gzip", "deflate", "identity")


class BodyRefusedError(Exception):
    """A body that will not be read to its end, so that its connection cannot go on."""

    def __init__(self, error: InferError) -> None:
        super().__init__(error.message)
        self.error = error


class UnknownEncodingError(InferError):
    """A `Content-Encoding` that is not understood."""

    def __init__(self) -> None:
        super().__init__(Fault.UNSUPPORTED, "Unsupported compression type")


async def read_body(request: BaseRequest, limit: int = MAX_BODY_SIZE) -> bytes:
    """Return the body; raises `BodyRefusedError` for one that is too large or too slow."""
    content = request.content
    if content.is_eof():
        body = content.read_nowait()
        if len(body) > limit:
            raise _too_large(len(body), limit)
        return body
    announced = request.content_length
    if announced is not None and announced > limit:
        raise _too_large(announced, limit)
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return await _collect(content, limit)


async def read_json(request: BaseRequest, limit: int) -> JsonObject:
    """Return the members of a JSON body, none where it is empty; raises InferError or `BodyRefusedError`."""
    body = await read_body(request, limit)
    return object_or_empty(parse_document(body)) if body else {}


async def _collect(content: StreamReader, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = chunks = 0
    while True:
        try:
            async with asyncio.timeout(SILENCE_S):
                piece, is_end_of_chunk = await content.readchunk()
        except TimeoutError:
            raise BodyRefusedError(invalid("the request body did not arrive in time")) from None
        if not piece and not is_end_of_chunk:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
        chunks += is_end_of_chunk
        if size > limit:
            raise _too_large(size, limit)
        if chunks > MAX_CHUNKS:
            raise BodyRefusedError(
                invalid(
                    f"Chunked request body exceeds maximum of {MAX_CHUNKS} non-empty chunks. "
                    "Send fewer or larger HTTP chunks."
                )
            )


def _too_large(size: int, limit: int) -> BodyRefusedError:
    return BodyRefusedError(
        invalid(
            f"request JSON size of {size} bytes exceeds the maximum allowed input size of {limit} bytes. "
            "Use --http-max-input-size to increase the limit."
            if limit < MAX_BODY_SIZE
            else f"request body of {size} bytes exceeds the {limit} bytes that one request may have"
        )
    )


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """Return a body as it was before its `Content-Encoding`; raises InferError for a bomb or a broken one."""
    if encoding in ("", "identity"):
        return body
    if encoding not in _ENCODINGS:
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
    best, best_weight = "identity", 0.0
    for entry in accepted.split(","):
        name, _, quality = entry.strip(" ").partition(";q=")
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            continue
        if name in _ENCODINGS and weight > best_weight:
            best, best_weight = name, weight
    return best
