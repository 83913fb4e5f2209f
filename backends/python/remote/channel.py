"""The server's end of a worker's socket: nobody ever waits for a worker to read.

What finds no room at once is left, in order, and sent by the attendant when there is room.
"""

import contextlib
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator

from ...api import Soon
from ..ipc.frames import FrameReader, FrameWriter, Message, send_frame
from .attendant import attendant


class Channel:
    """One connection; written from any thread, read by one."""

    def __init__(self) -> None:
        """Make the connection; `theirs` is the worker's end, and to be closed here when the worker has it."""
        self._socket, self.theirs = socket.socketpair()
        self._socket.setblocking(False)  # noqa: FBT003 - the standard library's signature
        self._reader = FrameReader(self._socket)
        self._writer = FrameWriter()
        self._lock = threading.RLock()
        self._left: deque[tuple[memoryview, int | None]] = deque()
        self._watched = False
        self._posted = bytearray()
        self._is_posted = False
        self.soon: Soon = _at_once
        """Has `flush` called when the turn is over, or at once where nobody takes turns."""
        self._is_closed = False

    def fileno(self) -> int:
        """Return the descriptor that can be read when a message has come."""
        return self._socket.fileno()

    def send(self, message: Message, descriptor: int | None = None) -> None:
        """Send a message, now or later, and with it a descriptor, which stays the caller's.

        Raises ValueError where it cannot travel. Once the connection is closed nothing is sent any more.
        """
        with self._lock:
            self._put(self._writer.spell(message), descriptor)

    def post(self, message: Message) -> None:
        """Send a message together with others that are posted in the same turn; raises as `send` does."""
        with self._lock:
            self._posted += self._writer.spell(message)
            if not self._is_posted:
                self._is_posted = True
                self.soon(self.flush)

    def flush(self) -> None:
        """Send what was posted."""
        with self._lock:
            self._is_posted = False
            if self._posted:
                self._put(b"", None)

    def read(self) -> Iterator[Message] | None:
        """Return the messages that have come, perhaps none; None when the worker's end is closed.

        Raises:
            BrokenFrameError: for what is no message.
        """
        try:
            return self._reader.read()
        except BlockingIOError:
            return iter(())

    def take_descriptor(self) -> int:
        """Return the next descriptor that came beside the messages; raises IndexError where none did."""
        return self._reader.descriptors.popleft()

    def shut(self) -> None:
        """Let nothing more come or go; who reads is told that it is over."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self.soon = _at_once
            self._forget_left()
        if self._watched:  # whoever watches has to stop before the number of the descriptor is used again
            attendant().release(self._socket.fileno(), self._close)
        else:
            self._close()

    def _close(self) -> None:
        self._reader.close()
        self._socket.close()

    def _put(self, frame: bytes, descriptor: int | None) -> None:
        if self._is_closed:
            return
        if self._posted:
            frame = bytes(self._posted) + frame
            self._posted.clear()
        rest = memoryview(frame)
        if not self._left:
            sent = self._try(rest, descriptor)
            if sent == len(frame):
                return
            if sent:
                rest, descriptor = rest[sent:], None
            self._watched = True
            attendant().watch_room(self._socket.fileno(), self._send_left)
        self._left.append((rest, None if descriptor is None else os.dup(descriptor)))

    def _try(self, frame: memoryview, descriptor: int | None) -> int:
        try:
            return send_frame(self._socket, frame, () if descriptor is None else (descriptor,))
        except BlockingIOError:
            return 0
        except OSError:  # nobody reads any more: whoever reads here hears of it
            return len(frame)

    def _send_left(self) -> None:
        with self._lock:
            while self._left and not self._is_closed:
                frame, descriptor = self._left.popleft()
                sent = self._try(frame, descriptor)
                if sent < len(frame):
                    self._left.appendleft((frame[sent:], None if sent else descriptor))
                    return
                if descriptor is not None:
                    os.close(descriptor)
            attendant().forget(self._socket.fileno())

    def _forget_left(self) -> None:
        for _, descriptor in self._left:
            if descriptor is not None:
                os.close(descriptor)
        self._left.clear()


def _at_once(flush: Callable[[], None]) -> None:
    flush()
