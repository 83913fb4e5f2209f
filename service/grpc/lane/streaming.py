"""A call with any number of messages in both directions: a task that reads and writes as its handler likes.

What a client sends waits until the handler reads it. Once more than `BACKLOG` waits, the client is allowed no
more than it was; what the handler writes waits for the client in turn.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from ...http2.stream import Buffer, Stream
from ..call import ClientGoneError, Metadata, Piece
from ..method import Method, Streaming
from ..rpc import as_infer_error
from ..status import STATUS_OF, Status, details_of
from . import carrier
from .carrier import Carrier
from .heads import Head
from .messages import Incoming, MessageReader
from .packing import ALGORITHM, CallRefusedError, packed, unpacked

BACKLOG: Final = 1 << 20
"""Bytes of messages that wait for their handler before the client must wait."""
UNSENT: Final = 1 << 20
"""Bytes of messages that wait for the client before the handler must wait."""
OFF_LOOP_SIZE: Final = 64 * 1024
"""Bytes from which it pays to pack on another thread."""
_SMALLEST: Final = 64
"""Bytes that a message counts for at least: each has its costs, however short it is."""


class StreamExchange:
    """One such call; its handler sees it as a `Call`."""

    __slots__ = (
        "_backlog",
        "_carrier",
        "_done",
        "_ended",
        "_head",
        "_held",
        "_inbox",
        "_method",
        "_opened",
        "_owed",
        "_packing",
        "_reader",
        "_room",
        "_stream",
        "_take",
        "_task",
        "_timer",
        "_waiter",
    )

    def __init__(self, carrier_: Carrier, stream: Stream, head: Head, method: Method) -> None:
        self._carrier = carrier_
        self._stream = stream
        self._head = head
        self._method = method
        self._reader = MessageReader()
        self._inbox: deque[Incoming] = deque()
        self._backlog = 0
        """Bytes in the inbox."""
        self._owed = 0
        """Bytes that the client has not been allowed to send anew."""
        self._held = 0
        self._ended = False
        """Whether the client sends no more."""
        self._done = False
        """Whether the end of the call is sent, or nobody waits for it."""
        self._opened = False
        """Whether headers were sent."""
        self._take: Callable[[Piece], bool] | None = None
        """Who takes messages as they come."""
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        algorithm = ALGORITHM.get(method.compression)
        self._packing = algorithm if algorithm is not None and algorithm[0] in head.accepted else None
        loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        if head.timeout_s is not None:
            self._timer = loop.call_later(head.timeout_s, self._expire)
        behaviour = method.behaviour
        assert isinstance(behaviour, Streaming)
        self._task = loop.create_task(self._run(behaviour))

    # --- what the client does ---

    def data(self, piece: Buffer) -> None:
        """Take some of a message."""
        size = len(piece)
        if self._backlog > BACKLOG:
            self._owed += size
        else:
            self._carrier.connection.consumed(self._stream, size)
        if self._done:
            return
        try:
            messages = self._reader.read(piece)
        except CallRefusedError as refusal:
            self._break(refusal.status, refusal.told)
            return
        for message in messages:
            if self._take is None or message.packed or self._inbox or not self._take(message.body):
                self._inbox.append(message)
                self._backlog += max(_SMALLEST, len(message.body))
        self._hold()
        if self._inbox:
            _wake(self._waiter)

    def end(self) -> None:
        """Let the handler know that there is no more to read."""
        self._ended = True
        if not self._reader.is_clean and not self._done:
            self._break(Status.INTERNAL, "the stream ended within a message")
        _wake(self._waiter)

    def reset(self) -> None:
        """End the handler: nobody waits for it any more."""
        self._finish()
        self._task.cancel()

    def drained(self) -> None:
        """Let the handler write more."""
        _wake(self._room)

    # --- what the handler does ---

    @property
    def metadata(self) -> Metadata:
        """What the client said with the call."""
        return self._head.metadata

    async def messages(self) -> AsyncIterator[Piece]:
        """Return the messages of the client, until it sends no more; they raise ClientGoneError."""
        while True:
            while self._inbox:
                yield self._next()
            if self._done:
                raise ClientGoneError
            if self._ended:
                return
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def hand_to(self, take: Callable[[Piece], bool]) -> None:
        """Have messages taken as they come; those that are refused come by `messages`."""
        self._take = take

    def write_at_once(self, message: Sequence[Piece]) -> bool:
        """Send a message if there is no need to wait, and return whether it was sent."""
        if self._done or self._packing is not None or self._stream.queue:
            return False
        self._send(carrier.framed(message))
        return True

    async def write(self, *message: Piece) -> None:
        """Send a message in pieces, as soon as the client has room for it; raises ClientGoneError."""
        pieces = carrier.framed(message)
        if self._packing is not None:
            whole = b"".join(message)
            if len(whole) < OFF_LOOP_SIZE:
                pieces = (packed(whole, *self._packing),)
            else:
                pieces = (await asyncio.to_thread(packed, whole, *self._packing),)
        if self._done:
            raise ClientGoneError
        self._send(pieces)
        while self._stream.queued > UNSENT and not self._done:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def _send(self, pieces: Sequence[Buffer]) -> None:
        self._open()
        self._carrier.connection.outbox.data(self._stream, pieces)
        self._carrier.wake()

    def _next(self) -> Piece:
        message = self._inbox.popleft()
        self._backlog -= max(_SMALLEST, len(message.body))
        if self._owed and self._backlog <= BACKLOG:
            owed, self._owed = self._owed, 0
            self._carrier.connection.consumed(self._stream, owed)
            self._carrier.wake()
        if not message.packed:
            return message.body
        try:
            return unpacked(message.body, self._head.packing)
        except CallRefusedError as refusal:
            self._break(refusal.status, refusal.told)
            raise ClientGoneError from None

    async def _run(self, behaviour: Streaming) -> None:
        """Let the handler serve the call, and end it as the handler did."""
        try:
            self._method.check(self.metadata)
            await behaviour.serve(self)
        except Exception as failure:  # noqa: BLE001 - an error ends its own call and nothing else
            error = as_infer_error(failure)
            self._end_with(STATUS_OF[error.fault], details_of(error))
            return
        if not self._done:
            self._open()
            self._finish()
            carrier.end_well(self._carrier.connection.outbox, self._stream)
            self._carrier.wake()

    # --- how it ends ---

    def _expire(self) -> None:
        self._break(Status.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _break(self, status: Status, told: str) -> None:
        """End the call under its handler."""
        self._end_with(status, told)
        self._task.cancel()

    def _end_with(self, status: Status, told: str) -> None:
        if self._done:
            return
        self._finish()
        outbox = self._carrier.connection.outbox
        carrier.end_with(outbox, self._stream, status, told, opened=self._opened)
        self._carrier.wake()

    def _finish(self) -> None:
        self._done = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._carrier.held -= self._held
        self._held = 0
        self._inbox.clear()
        self._take = None
        _wake(self._waiter)
        _wake(self._room)

    def _open(self) -> None:
        if not self._opened:
            self._opened = True
            outbox = self._carrier.connection.outbox
            outbox.block(self._stream, carrier.opening(outbox, self._packing[0] if self._packing else ""))

    def _hold(self) -> None:
        """Let the carrier know how much of an unfinished message is held."""
        more = self._reader.held - self._held
        if more:
            self._held += more
            self._carrier.held += more
            if self._carrier.held > carrier.MAX_HELD:
                self._break(Status.RESOURCE_EXHAUSTED, "too much of this connection is unfinished")


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
