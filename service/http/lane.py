"""The lane: connections on which inference is answered without a task, a future or aiohttp in its way.

A connection begins with the lane. It reads each head (see `heads`): a plain inference request it collects and
asks itself (see `exchange`), and answers from the callback that brings the response. Any other request whose
end is beyond doubt goes to aiohttp, byte for byte, and when aiohttp waits for the next one the lane reads
again. With the first head that is not plain (chunks, an expectation, a head in pieces), and with the first
request that is sent ahead of an answer, the connection is aiohttp's to its end: it reads everything, only
slower.

    IDLE ──head──► BODY ──body──► ASKING ──response──► IDLE
      ├── a head for aiohttp ──► LENT ──aiohttp waits──► IDLE
      └── not plain, or ahead ──► GIVEN
"""

import asyncio
import enum
import socket
from typing import Final, Protocol, cast

from aiohttp.web import RequestHandler

from ...proto.errors import invalid
from . import bodies
from .exchange import Exchange
from .heads import Head, HeadReader
from .inference import Inference
from .responses import ReadyResponse, failure

IDLE_S: Final = 3630.0
"""How long a connection may say nothing: a little longer than the hour that proxies keep theirs."""
MAX_AHEAD: Final = 256 * 1024
"""Bytes of further requests that are taken in while one is answered."""


class Successor(Protocol):
    """Makes the connection of aiohttp that reads what the lane does not."""

    def __call__(self) -> RequestHandler:
        """Return a connection that was not made yet."""


class Turn(enum.Enum):
    """Whose turn it is on a connection."""

    IDLE = enum.auto()
    BODY = enum.auto()
    ASKING = enum.auto()
    LENT = enum.auto()
    GIVEN = enum.auto()


class Lane:
    """What the connections of one door share, and which of them are open."""

    def __init__(self, inference: Inference, heads: HeadReader) -> None:
        self.inference = inference
        self.heads = heads
        self.connections: set[Connection] = set()
        self._emptied: asyncio.Future[None] | None = None

    def connection(self, successor: Successor) -> "Connection":
        """Return the protocol of a new connection."""
        return Connection(self, successor)

    def closed(self, connection: "Connection") -> None:
        """Hear that a connection is no more."""
        self.connections.discard(connection)
        if not self.connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    async def drain(self, grace_s: float) -> None:
        """End all connections: idle ones at once, others with their answer, or after the grace."""
        for connection in tuple(self.connections):
            connection.drain()
        if not self.connections:
            return
        self._emptied = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._emptied], timeout=grace_s)
        for connection in tuple(self.connections):
            connection.abort()


class Connection(asyncio.Protocol):
    """One connection; the loop calls its methods, nothing in it waits."""

    __slots__ = (
        "_ahead",
        "_ahead_size",
        "_draining",
        "_exchange",
        "_handler",
        "_head",
        "_idle_s",
        "_lane",
        "_loop",
        "_missing",
        "_owed",
        "_pieces",
        "_stalled",
        "_successor",
        "_timer",
        "_transport",
        "_turn",
    )

    _transport: asyncio.Transport
    _head: Head

    def __init__(self, lane: Lane, successor: Successor) -> None:
        self._lane = lane
        self._successor = successor
        self._loop = asyncio.get_running_loop()
        self._turn = Turn.IDLE
        self._handler: RequestHandler | None = None
        self._exchange: Exchange | None = None
        self._pieces: list[bytes] = []
        self._missing = 0
        """Bytes of the body that are still to come."""
        self._owed = 0
        """Bytes of a request lent to aiohttp that are still to come."""
        self._ahead: list[bytes] = []
        """What came before its turn."""
        self._ahead_size = 0
        self._stalled = False
        self._draining = False
        self._idle_s = 0.0
        self._timer = self._loop.call_later(bodies.SILENCE_S, self._look, self._pieces, 0)

    # --- what the transport says ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with the lane."""
        self._transport = cast("asyncio.Transport", transport)
        _keep_alive(self._transport)
        self._lane.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes to whose turn it is."""
        match self._turn:
            case Turn.IDLE:
                self._begin(data)
            case Turn.BODY:
                self._collect(data)
            case Turn.ASKING:
                self._keep(data)
            case Turn.LENT:
                self._after_loan(data)
            case Turn.GIVEN:
                self._idle_s = 0.0
                self._behind.data_received(data)

    def eof_received(self) -> None:
        """Let the transport close: who sends no more is taken to be gone."""

    def pause_writing(self) -> None:
        """Take in no more while the client reads too slowly."""
        self._stalled = True
        if self._handler is not None:
            self._handler.pause_writing()
        if self._turn not in (Turn.LENT, Turn.GIVEN):
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._stalled = False
        if self._handler is not None:
            self._handler.resume_writing()
        if self._turn not in (Turn.LENT, Turn.GIVEN):
            self._transport.resume_reading()
            self._proceed()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what was asked here."""
        self._timer.cancel()
        if self._exchange is not None:
            self._exchange.abandon()
            self._exchange = None
        if self._handler is not None:
            self._handler.connection_lost(exc)
        self._lane.closed(self)

    # --- the lane's own turn ---

    def _begin(self, data: bytes) -> None:
        """Read a head, and find out whose it is."""
        self._idle_s = 0.0
        head = self._lane.heads.read(data)
        if head is None:
            self._give(data)
            return
        if head.infer is None or head.body_size > self._lane.inference.limit(head.json_length):
            self._lend(head, data)
            return
        self._head = head
        body = data[head.size :]
        missing = head.body_size - len(body)
        if missing > 0:
            if missing > MAX_AHEAD and not self._lane.inference.knows(head.infer):
                self._lend(head, data)  # who has no model to ask need not send it all
                return
            self._turn = Turn.BODY
            self._pieces = [body] if body else []
            self._missing = missing
            return
        if missing < 0:
            self._keep(body[head.body_size :])
            body = body[: head.body_size]
        self._ask(body)

    def _collect(self, data: bytes) -> None:
        """Take more of a body, and ask when it is whole."""
        missing = self._missing - len(data)
        if missing < 0:
            self._keep(data[missing:])
            data = data[:missing]
        self._pieces.append(data)
        self._missing = missing
        if missing <= 0:
            body = data if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces = []
            self._ask(body)

    def _ask(self, body: bytes) -> None:
        self._turn = Turn.ASKING
        self._exchange = exchange = Exchange(self._lane.inference, self._answer)
        exchange.ask(self._head, body)

    def _answer(self, response: ReadyResponse) -> None:
        """Write the response to what was asked, and turn to what came meanwhile."""
        self._exchange = None
        close = self._draining or not response.keeps_alive
        response.write_to(self._transport, b"Connection: close\r\n\r\n" if close else b"\r\n")
        if close:
            self._transport.close()
        elif self._ahead:
            self._loop.call_soon(self._proceed)  # until then what comes is kept behind it
        else:
            self._turn = Turn.IDLE

    def _keep(self, data: bytes) -> None:
        """Keep bytes for later; what is too much stays in the socket."""
        self._ahead.append(data)
        self._ahead_size += len(data)
        if self._ahead_size > MAX_AHEAD:
            self._transport.pause_reading()

    def _proceed(self) -> None:
        """Leave a client that sends ahead to aiohttp, unless it must read first."""
        is_over = self._turn is Turn.ASKING and self._exchange is None
        if is_over and not self._stalled and not self._transport.is_closing():
            ahead, self._ahead = b"".join(self._ahead), []
            self._transport.resume_reading()
            self._give(ahead)

    # --- aiohttp's turn ---

    @property
    def _behind(self) -> RequestHandler:
        """The connection of aiohttp behind this one; made when it is first needed."""
        if self._handler is None:
            self._handler = self._successor()
            self._handler.connection_made(self._transport)
            if self._stalled:
                self._handler.pause_writing()
        return self._handler

    def _lend(self, head: Head, data: bytes) -> None:
        """Let aiohttp answer one request, whose end is known."""
        owed = head.size + head.body_size - len(data)
        if owed < 0:
            self._give(data)
            return
        self._turn = Turn.LENT
        self._owed = owed
        self._behind.data_received(data)

    def _after_loan(self, data: bytes) -> None:
        """Take bytes after a request was lent: of its body, or of the next request."""
        if self._owed >= len(data):
            self._owed -= len(data)
            self._behind.data_received(data)
        elif self._owed == 0 and _is_waiting(self._behind):
            self._turn = Turn.IDLE
            self._begin(data)
        else:
            self._give(data)

    def _give(self, data: bytes) -> None:
        """Leave the connection to aiohttp, beginning with these bytes."""
        self._turn = Turn.GIVEN
        self._behind.data_received(data)

    # --- ends ---

    @property
    def _is_idle(self) -> bool:
        """Whether nothing is asked here."""
        return self._turn is Turn.IDLE or (
            self._turn in (Turn.LENT, Turn.GIVEN) and _is_waiting(self._behind)
        )

    def drain(self) -> None:
        """End the connection when what was asked on it is answered, at once if nothing was."""
        self._draining = True
        if self._is_idle:
            self._transport.close()
        elif self._turn in (Turn.LENT, Turn.GIVEN):
            self._behind.close()

    def abort(self) -> None:
        """End the connection now, unless aiohttp has it: that ends by itself."""
        if self._turn not in (Turn.LENT, Turn.GIVEN):
            self._transport.abort()

    def _look(self, pieces: list[bytes], missing: int) -> None:
        """Look now and then whether the connection is idle for too long, or its body has stopped growing."""
        if self._is_idle:
            self._idle_s += bodies.SILENCE_S
            if self._idle_s >= IDLE_S:
                self._transport.close()
                return
        elif self._turn is Turn.BODY and self._pieces is pieces and self._missing == missing:
            self._pieces = []
            self._answer(failure(invalid("the request body did not arrive in time"), close=True))
            return
        self._timer = self._loop.call_later(bodies.SILENCE_S, self._look, self._pieces, self._missing)


def _is_waiting(handler: RequestHandler) -> bool:
    """Whether aiohttp has answered all it was given and waits for the next request."""
    waiter = handler._waiter  # noqa: SLF001 - nothing public tells
    return waiter is not None and not waiter.done()


def _keep_alive(transport: asyncio.Transport) -> None:
    """Have the kernel find out that a silent client is gone."""
    connected: socket.socket | None = transport.get_extra_info("socket")
    if connected is not None:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
