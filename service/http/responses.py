"""Responses whose bytes are ready before they meet the connection.

aiohttp would assemble a response header by header and add a date and its own name to each. The responses here
know their few headers in advance, so that sending one costs one join of bytes and one write.
"""

import asyncio
from collections.abc import Sequence
from functools import cache
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion10
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_exceptions import ClientConnectionResetError
from aiohttp.web import BaseRequest, StreamResponse

from ...proto.errors import InferError
from ...proto.kserve_http.errors import HTTP_STATUS, encode_error
from ...proto.tensor import Raw

JSON: Final = "application/json"
BINARY: Final = "application/octet-stream"
PLAIN_TEXT: Final = "text/plain; charset=utf-8"

JOINED_SIZE: Final = 64 * 1024
"""Bytes up to which it is cheaper to copy a body into one piece than to write several."""
STALLED_S: Final = 60.0
"""How long a client may read nothing of a response that is still being written."""


def goes_on(request: BaseRequest) -> bool:
    """Whether the connection takes another request behind this one; none does while the server stops."""
    return request.keep_alive and not request.protocol._close  # noqa: SLF001 - aiohttp tells it to nobody else


class ReadyResponse(StreamResponse):
    """A response made of a head, which lacks only its last empty line, and the pieces of a body."""

    def __init__(self, head: bytes, body: Sequence[Raw], body_size: int, *, close: bool = False) -> None:
        # The fields of the base class are for responses that are assembled; none of them is used.
        self._head = head
        self._pieces = body
        self._size = body_size
        self._keep_alive = False if close else None

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Write everything; raises ConnectionError when nobody is there any more."""
        protocol = request.protocol
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("Cannot write to closing transport")
        if request.method == "HEAD":
            self._pieces = ()
        end = b"\r\n"
        if self._keep_alive is None and goes_on(request):
            self._keep_alive = True
            if request.version == HttpVersion10:
                end = b"Connection: keep-alive\r\n\r\n"
        else:
            self._keep_alive = False
            end = b"Connection: close\r\n\r\n"
        self.write_to(transport, end)
        if protocol.writing_paused:
            await request.writer.drain()
        return None

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection may go on behind it."""
        return self._keep_alive is not False

    def write_to(self, transport: asyncio.WriteTransport, end: bytes) -> None:
        """Write everything; `end` is how the head ends."""
        if self._size <= JOINED_SIZE:
            transport.write(b"".join((self._head, end, *self._pieces)))
        else:
            transport.writelines((self._head + end, *self._pieces))

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: everything is written already."""


class ChunkedResponse(StreamResponse):
    """A response that is written while it comes to be; it is complete when its handler returns it.

    The head leaves with the first piece. HTTP/1.0 knows no chunks: there the connection ends with it.
    """

    def __init__(self, request: BaseRequest, status: int, content_type: str) -> None:
        # As for `ReadyResponse`, the fields of the base class are not used.
        self._request = request
        self._chunked_body = request.version != HttpVersion10
        self._keep_alive = goes_on(request) and self._chunked_body
        framing = "Transfer-Encoding: chunked\r\n" if self._chunked_body else ""
        ending = "" if self._keep_alive else "Connection: close\r\n"
        self._unsent = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"Content-Type: {content_type}\r\n{framing}{ending}\r\n"
        ).encode()

    async def send(self, piece: bytes) -> None:
        """Send one piece; wait while the client reads too slowly; raises ConnectionError when it is gone."""
        await self._pass_on(self._framed(piece))

    async def end(self, piece: bytes = b"") -> None:
        """Send the last piece, if there is one, and the end."""
        last = self._framed(piece) if piece else b""
        await self._pass_on(last + b"0\r\n\r\n" if self._chunked_body else last)

    def _framed(self, piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked_body else piece

    async def _pass_on(self, framed: bytes) -> None:
        protocol = self._request.protocol
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("Cannot write to closing transport")
        transport.write(self._unsent + framed)
        self._unsent = b""
        if protocol.writing_paused:
            try:
                async with asyncio.timeout(STALLED_S):
                    await self._request.writer.drain()
            except TimeoutError:
                transport.abort()
                raise ClientConnectionResetError("the client stopped reading") from None

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Do nothing: everything is written already."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: everything is written already."""


@cache
def head_of(status: int, content_type: str = "", headers: str = "") -> bytes:
    """Return the head of a response up to the value of its length; `headers` are lines that end in CRLF."""
    typed = f"Content-Type: {content_type}\r\n" if content_type else ""
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{typed}{headers}Content-Length: ".encode()


_JSON_OK: Final = head_of(HTTPStatus.OK, JSON)


def with_body(head: bytes, body: bytes, *, close: bool = False) -> ReadyResponse:
    """Return a response whose body is one piece."""
    return ReadyResponse(b"%b%d\r\n" % (head, len(body)), (body,), len(body), close=close)


def empty(status: int = HTTPStatus.OK) -> ReadyResponse:
    """Return a response that says all by its status."""
    return with_body(head_of(status), b"")


def json_body(body: bytes) -> ReadyResponse:
    """Return the response that carries a JSON text."""
    return with_body(_JSON_OK, body)


def error_of(status: int, message: str, *, headers: str = "", close: bool = False) -> ReadyResponse:
    """Return a response that tells of an error in the one form Triton has for it."""
    return with_body(head_of(status, JSON, headers), encode_error(message), close=close)


def failure(error: InferError, *, headers: str = "", close: bool = False) -> ReadyResponse:
    """Return the response to a request that failed."""
    return error_of(HTTP_STATUS[error.fault], error.message, headers=headers, close=close)
