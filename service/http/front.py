"""A listening socket with an aiohttp server behind it: how it opens, stops accepting, and closes."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import structlog
from aiohttp import web
from aiohttp.web import BaseRequest, RequestHandler, StreamResponse
from aiohttp.web_protocol import _ErrInfo

from ...proto.errors import invalid
from ..listener import Listener
from ..listening import ListenAt
from ..settings import TlsSettings
from ..tls import server_context
from .bodies import BodyRefusedError
from .lane import IDLE_S, Lane
from .responses import error_of

log: Final = structlog.stdlib.get_logger(__name__)

LINGER_S: Final = 1.0
"""How long the rest of a body that nobody wants is read past, so that its sender gets to read the answer."""
READ_BUFFER: Final = 256 * 1024
"""Bytes of a body that wait to be read before the sender is held back."""
MAX_LINE: Final = 16 * 1024
"""Bytes of a request line, and of one header."""
MAX_HEADERS: Final = 128
_NEVER_S: Final = 1e9

Handle = Callable[[BaseRequest], Awaitable[StreamResponse]]


class _Connection(RequestHandler):
    """aiohttp's connection, except that what is not HTTP is refused in JSON and not in the log."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Take bytes; where they break the body of the request being served, its handler must hear of it.

        aiohttp only queues the error behind that request, which would wait for its body until it is given up.
        """
        super().data_received(data)
        request = self._current_request
        if request is not None and self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            content = request.content
            if not content.is_eof():
                content.set_exception(BodyRefusedError(invalid("the request body could not be read")))
                content.feed_eof()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        """Return the response to a request that could not even be read; the connection ends with it."""
        log.debug("request could not be read", remote=request.remote, reason=message or repr(exc))
        reason = (message or "").partition("\n")[0].strip(" :") or HTTPStatus(status).phrase
        return error_of(status, reason, close=True)


class _Server(web.Server):
    """aiohttp's server with connections of our own."""

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return self.connection(IDLE_S)

    def successor(self) -> RequestHandler:
        """Return the protocol behind the lane, which is the one to say how long a connection may be idle."""
        return self.connection(_NEVER_S)

    def connection(self, idle_s: float) -> RequestHandler:
        """Return the protocol of a connection that may be idle for a time."""
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # None switches it off, the annotation forgot
            auto_decompress=False,
            keepalive_timeout=idle_s,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_HEADERS,
            read_bufsize=READ_BUFFER,
            lingering_time=LINGER_S,
        )


class HttpFront:
    """Where HTTP requests come in; each goes to `handle`, which answers every one of them.

    With a lane, connections begin there, and only what it does not answer itself gets here.
    """

    def __init__(
        self,
        service: str,
        socket: ListenAt,
        handle: Handle,
        tls: TlsSettings | None = None,
        lane: Lane | None = None,
    ) -> None:
        self._listener = Listener(service, socket)
        self._tls = tls
        self._server = _Server(handle, handler_cancellation=True)
        self._lane = lane

    @property
    def service(self) -> str:
        """What it is called in the log."""
        return self._listener.service

    @property
    def port(self) -> int:
        """The port listened at; where 0 was asked for, it is known once started."""
        return self._listener.port

    @property
    def address(self) -> str:
        """Where it listens, as `address:port` or `unix:path`."""
        return self._listener.address

    def prepare(self) -> None:
        """Keep the place to listen at; raises InferError where it or the certificate cannot be had."""
        tls = self._tls
        self._listener.prepare(server_context(tls) if tls is not None and tls.enabled else None)

    async def start(self) -> None:
        """Listen; raises InferError where that cannot be."""
        if not self._listener.is_prepared:
            self.prepare()
        await self._listener.start(self._protocol)

    def _protocol(self) -> asyncio.Protocol:
        return self._server() if self._lane is None else self._lane.connection(self._server.successor)

    async def stop_accepting(self) -> None:
        """Refuse new connections from now on; those that are open go on."""
        self._listener.stop()

    async def close(self, grace_s: float) -> None:
        """End every connection: idle ones at once, the others after their request or after the grace."""
        await self.stop_accepting()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_s
        if self._lane is not None:
            await self._lane.drain(grace_s)
        self._server.pre_shutdown()
        await self._server.shutdown(max(0.0, deadline - loop.time()))
