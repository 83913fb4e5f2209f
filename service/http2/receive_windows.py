"""How much a client may send: on a stream, and on all streams together (RFC 9113, section 6.9).

What was consumed is given back in large pieces, so that small messages cost no frames.
"""

from . import frames
from .errors import ConnectionFault, ErrorCode
from .limits import Limits
from .outbox import Outbox
from .stream import Stream


class ReceiveWindows:
    """The room that the client of a connection has."""

    __slots__ = ("_connection_half", "_eaten", "_left", "_outbox", "_stream_half")

    def __init__(self, limits: Limits, outbox: Outbox) -> None:
        self._outbox = outbox
        self._left = limits.connection_window
        self._eaten = 0
        """Bytes that were consumed since the client was last allowed more."""
        self._connection_half = limits.connection_window // 2
        self._stream_half = limits.stream_window // 2

    def take(self, size: int) -> None:
        """Take room on the connection for data that comes in; raises ConnectionFault where there is none."""
        self._left -= size
        if self._left < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection has room for")

    def give_back(self, size: int) -> None:
        """Give back room on the connection alone."""
        self._eaten += size
        if self._eaten > self._connection_half:
            self._outbox.put(frames.window_update(0, self._eaten))
            self._left += self._eaten
            self._eaten = 0

    def give_back_on(self, stream: Stream, size: int) -> None:
        """Give back room on a stream alone."""
        stream.eaten += size
        if stream.eaten > self._stream_half:
            self._outbox.put(frames.window_update(stream.id, stream.eaten))
            stream.receive_window += stream.eaten
            stream.eaten = 0
