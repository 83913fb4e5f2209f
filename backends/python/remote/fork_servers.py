"""Fork servers, seen from the server: one for each interpreter, started when its first worker is.

A fork server tells which worker has ended and how; the workers of one that is gone are gone with it. The next
worker then gets a new one.
"""

import array
import atexit
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgpack

from ....proto.errors import internal
from ..ipc.errands import PACKET, Cause, Errand
from ..worker import main
from .attendant import attendant

CLOSE_SECONDS: Final = 5.0
"""How long the end of this process waits for that of its fork servers."""

LINGER_SECONDS: Final = 10.0
"""How long a fork server stays that nobody needs: a model is completed first, and then loaded."""

Ended = Callable[[str], None]
"""Hears how a worker came to its end, nothing where that was wanted; on the attendant's thread."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python to run workers with, and what its environment has beside the server's own."""

    program: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)


class ForkServer:
    """The fork server of one interpreter; asked from any thread."""

    def __init__(self, interpreter: Interpreter) -> None:
        """Start it; raises InferError where that cannot be."""
        self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        package = __name__.partition(".")[0]
        directory = Path(str(sys.modules[package].__file__)).parent
        found_by_path = (package, str(directory), str(Path(msgpack.__file__).parent))
        command = [interpreter.program, main.__file__, str(theirs.fileno()), *found_by_path]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the interpreter is the operator's choice
                command,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **interpreter.environment},
                pass_fds=[theirs.fileno()],
            )
        except OSError as error:
            self._end.close()
            raise internal(f"cannot start '{interpreter.program}' for Python models: {error}") from None
        finally:
            theirs.close()
        self.is_gone = False
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._starting: dict[int, tuple[Future[int], Ended]] = {}
        self._workers: dict[int, Ended] = {}
        self._attendant = attendant()
        self._attendant.watch(self._end.fileno(), self._hear)

    def start(self, name: str, descriptors: Sequence[int], ended: Ended, within_s: float) -> int:
        """Start a worker with these descriptors, return its process; raises InferError."""
        number = next(self._numbers)
        started: Future[int] = Future()
        with self._lock:
            self._starting[number] = (started, ended)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        try:
            self._end.sendmsg([msgpack.packb([Errand.START, number, name])], [rights], socket.MSG_NOSIGNAL)
            return started.result(within_s)
        except (OSError, NotInTime):
            raise internal(f"Stub process '{name}' did not start within {within_s:g} seconds") from None
        finally:
            with self._lock:
                self._starting.pop(number, None)

    def kill(self, process: int, after_ms: int = 0) -> None:
        """End a worker, and what it has started, unless it ends by itself within so many milliseconds."""
        with contextlib.suppress(OSError):
            self._end.send(msgpack.packb([Errand.KILL, process, after_ms]), socket.MSG_NOSIGNAL)

    def close(self) -> None:
        """End it with all its workers, and wait a moment for that."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _hear(self) -> None:
        try:
            packet = self._end.recv(PACKET)
        except ConnectionError:
            packet = b""
        if not packet:
            self._perish()
            return
        errand, *words = msgpack.unpackb(packet)
        if errand == Errand.STARTED:
            self._welcome(*words)
        elif errand == Errand.ENDED:
            process, status, cause = words
            ended = self._workers.pop(process, None)
            if ended is not None:
                ended("" if cause == Cause.WANTED else _describe(status, Cause(cause)))

    def _welcome(self, number: int, process: int) -> None:
        with self._lock:
            entry = self._starting.get(number)
        if entry is None:  # nobody waits for it any more
            self.kill(process)
            return
        started, ended = entry
        self._workers[process] = ended
        started.set_result(process)

    def _perish(self) -> None:
        self.is_gone = True
        self._attendant.forget(self._end.fileno())
        self._end.close()
        with self._lock:
            starting = [started for started, _ in self._starting.values()]
        for started in starting:
            started.set_exception(OSError("the fork server is gone"))
        for process in list(self._workers):
            self._workers.pop(process)("It was killed with its fork server.")


_fork_servers: Final[dict[Interpreter, ForkServer]] = {}
_holders: Final[Counter[Interpreter]] = Counter()
_lock: Final = threading.Lock()


def fork_server(interpreter: Interpreter) -> ForkServer:
    """Return the fork server of an interpreter, started if there is none; raises InferError."""
    with _lock:
        found = _fork_servers.get(interpreter)
        if found is None or found.is_gone:
            found = _fork_servers[interpreter] = ForkServer(interpreter)
        return found


@contextmanager
def held(interpreter: Interpreter) -> Iterator[None]:
    """Need workers of an interpreter for the length of the block."""
    hold(interpreter)
    try:
        yield
    finally:
        let_go(interpreter)


def hold(interpreter: Interpreter) -> None:
    """Need workers of an interpreter, until it is let go."""
    with _lock:
        _holders[interpreter] += 1


def let_go(interpreter: Interpreter) -> None:
    """Need no more workers of an interpreter; when nobody does its fork server ends, unless it is our own."""
    with _lock:
        _holders[interpreter] -= 1
        is_unused = not _holders[interpreter] and interpreter != Interpreter()
    if is_unused:
        timer = threading.Timer(LINGER_SECONDS, _end_unused, [interpreter])
        timer.daemon = True
        timer.start()


def _end_unused(interpreter: Interpreter) -> None:
    with _lock:
        unused = None if _holders[interpreter] else _fork_servers.pop(interpreter, None)
    if unused is not None:
        unused.close()


@atexit.register
def _close_all() -> None:
    for each in _fork_servers.values():
        each.close()


def _describe(status: int, cause: Cause) -> str:
    """Return what a wait status says, as a sentence about a process."""
    if cause is Cause.STOPPED:
        return "It was stopped by a signal."
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"It exited with status {code}."
    try:
        return f"It was killed by {signal.Signals(-code).name}."
    except ValueError:
        return f"It was killed by signal {-code}."
