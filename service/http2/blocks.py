"""Header blocks on their way: out of their padding, and put together where they were cut."""

from typing import NamedTuple

from . import frames
from .errors import calm_down, protocol_error, wrong_size
from .limits import Limits


class HeaderBlock(NamedTuple):
    """A header block that is complete."""

    stream_id: int
    flags: int
    """Those of its HEADERS frame."""
    payload: bytes


class Assembly:
    """The header block that is coming in; nothing else may come before it is complete."""

    __slots__ = ("_continuations", "_flags", "_limits", "_parts", "_stream_id")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parts: bytearray | None = None
        self._stream_id = 0
        self._flags = 0
        self._continuations = 0

    def check(self, kind: int, length: int, stream_id: int) -> None:
        """Raise ConnectionFault for a frame that may not come now, or makes a block too large."""
        begun = 0
        if self._parts is not None:
            if kind != frames.CONTINUATION or stream_id != self._stream_id:
                raise protocol_error("CONTINUATION must come next")
            begun = len(self._parts)
        if begun + length > self._limits.max_header_block and kind in (frames.HEADERS, frames.CONTINUATION):
            raise calm_down("a header block beyond all bounds")

    def begin(self, stream_id: int, flags: int, payload: bytes) -> HeaderBlock | None:
        """Take a HEADERS frame; return the block if it is complete; raises ConnectionFault."""
        begin, end = 0, len(payload)
        if flags & frames.PADDED:
            if not end:
                raise wrong_size("HEADERS")
            begin, end = 1, end - payload[0]
        if flags & frames.WITH_PRIORITY:
            begin += frames.PRIORITY_SIZE
        if begin > end:
            raise protocol_error("more padding than there is room for")
        if flags & frames.END_HEADERS:
            return HeaderBlock(stream_id, flags, payload[begin:end])
        self._parts = bytearray(payload[begin:end])
        self._stream_id = stream_id
        self._flags = flags
        self._continuations = 0
        return None

    def go_on(self, flags: int, payload: bytes) -> HeaderBlock | None:
        """Take a CONTINUATION frame; return the block if it is complete; raises ConnectionFault."""
        if self._parts is None:
            raise protocol_error("CONTINUATION of nothing")
        self._continuations += 1
        if self._continuations > self._limits.max_continuations:
            raise calm_down("a header block in too many pieces")
        self._parts += payload
        if not flags & frames.END_HEADERS:
            return None
        block, self._parts = bytes(self._parts), None
        return HeaderBlock(self._stream_id, self._flags, block)
