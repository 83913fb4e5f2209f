"""One connection of the lane: the asyncio protocol between a transport and `http2.Connection`.

What is answered in one turn of the loop is handed over together: the answers of a batch, which come in one
turn, cost one call of the system. A client that greets too late, does not read, or is not there any more is
hung up on.
"""

import asyncio
from collections.abc import Iterator
from typing import Final, cast

import structlog

from ...http2.connection import Connection
from ...http2.errors import ErrorCode
from ...http2.limits import Limits
from ...http2.phases import ConnectionPhase
from ...http2.stream import Exchange, Stream
from ...settings import KeepaliveSettings
from ..method import Streaming
from ..status import Status
from . import carrier
from .heads import Head, Reader
from .keeping import Keeper
from .streaming import StreamExchange
from .unary import RefusedExchange, UnaryExchange

log: Final = structlog.stdlib.get_logger(__name__)

GREETING_S: Final = 20.0
"""Seconds within which a client must speak HTTP/2."""
STALLED_S: Final = 60.0
"""Seconds that a client may read nothing of what waits for it."""
LINGER_S: Final = 5.0
"""Seconds that a client may take to read the last words."""
MOST_UNREAD: Final = 8 << 20
"""Bytes that may wait for a client that makes the server answer and reads nothing."""
JOINED: Final = 64 * 1024
"""Bytes up to which joining costs less than handing over one by one."""
PATIENCE_S: Final = 300.0
"""Seconds that an answer which is complete may wait for a client to make room for it."""


class Links:
    """The connections of a server."""

    __slots__ = ("_empty", "_links")

    def __init__(self) -> None:
        self._links: set[Link] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __iter__(self) -> "Iterator[Link]":
        return iter(tuple(self._links))

    def add(self, link: "Link") -> None:
        """Take a connection that was made."""
        self._links.add(link)
        self._empty.clear()

    def remove(self, link: "Link") -> None:
        """Forget a connection that was lost."""
        self._links.discard(link)
        if not self._links:
            self._empty.set()

    async def wait_until_none(self) -> None:
        """Wait until the last connection was lost."""
        await self._empty.wait()


class Link(asyncio.Protocol):
    """One connection."""

    def __init__(
        self,
        read: Reader,
        limits: Limits,
        keepalive: KeepaliveSettings,
        links: "Links",
    ) -> None:
        self.connection: Connection[Head] = Connection(read, self._accept, limits)
        self.held = 0
        self._links = links
        self._keepalive = keepalive
        self._keeper: Keeper | None = None
        self._transport: asyncio.Transport | None = None
        self._is_woken = False
        """Whether `flush` is about to be called."""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        """Hangs up on a client that does not greet, read, or go."""
        self._patience: asyncio.TimerHandle | None = None
        """Looks whether a client has left any room."""

    # --- what the transport says ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by name
        self._links.add(self)
        if _speaks_other(transport):
            self.abort()
            return
        self._keeper = Keeper(self.connection, self._keepalive, self.flush, self.abort)
        self._timer = self._loop.call_later(GREETING_S, self._check_greeting)
        self.connection.greet()
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Read what came in, and send what it makes."""
        connection = self.connection
        self._is_woken = True
        connection.receive(data)
        self._is_woken = False
        if self._keeper is not None:
            self._keeper.heard()
        if connection.outbox.waiting:
            self.flush()
        if connection.phase is ConnectionPhase.CLOSED:
            self._hang_up()
        elif connection.outbox.paused and self._unread() > MOST_UNREAD:
            log.debug("connection closed: its client makes answers and reads none")
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let all calls know that nobody is there any more."""
        self._links.remove(self)
        self.connection.end()
        self._transport = None
        if self._keeper is not None:
            self._keeper.stop()
            self._keeper = None
        for timer in (self._timer, self._patience):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        """Hold data back, and hang up should that last too long."""
        self.connection.outbox.paused = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(STALLED_S, self.abort)

    def resume_writing(self) -> None:
        """Send what was held back."""
        self.connection.outbox.paused = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.connection.outbox.pump()
        self.flush()

    # --- what calls and the server say ---

    def wake(self) -> None:
        """Have what can be sent handed over at the end of this turn."""
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hand to the transport what can be sent."""
        self._is_woken = False
        transport = self._transport
        if transport is None:
            return
        outbox = self.connection.outbox
        while outbox.waiting:
            bulk = outbox.bulk
            waiting = outbox.take()
            if bulk > JOINED:
                transport.writelines(waiting)
            else:
                transport.write(b"".join(waiting))
            if bulk and outbox.is_blocked:
                outbox.pump()
        if outbox.is_blocked and self._patience is None:
            self._patience = self._loop.call_later(PATIENCE_S, self._lose_patience, outbox.sent)
        if self.connection.phase is ConnectionPhase.LEAVING and not self.connection.streams:
            self._hang_up()

    def leave(self) -> None:
        """Take no new calls, and hang up when those that are open have ended."""
        self.connection.leave()
        self.flush()

    def abort(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    # --- calls ---

    def _accept(self, stream: Stream, head: Head) -> Exchange:
        method = head.method
        if method is not None and not head.http_status:
            if isinstance(method.behaviour, Streaming):
                return StreamExchange(self, stream, head, method)
            return UnaryExchange(self, stream, head, method)
        outbox = self.connection.outbox
        exchange = RefusedExchange(self, stream)
        self.wake()
        if head.http_status:
            carrier.end_as_http(outbox, stream, head.http_status)
        else:
            carrier.end_with(outbox, stream, Status.UNIMPLEMENTED, "Method not found!", opened=False)
        return exchange

    # --- hanging up ---

    def _check_greeting(self) -> None:
        self._timer = None
        if self.connection.phase in (ConnectionPhase.FRESH, ConnectionPhase.GREETED):
            self.connection.end(ErrorCode.SETTINGS_TIMEOUT)
            self.flush()
            self._hang_up()

    def _hang_up(self) -> None:
        """Close the connection when the last words are read."""
        fault = self.connection.fault
        if fault is not None:
            log.debug("connection closed by the fault of its client: %s", fault)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(LINGER_S, self.abort)

    def _lose_patience(self, sent: int) -> None:
        """Take back the answers that a client has left no room for, all the time and for anything."""
        self._patience = None
        if self.connection.outbox.sent == sent:
            self.connection.give_up_blocked()
        self.flush()

    def _unread(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()


def _speaks_other(transport: asyncio.BaseTransport) -> bool:
    """Whether TLS was agreed on for another protocol than HTTP/2."""
    tls = transport.get_extra_info("ssl_object")
    return tls is not None and tls.selected_alpn_protocol() != "h2"
