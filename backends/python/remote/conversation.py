"""What is said between the server and one worker, whatever it is about: memory, logs, calls, and the end.

Whoever converses says which kinds of messages it takes itself. A worker that sends what nobody can make sense
of is ended: its memory cannot be trusted any more.
"""

import logging
import os
import select
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import structlog

from ...house import Asker, House
from ..api.log import LOGGER_NAME, STANDARD_LEVELS, LogLevel
from ..ipc.arena import Arena, Borrower
from ..ipc.board import Board
from ..ipc.frames import BrokenFrameError, Message
from ..ipc.messages import Kind
from .assignment import Assignment
from .channel import Channel
from .process import WorkerProcess
from .service import Service

Take = Callable[[Message], None]
"""Takes one message; raises ValueError where it makes no sense."""

log: Final = structlog.get_logger("deuteron.worker")

ENDS_MS: Final = 100
"""Milliseconds that a worker may take to end after its end of the connection is closed."""
LATE: Final = "It did not answer within {:g} seconds."


class Conversation:
    """A worker process and all that is shared with it; heard by one thread at a time."""

    def __init__(self, assignment: Assignment, house: House | None, ended: Callable[[], None]) -> None:
        """Start the process; raises InferError. `ended` is called on the attendant's thread."""
        self.process = WorkerProcess(assignment.instance, assignment.launch, ended)
        self.channel = self.process.channel
        self._assignment = assignment
        self.board = Board(self.process.board)
        self.arena = Arena(self.board.requests, partial(_announce, self.channel), assignment.limit)
        self.borrower = Borrower(self.board.responses, writable=False, limit=assignment.limit)
        asker = Asker(assignment.model, assignment.arguments.get("model_version", ""), assignment.instance)
        self.service = Service(asker, house, self.channel, self.arena, self.borrower)
        self._takes: dict[int, Take] = {
            Kind.SEGMENT: lambda it: self.borrower.add(it[1], it[2], self.channel.take_descriptor()),
            Kind.WITHDRAW: lambda it: self.service.withdraw(it[1]),
            Kind.CALL: lambda it: self.service.call(it[1], it[2], it[3]),
            Kind.LOG: self._log,
        }
        self._is_over = False

    def begin(self, kind: Kind, takes: Mapping[int, Take], config: str = "") -> None:
        """Tell the worker what to do; what it says to that goes where `takes` says."""
        self._takes.update(takes)
        self.channel.send([kind, {**self._assignment.words(), "config": config}], self.process.board)
        os.close(self.process.board)

    def hear(self) -> bool:
        """Take what the worker has said so far; return whether it may say more."""
        if self._is_over:
            return False
        try:
            messages = self.channel.read()
            if messages is not None:
                for message in messages:
                    self._takes[message[0]](message)
                return True
        except (BrokenFrameError, LookupError, TypeError, ValueError) as error:
            self.process.kill(f"It sent what makes no sense: {error}.")
        self._is_over = True
        self.process.kill("It closed its connection to the server.", ENDS_MS)
        return False

    def wait_until(self, condition: Callable[[], bool], within_s: float = 0) -> None:
        """Hear until a condition holds; on the lane, while nobody else hears.

        Raises:
            InferError: when the worker comes to its end before, or does not make it within so many seconds.
        """
        poll = select.poll()
        poll.register(self.channel.fileno(), select.POLLIN)
        deadline = time.monotonic() + within_s
        while not condition():
            left = max(0.0, deadline - time.monotonic()) * 1000 if within_s else None
            if not poll.poll(left):
                self.process.kill(LATE.format(within_s))
                raise self.process.await_failure()
            if not self.hear() and not condition():
                raise self.process.await_failure()

    def close(self) -> None:
        """Bring the process to its end, which it should be about to do by itself, and give all back."""
        self.process.stop()
        self.service.close()
        self._takes.clear()  # they lead back here, and shared memory is not to wait for the collector
        self.arena.close()
        self.borrower.close()
        self.board.close()

    def complain(self, reason: str) -> None:
        """Write to the log what went wrong when it could not be told to anybody."""
        log.warning("worker did not end as it should", instance=self._assignment.instance, reason=reason)

    def _log(self, message: Message) -> None:
        _, level, text, file, line = message
        standard = STANDARD_LEVELS[LogLevel(level)]
        logger = logging.getLogger(LOGGER_NAME)
        if logger.isEnabledFor(standard):
            extra = {"model": self._assignment.model}
            logger.handle(
                logger.makeRecord(
                    LOGGER_NAME, standard, str(file), int(line), str(text), (), None, extra=extra
                )
            )


def _announce(channel: Channel, number: int, size: int, descriptor: int) -> None:
    """Tell a worker of a piece of memory."""
    channel.send([Kind.SEGMENT, number, size], descriptor)
