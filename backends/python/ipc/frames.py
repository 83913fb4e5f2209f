"""Frames: whole messages on a stream socket, each a msgpack array behind its length.

Nothing else than msgpack's own types can travel, and nothing that is read is ever executed. Descriptors come
beside the bytes of a frame (`SCM_RIGHTS`), in the order in which the frames speak of them.
"""

import array
import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgpack

MAX_FRAME: Final = 64 << 20
"""Bytes of one message; large tensors are not in it."""
READ_SIZE: Final = 64 << 10
MAX_DESCRIPTORS: Final = 8
"""Descriptors that may come with one read."""

_length = struct.Struct("<I")
_ancillary = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)

# As plain numbers: to combine or pass on flags of an enumeration costs more than the call they are for.
_NO_SIGNAL: Final = int(socket.MSG_NOSIGNAL)
_CLOSE_ON_EXEC: Final = int(socket.MSG_CMSG_CLOEXEC)

Message = Sequence[Any]
"""A kind, and what belongs to it."""


class BrokenFrameError(Exception):
    """What came is no message of ours: whoever sent it cannot be talked to any more."""


class FrameWriter:
    """Spells messages; one thread at a time."""

    def __init__(self) -> None:
        self._packer = msgpack.Packer(unicode_errors="surrogatepass")

    def spell(self, message: Message) -> bytes:
        """Return the frame of a message; raises ValueError where it is too long, or cannot be spelt."""
        try:
            body: bytes = self._packer.pack(message)
        except (OverflowError, TypeError) as error:
            self._packer.reset()
            raise ValueError(str(error)) from None
        if len(body) > MAX_FRAME:
            raise ValueError(f"a message of {len(body)} bytes is longer than the {MAX_FRAME} that may travel")
        return _length.pack(len(body)) + body


class FrameReader:
    """Reads a socket, and gives the messages in it; one thread at a time."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._begun = bytearray()
        """The beginning of a frame whose rest has not come yet."""
        self.descriptors: deque[int] = deque()
        """What came beside the bytes, until somebody takes it."""

    def read(self) -> Iterator[Message] | None:
        """Return the messages that one read brings, perhaps none; None when the other side is gone.

        Raises:
            BrokenFrameError: for what is no message.
            BlockingIOError: where nothing is there, and the socket does not wait.
        """
        try:
            data, ancillary, _, _ = self._source.recvmsg(READ_SIZE, _ancillary, _CLOSE_ON_EXEC)
        except ConnectionError:
            return None
        if ancillary:
            self._take_descriptors(ancillary)
        return self._messages(data) if data else None

    def close(self) -> None:
        """Close the descriptors that nobody took."""
        while self.descriptors:
            os.close(self.descriptors.popleft())

    def _messages(self, data: bytes) -> Iterator[Message]:
        whole: bytes | bytearray = data
        if self._begun:
            self._begun += data
            whole = self._begun
        start, size = 0, len(whole)
        while size - start >= _length.size:
            (length,) = _length.unpack_from(whole, start)
            if length > MAX_FRAME:
                raise BrokenFrameError(f"a message says that it is {length} bytes long")
            end = start + _length.size + length
            if end > size:
                break
            yield _parse(memoryview(whole)[start + _length.size : end])
            start = end
        self._begun = bytearray(memoryview(whole)[start:])

    def _take_descriptors(self, ancillary: Sequence[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                taken = array.array("i")
                taken.frombytes(data[: len(data) - len(data) % taken.itemsize])
                self.descriptors.extend(taken)
        if len(self.descriptors) > MAX_DESCRIPTORS:
            raise BrokenFrameError("more descriptors came than anybody spoke of")


def send_frame(sink: socket.socket, frame: bytes | memoryview, descriptors: Sequence[int] = ()) -> int:
    """Send a frame, or as much as there is room for, and descriptors with its first byte; return how much."""
    if not descriptors:
        return sink.send(frame, _NO_SIGNAL)
    rights = array.array("i", descriptors)
    return sink.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], _NO_SIGNAL)


def _parse(body: memoryview) -> Message:
    with contextlib.suppress(ValueError, msgpack.UnpackException, RecursionError):
        message: Any = msgpack.unpackb(
            body, use_list=True, unicode_errors="surrogatepass", strict_map_key=False
        )
        if isinstance(message, list) and message and isinstance(message[0], int):
            return message
    raise BrokenFrameError("what came is no message")
