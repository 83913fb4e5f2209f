"""Cuts what comes in into frames, wherever it was cut on its way.

The payload of a DATA frame is handed on as it comes, as a view where it is large: a tensor is copied once,
when its pieces are joined. A frame of a kind that nobody knows is passed over. All others are handed on when
they are complete, within the bound that `check` sets on them; so what waits here is bounded too.
"""

from collections.abc import Callable
from typing import Final, Protocol

from . import frames
from .errors import protocol_error, wrong_size
from .stream import Buffer

LARGE: Final = 16 * 1024
"""Bytes from which a piece is handed on as a view on what was received."""

_unpack_head: Final[Callable[[bytes, int], tuple[int, int, int, int, int]]] = frames.HEAD.unpack_from


class Listener(Protocol):
    """Who hears of frames; each of these may raise ConnectionFault."""

    def greeted(self) -> None:
        """Hear that the client speaks HTTP/2."""

    def check(self, kind: int, length: int, stream_id: int) -> None:
        """Look at the head of a frame before anything else is done about it."""

    def begin_data(self, stream_id: int, flags: int, length: int, padded: int) -> None:
        """Hear of a DATA frame; so many bytes of its length are padding, which is not handed on."""

    def data(self, piece: Buffer) -> None:
        """Take some of its payload."""

    def end_data(self) -> None:
        """Hear that it is complete."""

    def frame(self, kind: int, stream_id: int, flags: int, payload: bytes) -> None:
        """Take any other frame."""

    def unknown(self) -> None:
        """Hear of a frame that is passed over."""


class FrameReader:
    """Reads one connection."""

    __slots__ = ("_fresh", "_in_data", "_left", "_padding", "_rest", "_wanted")

    def __init__(self) -> None:
        self._fresh = True
        self._rest = bytearray()
        """The beginning of what is not complete."""
        self._wanted = 0
        """How long it has to become before it is looked at again."""
        self._in_data = False
        self._left = 0
        """Bytes that are to come of a payload that is handed on or passed over."""
        self._padding = 0
        """Bytes that are to come behind it."""

    def read(self, data: bytes, listener: Listener) -> None:
        """Read what came in, and let the listener know; raises ConnectionFault."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at, size = 0, len(data)
        if self._fresh:
            at = self._preface(data, listener)
        elif self._left or self._padding:
            at = self._payload(data, 0, listener)
        while size - at >= frames.HEAD_SIZE and not self._fresh:
            after = self._frame(data, at, listener)
            if after == at:
                break
            at = after
        else:
            self._wanted = frames.HEAD_SIZE
        if at < size:
            self._rest += data[at:]

    def _preface(self, data: bytes, listener: Listener) -> int:
        """Read what a client begins with; return where its frames begin."""
        begun = data[: len(frames.PREFACE)]
        if not frames.PREFACE.startswith(begun):
            raise protocol_error("no HTTP/2")
        if len(begun) < len(frames.PREFACE):
            return 0
        self._fresh = False
        listener.greeted()
        return len(begun)

    def _frame(self, data: bytes, at: int, listener: Listener) -> int:
        """Read a frame; return where the next one begins, or `at` when more of this one is needed first."""
        high, low, kind, flags, stream_id = _unpack_head(data, at)
        length = high << 8 | low
        stream_id &= frames.STREAM_ID
        listener.check(kind, length, stream_id)
        payload = at + frames.HEAD_SIZE
        if kind == frames.DATA:
            padded = 0
            if flags & frames.PADDED and length:
                if payload == len(data):
                    self._wanted = frames.HEAD_SIZE + 1
                    return at
                padded = 1 + data[payload]
                payload += 1
            if flags & frames.PADDED and not length:
                raise wrong_size("DATA")
            if padded > length:
                raise protocol_error("more padding than there is room for")
            listener.begin_data(stream_id, flags, length, padded)
            self._in_data = True
            self._left = length - padded
            self._padding = padded - 1 if padded else 0
            return self._payload(data, payload, listener)
        if kind > frames.CONTINUATION:
            listener.unknown()
            self._left = length
            return self._payload(data, payload, listener)
        after = payload + length
        if after > len(data):
            self._wanted = after - at
            return at
        listener.frame(kind, stream_id, flags, data[payload:after])
        return after

    def _payload(self, data: bytes, at: int, listener: Listener) -> int:
        """Hand on as much of a payload as there is; return where reading goes on."""
        if self._left:
            end = min(at + self._left, len(data))
            size = end - at
            self._left -= size
            if self._in_data and size:
                listener.data(memoryview(data)[at:end] if size >= LARGE else data[at:end])
            at = end
        if not self._left:
            if self._padding:
                skipped = min(self._padding, len(data) - at)
                self._padding -= skipped
                at += skipped
            if not self._padding and self._in_data:
                self._in_data = False
                listener.end_data()
        return at
