"""One connection, as a server sees it: what its client sends, and the streams that this makes and ends.

What a client does wrong becomes a `ConnectionFault`, which ends the connection with GOAWAY, or a reset of one
stream (RFC 9113, section 5.4). What it does too often tries the patience (see `patience`).

Who uses a connection gives it `read`, which makes of the headers of a request what it wants, and `accept`,
which returns an `Exchange` for it; takes what is to be sent from `outbox`; and tells `consumed` when it has
done with data, for the windows.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from . import frames
from .blocks import Assembly, HeaderBlock
from .budget import Clock
from .errors import ConnectionFault, ErrorCode, StreamFault, calm_down, protocol_error, wrong_size
from .framing import FrameReader
from .greetings import greeting, read_settings
from .headers import Header, HeaderReader, HeadersTooLargeError
from .limits import Limits
from .outbox import Outbox
from .patience import Patience
from .phases import CONNECTION, ConnectionEvent, ConnectionPhase, StreamEvent, StreamPhase
from .receive_windows import ReceiveWindows
from .shapes import check_shape
from .stream import Buffer, Exchange, Stream
from .streams import Streams

Head = TypeVar("Head")

_CONTROL: Final = frozenset(range(frames.PRIORITY, frames.CONTINUATION))
"""The frames that carry neither data nor headers: none of them has reason to be long."""
_COST_OF_SETTINGS: Final = 10
"""Frames for which one of SETTINGS counts, and streams that make it cost as much as one more."""


class Connection(Generic[Head]):
    """The state of one connection."""

    def __init__(
        self,
        read: Callable[[Sequence[Header]], Head],
        accept: Callable[[Stream, Head], Exchange],
        limits: Limits,
        clock: Clock = time.monotonic,
    ) -> None:
        self.phase = ConnectionPhase.FRESH
        self.outbox = Outbox(self._sent_all)
        self.fault: ConnectionFault | None = None
        """What ended the connection, where the client was at fault."""
        self.pongs = 0
        """Answers to probes of ours."""
        self._accept = accept
        self._limits = limits
        self._streams = Streams()
        self._patience = Patience(limits, self.outbox, clock)
        self._headers = HeaderReader(read)
        self._assembly = Assembly(limits)
        self._windows = ReceiveWindows(limits, self.outbox)
        self._body: Stream | None = None
        """Whose data is coming in."""
        self._body_ends = False
        self._frames = FrameReader()

    def __repr__(self) -> str:
        return f"Connection({self.phase.value}, streams {list(self._streams)})"

    # --- what the user does ---

    def greet(self) -> None:
        """Send what a server begins with."""
        self.outbox.put(greeting(self._limits))

    def receive(self, data: bytes) -> None:
        """Read what came in; whatever the client did wrong, this raises nothing."""
        if self.phase is ConnectionPhase.CLOSED:
            return
        try:
            self._frames.read(data, self)
        except ConnectionFault as fault:
            self.fault = fault
            self.end(fault.code, str(fault))

    def consumed(self, stream: Stream, size: int) -> None:
        """Hear that data was consumed; the client may send as much again once that is worth a frame."""
        self._windows.give_back(size)
        if stream.may_receive:
            self._windows.give_back_on(stream, size)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End a stream at once, from this side; its exchange is not told."""
        if stream.advance(StreamEvent.RESET):
            self.outbox.put(frames.rst_stream(stream.id, code))
            self._streams.abandon(stream.id)
            self._drop(stream)

    def give_up_blocked(self) -> None:
        """Take back every answer that is complete and finds no room at its client."""
        for stream in self.outbox.complete():
            self._reset_and_tell(stream, ErrorCode.CANCEL)

    def probe(self, payload: bytes) -> None:
        """Ask whether the client is still there; see `pongs`."""
        self.outbox.put(frames.frame(frames.PING, 0, 0, payload))

    def warn(self) -> None:
        """Say that soon no new streams are taken, so that few come too late."""
        if self.phase is ConnectionPhase.OPEN:
            self.outbox.put(frames.goaway(frames.STREAM_ID, ErrorCode.NO_ERROR))

    def leave(self) -> None:
        """Take no new streams; those that are open go on."""
        if self.phase is ConnectionPhase.OPEN:
            self._advance(ConnectionEvent.GOAWAY)
            self.outbox.put(frames.goaway(self._streams.last_served, ErrorCode.NO_ERROR))

    def end(self, code: ErrorCode = ErrorCode.NO_ERROR, told: str = "") -> None:
        """End the connection; the exchanges of all streams are told."""
        if self.phase is ConnectionPhase.CLOSED:
            return
        self._advance(ConnectionEvent.ENDED)
        self.outbox.put(frames.goaway(self._streams.last_served, code, told))
        for stream in tuple(self._streams):
            stream.advance(StreamEvent.RESET)
            self._drop_and_tell(stream)
        # Whoever used this connection is not held any longer, and so need not wait for the collector.
        self._accept = _accept_nobody
        self.outbox.close()

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    # --- what is heard of frames ---

    def greeted(self) -> None:
        """Hear that the client speaks HTTP/2."""
        self._advance(ConnectionEvent.PREFACE)

    def check(self, kind: int, length: int, stream_id: int) -> None:
        """Raise ConnectionFault for a frame that may not come now, or not of such a length."""
        if self.phase is ConnectionPhase.GREETED and kind != frames.SETTINGS:
            raise protocol_error("SETTINGS must come first")
        limits = self._limits
        if length > limits.max_frame or (length > limits.max_header_block and kind in _CONTROL):
            raise wrong_size("a frame")
        self._assembly.check(kind, length, stream_id)

    def frame(self, kind: int, stream_id: int, flags: int, payload: bytes) -> None:
        """Take a frame that is no data."""
        check_shape(kind, stream_id, len(payload))
        match kind:
            case frames.HEADERS:
                self._on_headers(stream_id, flags, payload)
            case frames.WINDOW_UPDATE:
                self._on_window_update(stream_id, payload)
            case frames.PING:
                self._on_ping(flags, payload)
            case frames.SETTINGS:
                self._on_settings(flags, payload)
            case frames.RST_STREAM:
                self._on_reset(stream_id)
            case frames.CONTINUATION:
                self._on_continuation(flags, payload)
            case frames.GOAWAY:
                self._patience.spend()  # a client that has done hangs up; there is nothing to do before
            case frames.PRIORITY:
                self._on_priority(stream_id, payload)
            case _:
                raise protocol_error("PUSH_PROMISE of a client")

    def unknown(self) -> None:
        """Hear of a frame that is passed over."""
        self._patience.spend()

    def begin_data(self, stream_id: int, flags: int, length: int, padded: int) -> None:
        """Hear of a DATA frame, of which so much is padding."""
        streams = self._streams
        if streams.is_idle(stream_id):
            raise protocol_error("DATA on no stream")
        self._windows.take(length)
        if padded or (not length and not flags & frames.END_STREAM):
            self._patience.spend()
        self._body_ends = bool(flags & frames.END_STREAM)
        self._body = stream = streams.find(stream_id)
        if stream is None or not stream.may_receive:
            self._body = None
            if not streams.is_abandoned(stream_id):
                self._refuse(stream_id, ErrorCode.STREAM_CLOSED)
        else:
            stream.receive_window -= length
            if stream.receive_window < 0:
                self._break(stream, ErrorCode.FLOW_CONTROL_ERROR)
        if padded:
            self._windows.give_back(padded)
            if stream is not None and stream.may_receive:
                self._windows.give_back_on(stream, padded)

    def data(self, piece: Buffer) -> None:
        """Hand on some of the payload."""
        stream = self._body
        if stream is not None and stream.may_receive and stream.exchange is not None:
            stream.exchange.data(piece)
        else:
            self._windows.give_back(len(piece))  # the stream ended while its data was on its way

    def end_data(self) -> None:
        """Hear that the payload is complete."""
        stream, self._body = self._body, None
        if stream is not None and self._body_ends:
            self._end_of_client(stream)

    def _end_of_client(self, stream: Stream) -> None:
        if not stream.advance(StreamEvent.CLIENT_ENDED):
            return
        if not stream.may_send:
            self._drop(stream)
        elif stream.exchange is not None:
            stream.exchange.end()

    # --- headers ---

    def _on_headers(self, stream_id: int, flags: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise protocol_error("HEADERS on a stream that is not the client's to open")
        block = self._assembly.begin(stream_id, flags, payload)
        if block is not None:
            self._on_block(block)

    def _on_continuation(self, flags: int, payload: bytes) -> None:
        block = self._assembly.go_on(flags, payload)
        if block is not None:
            self._on_block(block)

    def _on_block(self, block: HeaderBlock) -> None:
        if block.stream_id > self._streams.last:
            self._on_request(block)
        else:
            self._on_trailers(block)

    def _on_request(self, block: HeaderBlock) -> None:
        """Open a stream, unless that cannot be."""
        streams, stream_id = self._streams, block.stream_id
        streams.last = stream_id
        try:
            head = self._headers.request(block.payload)
        except StreamFault as fault:
            self._refuse(stream_id, fault.code)
            return
        except HeadersTooLargeError:
            self._refuse(stream_id, ErrorCode.ENHANCE_YOUR_CALM)
            return
        if self.phase is ConnectionPhase.LEAVING:
            streams.abandon(stream_id)  # the client was told that this one is not answered
            return
        if len(streams) >= self._limits.max_streams:
            self._refuse(stream_id, ErrorCode.REFUSED_STREAM)
            return
        stream = Stream(stream_id, self.outbox.initial_window, self._limits.stream_window)
        stream.advance(StreamEvent.HEADERS)
        streams.add(stream)
        exchange = self._accept(stream, head)
        if stream.phase is not StreamPhase.CLOSED:
            stream.exchange = exchange
        if block.flags & frames.END_STREAM:
            self._end_of_client(stream)

    def _on_trailers(self, block: HeaderBlock) -> None:
        """Read what gRPC's clients do not send: it keeps the table in step, and ends a stream."""
        try:
            self._headers.headers(block.payload)
        except HeadersTooLargeError:
            raise calm_down("trailers beyond all bounds") from None
        stream = self._streams.find(block.stream_id)
        if stream is None or not stream.may_receive:
            if not self._streams.is_abandoned(block.stream_id):
                raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS on a stream that is closed")
        elif not block.flags & frames.END_STREAM:
            self._break(stream, ErrorCode.PROTOCOL_ERROR)
        else:
            self._end_of_client(stream)

    # --- control frames ---

    def _on_priority(self, stream_id: int, payload: bytes) -> None:
        """Pass over what RFC 9113 has taken back."""
        self._patience.spend()
        if len(payload) != frames.PRIORITY_SIZE:
            stream = self._streams.find(stream_id)
            if stream is None:
                raise wrong_size("PRIORITY")
            self._break(stream, ErrorCode.FRAME_SIZE_ERROR)

    def _on_reset(self, stream_id: int) -> None:
        if self._streams.is_idle(stream_id):
            raise protocol_error("RST_STREAM on no stream")
        stream = self._streams.find(stream_id)
        if stream is None:
            self._patience.spend()
            return
        self._patience.bear_reset()
        stream.advance(StreamEvent.RESET)
        self._drop_and_tell(stream)

    def _on_settings(self, flags: int, payload: bytes) -> None:
        if flags & frames.ACK:
            if payload:
                raise wrong_size("SETTINGS")
            self._patience.spend()
            return
        values = read_settings(payload, self._limits.max_settings)
        if self.phase is ConnectionPhase.GREETED:
            self._advance(ConnectionEvent.SETTINGS)
        else:
            self._patience.spend(_COST_OF_SETTINGS + len(self._streams) // _COST_OF_SETTINGS)
        outbox = self.outbox
        if frames.HEADER_TABLE_SIZE in values:
            outbox.headers.resize(values[frames.HEADER_TABLE_SIZE])
        outbox.resize_frames(values.get(frames.MAX_FRAME_SIZE, outbox.max_frame))
        outbox.put(frames.frame(frames.SETTINGS, frames.ACK, 0))
        if frames.INITIAL_WINDOW_SIZE in values:
            outbox.resize_windows(self._streams, values[frames.INITIAL_WINDOW_SIZE])

    def _on_ping(self, flags: int, payload: bytes) -> None:
        if flags & frames.ACK:
            self.pongs += 1
            self._patience.spend()
            return
        self._patience.bear_ping(calls=bool(self._streams))
        self.outbox.put(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        self._patience.spend()
        increment = frames.NUMBER.unpack(payload)[0] & frames.STREAM_ID
        if not stream_id:
            if not increment:
                raise protocol_error("WINDOW_UPDATE by nothing")
            self.outbox.widen(increment)
            return
        if self._streams.is_idle(stream_id):
            raise protocol_error("WINDOW_UPDATE on no stream")
        stream = self._streams.find(stream_id)
        if stream is None:
            return
        stream.send_window += increment
        if not increment or stream.send_window > frames.LARGEST_WINDOW:
            self._break(stream, ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR)
        else:
            self.outbox.pump_one(stream)

    # --- streams ---

    def _refuse(self, stream_id: int, code: ErrorCode) -> None:
        """Reset a stream that there is not."""
        self._patience.spend()
        self.outbox.put(frames.rst_stream(stream_id, code))
        self._streams.abandon(stream_id)

    def _break(self, stream: Stream, code: ErrorCode) -> None:
        """Reset a stream by the fault of its client."""
        self._patience.spend()
        self._reset_and_tell(stream, code)

    def _reset_and_tell(self, stream: Stream, code: ErrorCode) -> None:
        exchange = stream.exchange
        self.reset(stream, code)
        if exchange is not None:
            exchange.reset()

    def _sent_all(self, stream: Stream) -> None:
        """Hear that the last was sent on a stream; its client need not send the rest."""
        if stream.may_receive:
            self.reset(stream, ErrorCode.NO_ERROR)
        else:
            self._drop(stream)

    def _drop_and_tell(self, stream: Stream) -> None:
        exchange = stream.exchange
        self._drop(stream)
        if exchange is not None:
            exchange.reset()

    def _drop(self, stream: Stream) -> None:
        self._streams.remove(stream)
        stream.exchange = None  # which has the stream: they would keep each other
        if stream.queue:
            self.outbox.drop(stream)

    def _advance(self, event: ConnectionEvent) -> None:
        self.phase = CONNECTION[self.phase, event]


def _accept_nobody(stream: Stream, _head: object) -> Exchange:
    raise AssertionError(f"{stream} was opened on a connection that is closed")
