"""What is to be sent on a connection: what may go at once, and what waits for windows or for the transport.

Header blocks and control frames are never held back by windows. Data is; and a block that follows data waits
behind it. While the transport takes no more, or as much as `AT_ONCE` waits to be handed to it, data stays in
the queues of its streams: a client that does not read makes nothing pile up but acknowledgements.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from . import frames
from .errors import ConnectionFault, ErrorCode
from .headers import HeaderWriter
from .phases import StreamEvent
from .stream import Block, Buffer, Stream

_LAST: Final = frames.END_HEADERS | frames.END_STREAM
AT_ONCE: Final = 1 << 20
"""Bytes of data that are handed to the transport in one go."""
SHORT: Final = 4096
"""Bytes up to which a piece is joined with its neighbours, rather than sent in a frame of its own."""
LONGEST_FRAME: Final = 256 << 10
"""Bytes of a frame, where its client takes any: streams share a connection frame by frame."""


class Outbox:
    """The sending half of a connection."""

    __slots__ = (
        "_blocked",
        "_ended",
        "_size",
        "headers",
        "initial_window",
        "max_frame",
        "paused",
        "sent",
        "waiting",
        "window",
    )

    def __init__(self, ended: Callable[[Stream], None]) -> None:
        self.headers = HeaderWriter()
        self.window = frames.DEFAULT_WINDOW
        self.initial_window = frames.DEFAULT_WINDOW
        self.max_frame = frames.SMALLEST_MAX_FRAME
        self.paused = False
        """Whether the transport takes no more."""
        self.sent = 0
        """Frames of data that were sent."""
        self.waiting: list[Buffer] = []
        """What can be handed to the transport."""
        self._ended = ended
        """Hears of each stream on which the last was sent."""
        self._size = 0
        self._blocked: dict[int, Stream] = {}

    def put(self, control: bytes) -> None:
        """Send a frame that is not of a stream's data."""
        self.waiting.append(control)

    def take(self) -> list[Buffer]:
        """Return what can be handed to the transport now."""
        waiting, self.waiting = self.waiting, []
        self._size = 0
        return waiting

    @property
    def bulk(self) -> int:
        """Bytes of data in what waits to be handed over."""
        return self._size

    @property
    def is_blocked(self) -> bool:
        """Whether any stream has more to send than it may."""
        return bool(self._blocked)

    def complete(self) -> Sequence[Stream]:
        """Return the streams that wait with all they have to send, to the end."""
        return [
            stream
            for stream in self._blocked.values()
            if stream.queue and isinstance(last := stream.queue[-1], Block) and last.ends
        ]

    def answer(self, stream: Stream, opening: bytes, body: Sequence[Buffer], closing: bytes) -> None:
        """Send all there is to send on a stream: a header block, data, and the block that ends it."""
        size = sum(map(len, body))
        fits = size <= self.max_frame and size <= self.window and size <= stream.send_window
        if not fits or self.paused or self._size > AT_ONCE or stream.queue:
            self.block(stream, opening)
            self.data(stream, body)
            self.block(stream, closing, ends=True)
            return
        self.window -= size
        stream.send_window -= size
        self._size += size
        self.sent += 1
        stream_id, head = stream.id, frames.HEAD.pack
        self.waiting += (
            head(len(opening) >> 8, len(opening) & 0xFF, frames.HEADERS, frames.END_HEADERS, stream_id),
            opening,
            head(size >> 8, size & 0xFF, frames.DATA, 0, stream_id),
            *body,
            head(len(closing) >> 8, len(closing) & 0xFF, frames.HEADERS, _LAST, stream_id),
            closing,
        )
        stream.advance(StreamEvent.SERVER_ENDED)
        self._ended(stream)

    def block(self, stream: Stream, payload: bytes, *, ends: bool = False) -> None:
        """Send a header block behind what waits already."""
        if self.paused or stream.queue:
            self._enqueue(stream, Block(payload, ends))
        else:
            self._put_block(stream, payload, ends=ends)

    def data(self, stream: Stream, pieces: Sequence[Buffer]) -> None:
        """Send data as windows and transport allow; short pieces that follow each other in one frame."""
        short: list[Buffer] = []
        for piece in pieces:
            if len(piece) < SHORT:
                short.append(piece)
                continue
            if short:
                self._enqueue(stream, b"".join(short))
                short.clear()
            self._enqueue(stream, piece)
        if any(short):
            self._enqueue(stream, b"".join(short))
        self._pump(stream)

    def resize_frames(self, most: int) -> None:
        """Hear how long a frame may be; none is made longer than serves anybody."""
        self.max_frame = min(most, LONGEST_FRAME)

    def widen(self, increment: int) -> None:
        """Have more room on the connection; raises ConnectionFault beyond all bounds."""
        self.window += increment
        if self.window > frames.LARGEST_WINDOW:
            raise _too_wide()
        self.pump()

    def resize_windows(self, streams: Iterable[Stream], initial: int) -> None:
        """Have more or less room on every stream, also on those to come; raises ConnectionFault."""
        more = initial - self.initial_window
        self.initial_window = initial
        for stream in streams:
            stream.send_window += more
            if stream.send_window > frames.LARGEST_WINDOW:
                raise _too_wide()
        self.pump()

    def close(self) -> None:
        """Hold nobody who used this any longer; what waits can still be taken."""
        self._ended = _tell_nobody
        self._blocked.clear()

    def drop(self, stream: Stream) -> None:
        """Forget what waits on a stream."""
        self._blocked.pop(stream.id, None)
        stream.queue = None
        stream.queued = 0

    def pump(self) -> None:
        """Send what can be sent now, one stream after the other."""
        for stream in tuple(self._blocked.values()):
            if self.paused or self._size > AT_ONCE:
                return
            if stream.id not in self._blocked:
                continue
            # Whoever is served goes to the end of the line, should it still be blocked then.
            self._blocked[stream.id] = self._blocked.pop(stream.id)
            self._pump(stream)

    def pump_one(self, stream: Stream) -> None:
        """Send what a stream may send now."""
        if stream.id in self._blocked:
            self._pump(stream)

    def _enqueue(self, stream: Stream, item: Buffer | Block) -> None:
        if stream.queue is None:
            stream.queue = deque()
        stream.queue.append(item)
        if not isinstance(item, Block):
            stream.queued += len(item)
        self._blocked[stream.id] = stream

    def _pump(self, stream: Stream) -> None:
        queue = stream.queue
        while queue:
            item = queue[0]
            if self.paused or self._size > AT_ONCE:
                self._blocked[stream.id] = stream
                return
            if isinstance(item, Block):
                queue.popleft()
                self._put_block(stream, item.payload, ends=item.ends)
                continue
            room = min(stream.send_window, self.window, self.max_frame)
            if room <= 0:
                self._blocked[stream.id] = stream
                return
            if len(item) > room:
                whole = memoryview(item)
                item, queue[0] = whole[:room], whole[room:]
            else:
                queue.popleft()
            self._put_data(stream, item)
        if self._blocked.pop(stream.id, None) is not None and stream.may_send and stream.exchange is not None:
            stream.exchange.drained()

    def _put_data(self, stream: Stream, piece: Buffer) -> None:
        size = len(piece)
        stream.queued -= size
        stream.send_window -= size
        self.window -= size
        self._size += size
        self.sent += 1
        self.waiting += (frames.data_head(size, stream.id), piece)

    def _put_block(self, stream: Stream, payload: bytes, *, ends: bool) -> None:
        flags = frames.END_STREAM if ends else 0
        self.waiting.append(frames.header_frames(stream.id, payload, self.max_frame, flags))
        if ends:
            stream.advance(StreamEvent.SERVER_ENDED)
            self._ended(stream)


def _too_wide() -> ConnectionFault:
    return ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window beyond all bounds")


def _tell_nobody(_stream: Stream) -> None:
    """Hear of a stream that ended after its connection."""
