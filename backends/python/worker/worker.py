"""A worker: one instance of a Python model in a process of its own, from its first message to its last.

The model's code runs on the main thread, as in Triton. The engine that runs it is the same that runs models
in the server's own process; here its responses, its requests to other models, its log and its metrics become
messages.
"""

import contextlib
import socket
import sys
from pathlib import Path
from typing import Any

from ....proto.errors import InferError
from ...batch import Batch
from ..api.log import LogLevel, install_log_sink
from ..api.metrics import install_metrics
from ..api.tensor import leave_copying
from ..arrived import Terms
from ..completion import complete
from ..engine import PythonEngine
from ..ipc.arena import Arena, Borrower
from ..ipc.board import Board
from ..ipc.frames import Message
from ..ipc.messages import Kind, read_request, spell_error
from ..model_code import ModelCode
from .flow import RemoteFlow
from .house import RemoteHouse
from .link import Link
from .metrics import RemoteMetrics
from .outlet import Outlet
from .tensors import OwnTensor, TraceAddress, WatchedRequest


def work(end: socket.socket) -> None:
    """Do as the server says, on this end of the socket, until it wants no more."""
    Worker(end).work()


class Worker:
    """One model instance, and its way to the server."""

    def __init__(self, end: socket.socket) -> None:
        self._link = Link(end, check=self._check)
        self._engine: PythonEngine | None = None

    def work(self) -> None:
        """Bring the instance up, execute what comes, and finalise it."""
        kind, words = self._link.take()[:2]
        self._connect(words["limit"])
        try:
            code = self._code(words)
            if kind == Kind.COMPLETE:
                code.caller.house = None
                self._link.send([Kind.COMPLETED, complete(code, words["config"], words["model"])])
            else:
                self._initialise(code, words)
        except InferError as error:
            self._link.send([Kind.FAILED, spell_error(error)])
        if self._engine is not None:
            self._serve(self._engine)
        with contextlib.suppress(ValueError, OSError):
            sys.stdout.flush()

    def _connect(self, limit: int) -> None:
        link = self._link
        self._board = board = Board(link.take_descriptor())
        self._arena = Arena(
            board.responses,
            lambda number, size, descriptor: link.send([Kind.SEGMENT, number, size], (descriptor,)),
            limit,
        )
        self._borrower = Borrower(board.requests, writable=True, limit=limit)
        link.add_segment = self._borrower.add
        self._house = RemoteHouse(link, self._arena, self._borrower)
        install_log_sink(self._log)
        install_metrics(RemoteMetrics(self._house))
        leave_copying()

    def _code(self, words: dict[str, Any]) -> ModelCode:
        code = ModelCode(Path(words["path"]), Path(words["directory"]))
        code.caller.model, code.caller.instance = words["model"], words["instance"]
        code.caller.house = self._house
        return code

    def _initialise(self, code: ModelCode, words: dict[str, Any]) -> None:
        terms = Terms(words["decoupled"], tuple(words["outputs"]))
        self._engine = engine = PythonEngine(
            code, words["instance"], words["arguments"], terms, words["max_batch_size"]
        )
        self._streams = terms.decoupled
        if engine.tells_readiness:
            self._link.read_beside()
        self._link.send([Kind.READY, engine.tells_readiness])

    def _serve(self, engine: PythonEngine) -> None:
        while True:
            message = self._link.take()
            if message[0] == Kind.BATCH:
                self._execute(engine, message)
                del message  # nothing of a batch is kept while the next is awaited: its memory goes back
            elif message[0] == Kind.FORGET:
                engine.forget_sequence(message[1], message[2])
            elif message[0] == Kind.CLOSE:
                engine.close()
                self._link.send([Kind.CLOSED])
                return

    def _execute(self, engine: PythonEngine, message: Message) -> None:
        _, number, size, spelt = message
        self._board.begin(number)
        requests = [self._read(each, number, row) for row, each in enumerate(spelt)]
        outlet = Outlet(self._link, self._arena, number, requests, streams=self._streams)
        batch = Batch(requests, size)
        error: InferError | None = None
        try:
            engine.execute(batch, outlet)
        except InferError as refusal:
            error = refusal
        outlet.returned(batch, error)

    def _read(self, spelt: Any, number: int, row: int) -> WatchedRequest:  # noqa: ANN401 - as msgpack gives it
        trace: Any = None if spelt[-2] is None else TraceAddress(number, row, *spelt[-2])
        request = read_request(spelt, self._borrower, OwnTensor, trace, WatchedRequest)
        request.watch(self._board.cancelled, spelt[-3])
        if spelt[-1]:
            request.flow = RemoteFlow(self._link, number, row)
        return request

    def _check(self, number: int) -> None:
        engine = self._engine
        self._link.send([Kind.CHECKED, number, engine is not None and engine.is_ready()])

    def _log(self, level: LogLevel, message: str, file: str, line: int) -> None:
        with contextlib.suppress(ValueError):  # a text longer than any log wants
            self._link.send([Kind.LOG, level, message, file, line])
