"""The worker's end of the socket: who writes there, and who reads.

Everybody writes, whole messages under a lock. To wake the server costs more than all else that is done for a
quick batch; so where more batches wait already, their answers are sent together. An alarm sends what is held
when one of them takes longer than it seemed.

Reading is harder, since whoever reads may find what another
thread waits for. The main thread reads while it waits for the next batch, and most models need no more:
nothing comes while they execute. Once a model has asked the server for something, an answer may come while it
executes; from then on a thread of its own reads, and the main thread is handed its messages.
"""

import itertools
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final

from ..ipc.frames import BrokenFrameError, FrameReader, FrameWriter, Message, send_frame
from ..ipc.messages import Kind
from .alarm import Alarm

Receive = Callable[[Message], bool]
"""Takes one message that answers what was asked; returns whether it was the last."""

QUICK_S: Final = 0.0002
"""Seconds below which a batch was quick: the next one will be too, and both can be answered at once."""
HOLD_S: Final = 0.001
"""Seconds that an answer is held at most, should the next batch not be quick."""

_ANSWERS: Final = frozenset({Kind.ANSWER, Kind.RESULT})


class Link:
    """The connection with the server."""

    def __init__(self, end: socket.socket, *, check: Callable[[int], None]) -> None:
        """Take the socket, and what is called on its own thread when the model's readiness is asked for."""
        self._socket = end
        self._check = check
        self.add_segment: Callable[[int, int, int], None] = _refuse_segment
        """Takes a piece of the server's arena: its number, its size and its descriptor."""
        self._reader = FrameReader(end)
        self._writer = FrameWriter()
        self._writing = threading.RLock()
        self._is_writing = False
        self._left: deque[bytes] = deque()
        self._held = bytearray()
        """Frames that were posted and not sent yet."""
        self._alarm = Alarm(self.flush)
        self._taken = 0.0
        self._messages: deque[Message] = deque()
        self._handed: SimpleQueue[Message] = SimpleQueue()
        self._asked: dict[int, Receive] = {}
        self._numbers = itertools.count(1)
        self._turn = threading.Lock()
        self._main_reads = False
        self._thread: threading.Thread | None = None
        self._needs_thread = False
        self._is_foreign = False
        """Whether this is a process that the model has forked: it has nothing to do with the server."""
        os.register_at_fork(after_in_child=self._forget)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message; raises ValueError where it cannot travel."""
        if self._is_foreign:
            return
        with self._writing:
            if self._is_writing:
                # Under this very call the garbage collector runs code of the model, and that sends too.
                self._left.append(FrameWriter().spell(message))
                return
            self._is_writing = True
            try:
                self._transmit(self._writer.spell(message), descriptors)
                while self._left:
                    self._transmit(self._left.popleft())
            finally:
                self._is_writing = False

    def post(self, message: Message) -> None:
        """Send a message, soon if there is more to do that seems to be quick; raises as `send` does."""
        if not self._messages or time.monotonic() - self._taken > QUICK_S:
            self.send(message)
            return
        with self._writing:
            self._held += FrameWriter().spell(message) if self._is_writing else self._writer.spell(message)
            self._alarm.set(HOLD_S)

    def flush(self) -> None:
        """Send what was posted."""
        with self._writing:
            if self._held and not self._is_foreign and not self._is_writing:
                self._transmit(b"")

    def ask(self, kind: Kind, *words: Any, receive: Receive) -> int:  # noqa: ANN401 - what msgpack can spell
        """Ask the server something, have its answers received on the thread that reads; return the number."""
        if self._is_foreign:
            raise ValueError("only the process of the model itself is connected with the server")
        self.read_beside()
        number = next(self._numbers)
        self._asked[number] = receive
        try:
            self.send([kind, number, *words])
        except ValueError:
            del self._asked[number]
            raise
        return number

    def take(self) -> Message:
        """Return the next message for the main thread; without a server the process ends here."""
        if self._is_foreign:
            os._exit(0)  # it came back from where it was forked, and its parent will answer
        if self._messages:
            self._taken = time.monotonic()
            return self._messages.popleft()
        self.flush()
        with self._turn:
            self._main_reads = self._thread is None
        if not self._main_reads:
            return self._handed.get()
        while not self._messages:
            self._read(self._messages.append)
        with self._turn:
            self._main_reads = False
            if self._needs_thread:
                self._start_thread()
        self._taken = time.monotonic()
        return self._messages.popleft()

    def take_descriptor(self) -> int:
        """Return the next descriptor that came beside the messages."""
        return self._reader.descriptors.popleft()

    def read_beside(self) -> None:
        """Have messages read also while the main thread is busy, from now on."""
        with self._turn:
            self._needs_thread = True
            if not self._main_reads:
                self._start_thread()

    def _start_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._read_on, name="deuteron-reader", daemon=True)
            self._thread.start()

    def _read_on(self) -> None:
        while True:
            self._read(self._handed.put)

    def _read(self, hand_over: Callable[[Message], None]) -> None:
        try:
            messages = self._reader.read()
            if messages is None:
                os._exit(0)  # the server is gone, and nobody needs this process any more
            for message in messages:
                kind = message[0]
                if kind in _ANSWERS:
                    self._receive(message)
                elif kind == Kind.SEGMENT:  # at once, for answers may lie in it that are read here too
                    self.add_segment(message[1], message[2], self.take_descriptor())
                elif kind == Kind.CHECK:
                    threading.Thread(target=self._check, args=(message[1],), daemon=True).start()
                else:
                    hand_over(message)
        except (OSError, BrokenFrameError, ValueError) as error:
            end(f"the socket to the server cannot be read: {error}")

    def _receive(self, message: Message) -> None:
        receive = self._asked.get(message[1])
        if receive is not None and receive(message):
            del self._asked[message[1]]

    def _transmit(self, frame: bytes, descriptors: Sequence[int] = ()) -> None:
        if self._held:
            self._alarm.clear()
            frame = bytes(self._held) + frame
            self._held.clear()
        try:
            sent = send_frame(self._socket, frame, descriptors)
            if sent < len(frame):
                self._socket.sendall(memoryview(frame)[sent:])
        except OSError as error:
            end(f"the socket to the server cannot be written: {error}")

    def _forget(self) -> None:
        self._is_foreign = True
        self._socket.close()


def _refuse_segment(number: int, _size: int, _descriptor: int) -> None:
    """Take no memory before anybody knows what for."""
    raise ValueError(f"segment {number} came too early")


def end(why: str) -> None:
    """End this process at once: it cannot talk to the server any more."""
    os.write(2, f"{why}\n".encode())
    os._exit(1)
