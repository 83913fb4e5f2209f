"""A worker process, from its start to its end, whoever brings that about."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ....proto.errors import InferError, internal
from ..ipc.board import make_board
from .channel import Channel
from .fork_servers import ForkServer, Interpreter, fork_server
from .output import Output

EXIT_SECONDS: Final = 2.0
"""How long a worker that has done its work may take to exit, before it is killed."""
KILLED_WITHIN: Final = 5.0
"""Seconds in which a process that was killed must be gone."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How workers are started and ended."""

    interpreter: Interpreter
    start_s: float
    """Seconds that a process may take to be there."""
    close_s: float
    """Seconds that a model may take to finalise."""


class WorkerProcess:
    """One process with its channel, its board and its output; it is always brought to an end by `stop`."""

    def __init__(self, name: str, launch: Launch, ended: Callable[[], None]) -> None:
        """Start it; raises InferError. `ended` is called on the attendant's thread when it has ended."""
        self.name = name
        self._fate = ""
        self.channel = Channel()
        self.board = make_board()
        """The descriptor of its board, until whoever maps it closes it."""
        self._told = ended
        self._gone = threading.Event()
        self._reason = ""
        self._server: ForkServer = fork_server(launch.interpreter)
        outputs = [Output(stream, name) for stream in ("stdout", "stderr")]
        descriptors = [self.channel.theirs.fileno(), *(output.sink for output in outputs)]
        try:
            self.id = self._server.start(name, descriptors, self._end, launch.start_s)
        except InferError:
            self.channel.close()
            os.close(self.board)
            for output in outputs:
                output.abandon()
            raise
        finally:
            self.channel.theirs.close()
        for output in outputs:
            output.begin()

    @property
    def failure(self) -> InferError:
        """What is told to whoever waited for this process: how it came to its end."""
        return internal(f"Stub process '{self.name}' is not healthy. {self._fate or self._reason}")

    def has_ended(self) -> bool:
        """Tell whether it came to its end."""
        return self._gone.is_set()

    def await_failure(self) -> InferError:
        """Return the failure of a process that is about to come to its end."""
        self._gone.wait(KILLED_WITHIN)
        return self.failure

    def kill(self, reason: str = "It was ended by the server.", after_ms: int = 0) -> None:
        """End it, unless it ends by itself so soon; the reason is told to those who waited for it."""
        self._reason = self._reason or reason
        self._server.kill(self.id, after_ms)

    def stop(self) -> None:
        """Bring it to its end, and wait for that; it should be about to end by itself."""
        if not self._gone.wait(EXIT_SECONDS):
            self.kill()
            self._gone.wait(KILLED_WITHIN)
        self.channel.close()
        self._told = _nobody

    def _end(self, fate: str) -> None:
        self._fate = fate
        self.channel.shut()
        self._gone.set()
        self._told()


def _nobody() -> None:
    """Hear that a process has ended after whoever wanted to know has let go of it."""
