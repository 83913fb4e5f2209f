"""Request bodies: read whole, and never larger than they may be.

A body that lies in its buffer already, as that of most requests does, is taken without waiting. For one that
is still on its way the bounds are those of a stranger: its size before it is read where it is announced, its
size while it grows, the number of its chunks, and the time it may keep silent.
"""

import asyncio
from typing import Final

from aiohttp import StreamReader, hdrs
from aiohttp.web import BaseRequest

from ...proto.errors import InferError, invalid
from ...proto.kserve_http.document import parse_document
from ...proto.kserve_http.members import JsonObject, object_or_empty

MAX_BODY_SIZE: Final = 2**31 - 1
"""Bytes of a body in all, tensors included: what gRPC takes in one message."""
MAX_CHUNKS: Final = 65536
SILENCE_S: Final = 60.0
"""How long a body may not grow before its sender is given up."""


class BodyRefusedError(Exception):
    """A body that will not be read to its end, so that its connection cannot go on."""

    def __init__(self, error: InferError) -> None:
        super().__init__(error.message)
        self.error = error


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
