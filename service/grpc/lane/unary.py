"""A call with one message in each direction: inference is called back, all else is a task for its while."""

import asyncio
from collections.abc import Sequence
from typing import Final

from ....proto.errors import InferError
from ...http2.stream import Buffer, Stream
from ..call import Piece
from ..inference import InferCall, Inference
from ..method import Method, Unary
from ..rpc import as_infer_error
from ..status import STATUS_OF, Status, details_of
from . import carrier
from .carrier import Carrier
from .heads import Head
from .messages import Incoming, MessageReader
from .packing import ALGORITHM, CallRefusedError, packed, unpacked

OFF_LOOP_SIZE: Final = 64 * 1024
"""Bytes from which it pays to pack on another thread."""


class UnaryExchange:
    """One such call."""

    __slots__ = (
        "_asked",
        "_carrier",
        "_done",
        "_head",
        "_held",
        "_message",
        "_method",
        "_reader",
        "_stream",
        "_task",
        "_timer",
    )

    def __init__(self, carrier_: Carrier, stream: Stream, head: Head, method: Method) -> None:
        self._carrier = carrier_
        self._stream = stream
        self._head = head
        self._method = method
        self._reader = MessageReader()
        self._message: Incoming | None = None
        self._held = 0
        """Bytes of an unfinished message that the carrier knows of."""
        self._asked: InferCall | None = None
        self._task: asyncio.Task[None] | None = None
        self._done = False
        """Whether the end of the call is sent, or nobody waits for it."""
        self._timer: asyncio.TimerHandle | None = None
        if head.timeout_s is not None:
            self._timer = asyncio.get_running_loop().call_later(head.timeout_s, self._expire)

    # --- what the client does ---

    def data(self, piece: Buffer) -> None:
        """Take some of the message."""
        carrier_ = self._carrier
        carrier_.connection.consumed(self._stream, len(piece))
        if self._done:
            return
        try:
            messages = self._reader.read(piece)
        except CallRefusedError as refusal:
            self._end_with(refusal.status, refusal.told)
            return
        if messages:
            if self._message is not None or len(messages) > 1:
                self._end_with(Status.UNIMPLEMENTED, "Too many requests for a unary call")
                return
            self._message = messages[0]
        else:
            carrier_.held += len(piece)
            self._held += len(piece)
            if carrier_.held > carrier.MAX_HELD:
                self._end_with(Status.RESOURCE_EXHAUSTED, "too much of this connection is unfinished")

    def end(self) -> None:
        """Answer the message."""
        if self._done:
            return
        message = self._message
        self._message = None
        self._let_go()
        if message is None or not self._reader.is_clean:
            self._end_with(Status.INTERNAL, "No message returned for unary request")
            return
        try:
            self._begin(unpacked(message.body, self._head.packing) if message.packed else message.body)
        except CallRefusedError as refusal:
            self._end_with(refusal.status, refusal.told)
        except Exception as error:  # noqa: BLE001 - an error ends its own call and nothing else
            self._deliver(as_infer_error(error))

    def reset(self) -> None:
        """Take back what was asked: nobody waits for it any more."""
        self._done = True
        self._let_go()
        self._cancel()

    def drained(self) -> None:
        """Hear that everything was sent."""

    # --- what is done about it ---

    def _begin(self, body: Piece) -> None:
        method = self._method
        if method.requirement is not None:
            method.check(self._head.metadata)
        behaviour = method.behaviour
        if isinstance(behaviour, Inference):
            asked = behaviour.ask(body, self._head.metadata, self._deliver)
            self._asked = None if self._done else asked
        else:
            assert isinstance(behaviour, Unary)
            self._task = asyncio.get_running_loop().create_task(self._run(behaviour, body))

    async def _run(self, behaviour: Unary, body: Piece) -> None:
        try:
            answer: Sequence[Piece] | InferError = (await behaviour.call(body),)
        except Exception as error:  # noqa: BLE001 - an error ends its own call and nothing else
            answer = as_infer_error(error)
        self._task = None
        self._deliver(answer)

    def _deliver(self, answer: Sequence[Piece] | InferError) -> None:
        """Send the answer; nobody may wait for it any more."""
        self._asked = None
        if self._done:
            return
        if isinstance(answer, InferError):
            self._end_with(STATUS_OF[answer.fault], details_of(answer))
            return
        algorithm = ALGORITHM.get(self._method.compression)
        if algorithm is not None and algorithm[0] in self._head.accepted:
            self._pack(b"".join(answer), *algorithm)
            return
        self._finish()
        carrier.answer(self._carrier.connection.outbox, self._stream, answer)
        self._carrier.wake()

    def _pack(self, answer: bytes, packing: str, level: int) -> None:
        """Send the answer packed, which takes its time where it is long."""
        if len(answer) < OFF_LOOP_SIZE:
            self._send_packed(packed(answer, packing, level), packing)
            return
        packing_ = asyncio.get_running_loop().run_in_executor(None, packed, answer, packing, level)
        packing_.add_done_callback(lambda done: self._send_packed(done.result(), packing))

    def _send_packed(self, body: bytes, packing: str) -> None:
        if self._done:
            return
        self._finish()
        carrier.answer_packed(self._carrier.connection.outbox, self._stream, body, packing)
        self._carrier.wake()

    def _expire(self) -> None:
        """End the call at its deadline."""
        if not self._done:
            self._end_with(Status.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _end_with(self, status: Status, told: str) -> None:
        self._finish()
        self._let_go()
        self._cancel()
        carrier.end_with(self._carrier.connection.outbox, self._stream, status, told, opened=False)
        self._carrier.wake()

    def _finish(self) -> None:
        self._done = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _let_go(self) -> None:
        """Give back what an unfinished message held."""
        if self._held:
            self._carrier.held -= self._held
            self._held = 0
        if self._timer is not None and self._done:
            self._timer.cancel()

    def _cancel(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.cancel()
        if self._task is not None:
            self._task.cancel()


class RefusedExchange:
    """A request that was answered before its body came."""

    def __init__(self, carrier_: Carrier, stream: Stream) -> None:
        self._carrier = carrier_
        self._stream = stream

    def data(self, piece: Buffer) -> None:
        """Pass over the body."""
        self._carrier.connection.consumed(self._stream, len(piece))

    def end(self) -> None:
        """Pass over its end."""

    def reset(self) -> None:
        """Hear that nobody reads the refusal."""

    def drained(self) -> None:
        """Hear that it was sent."""
