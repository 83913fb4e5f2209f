"""The fork server: a process with everything imported and nothing begun, which workers are forked from.

So a hundred instances start in the time that importing would take one of them, and share the memory of what
was imported. It has one thread and runs no code of any model, hence it is safe to fork at any time.

It is the parent of all workers, so it is also who learns how they end: it reaps them, ends whatever they have
left behind in their process groups, and tells the server. A worker that somebody has stopped (SIGSTOP) would
hold its batch for ever, and is ended. When the server is gone, and with it the other end of the socket, so is
all this; and should the fork server itself be killed, the kernel ends the workers with it
(`PR_SET_PDEATHSIG`).
"""

import array
import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import Any, Final

import msgpack

from ..ipc.errands import PACKET, Cause, Errand

PR_SET_PDEATHSIG: Final = 1
PR_SET_NAME: Final = 15
PR_SET_CHILD_SUBREAPER: Final = 36

Work = Callable[[socket.socket], None]
"""Does what a worker does, on its end of the socket."""

_ancillary = socket.CMSG_SPACE(3 * array.array("i").itemsize)
_libc = ctypes.CDLL(None)


def serve(descriptor: int, work: Work) -> None:
    """Fork workers until the server is gone; returns in each worker too, when it has done its work."""
    server = socket.socket(fileno=descriptor)
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what workers leave behind is ours to reap
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _pass_over)
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, _pass_over)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    gc.collect()
    gc.freeze()
    nursery = _Nursery(server)
    poll = select.poll()
    poll.register(server, select.POLLIN)
    poll.register(reading, select.POLLIN)
    while True:
        poll.poll()
        with contextlib.suppress(BlockingIOError):
            os.read(reading, 4096)
        nursery.reap()
        channel = nursery.attend()
        if channel is not None:
            for each in (reading, writing):
                os.close(each)
            work(channel)
            return
        if nursery.is_over:
            nursery.kill_all()
            return


class _Nursery:
    """The workers of this process."""

    def __init__(self, server: socket.socket) -> None:
        self.is_over = False
        """Whether the server is gone."""
        self._server = server
        self._workers: set[int] = set()
        self._causes: dict[int, Cause] = {}

    def attend(self) -> "socket.socket | None":
        """Do one errand, if there is one; returns None, and in a new worker its end of the socket."""
        try:
            packet, ancillary, _, _ = self._server.recvmsg(
                PACKET, _ancillary, socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
            )
        except BlockingIOError:
            return None
        except ConnectionError:
            packet = b""
        if not packet:
            self.is_over = True
            return None
        errand, *words = msgpack.unpackb(packet)
        if errand == Errand.START:
            descriptors = array.array("i")
            descriptors.frombytes(ancillary[0][2])
            return self._fork(words[0], words[1], descriptors)
        if errand == Errand.KILL and words[0] in self._workers and not _ends_within(*words):
            self._causes.setdefault(words[0], Cause.WANTED)
            _kill(words[0])
        return None

    def reap(self) -> None:
        """Learn who has ended or was stopped."""
        what = os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, what)
            except ChildProcessError:
                return
            if found is None:
                return
            if found.si_code == os.CLD_STOPPED:
                os.waitid(os.P_PID, found.si_pid, os.WSTOPPED | os.WNOHANG)
                if found.si_pid in self._workers:
                    self._causes[found.si_pid] = Cause.STOPPED
                    _kill(found.si_pid)
                continue
            self._bury(found.si_pid)

    def kill_all(self) -> None:
        """End all workers."""
        for worker in self._workers:
            _kill(worker)

    def _bury(self, process: int) -> None:
        if process in self._workers:
            _kill(process)  # while its number is still its own: what it has started ends with it
        _, status = os.waitpid(process, 0)
        if process in self._workers:
            self._workers.discard(process)
            self._tell([Errand.ENDED, process, status, self._causes.pop(process, Cause.OWN)])

    def _fork(self, number: int, name: str, descriptors: "array.array[int]") -> "socket.socket | None":
        parent = os.getpid()
        process = os.fork()
        if process:
            for each in descriptors:
                os.close(each)
            self._workers.add(process)
            self._tell([Errand.STARTED, number, process])
            return None
        self._server.close()
        _settle(parent, name, descriptors[1:])
        return socket.socket(fileno=descriptors[0])

    def _tell(self, packet: Sequence[Any]) -> None:
        with contextlib.suppress(OSError):  # whoever does not listen is gone
            self._server.send(msgpack.packb(packet), socket.MSG_NOSIGNAL)


def _settle(parent: int, name: str, output: "Sequence[int]") -> None:
    """Become a worker: a session of its own, standard streams of its own, and an end with its parent."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _libc.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for stream, descriptor in enumerate(output, start=1):
        os.dup2(descriptor, stream)
        os.close(descriptor)
    sys.stdout = _text(1)
    sys.stderr = _text(2)


def _text(descriptor: int) -> TextIOWrapper:
    """Return a standard stream that writes whole lines, whatever is in them."""
    return open(descriptor, "w", buffering=1, errors="backslashreplace", closefd=False)


def _ends_within(process: int, milliseconds: int) -> bool:
    """Tell whether a child has ended, or is about to."""
    for _ in range(milliseconds + 1):
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return True
        if milliseconds:
            time.sleep(0.001)
    return False


def _kill(process: int) -> None:
    """End a process and its group; it may be one that has ended and was not reaped yet."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(process, signal.SIGKILL)


def _pass_over(_number: int, _frame: object) -> None:
    """Take notice of a signal, and leave what it means to the server."""
