"""The engine of an instance whose model runs in a worker process.

A batch is one message, and so is what it comes to. Nobody waits for either on a thread while the instance
serves: whoever watches the channel calls `hear`, and every response finds its way from there. Before and
after, when the model is initialised, warmed up and finalised, the lane of the instance waits for the worker
instead.

A worker that ends by itself, or that is ended because it took too long or sent what makes no sense, is lost:
its batches are failed by whoever owns the engine, who is told once.
"""

import itertools
import threading
from collections.abc import Sequence
from functools import partial
from typing import Final

from ....proto.errors import Fault, InferError, internal
from ....proto.message import Request
from ....proto.trace import Trace
from ...api import Batch, Done, Emit, Lost, Soon
from ...house import House
from ..ipc.arena import ArenaFullError
from ..ipc.board import MARKS
from ..ipc.frames import Message
from ..ipc.messages import (
    NO_MARK,
    Kind,
    MalformedError,
    Spelt,
    read_error,
    read_request,
    read_response,
    spell_request,
    take_back,
)
from .assignment import Assignment
from .conversation import LATE, Conversation

HEAVY: Final = 1 << 20
"""Bytes of a batch that are copied on the lane, lest the loop stand still meanwhile."""


_FAILED: Final = "Failed to process the request(s) for model '{}', message: "


class _Flight:
    """A batch that the worker has, or that has requests which are still open."""

    __slots__ = ("batch", "done", "emit", "marks", "open")

    done: Done | None
    """Who is told when the batch returns; None once it has."""

    def __init__(self, batch: Batch, emit: Emit, done: Done, marks: list[int]) -> None:
        self.batch = batch
        self.emit = emit
        self.done = done
        self.marks = marks
        """The mark of each request on the board, if it has one."""
        self.open = set(range(len(marks)))
        """The rows whose requests have no final response yet."""


class WorkerEngine:
    """One instance of a Python model in a process of its own."""

    def __init__(self, assignment: Assignment, house: House | None) -> None:
        """Start the process and have it initialise the model; raises InferError with what went wrong."""
        self.patience_s = assignment.patience_s
        self._streams = assignment.decoupled
        self._launch = assignment.launch
        self._lost: Lost | None = None
        self._hearer = 0
        """The thread that hears, and takes turns."""
        self._flights: dict[int, _Flight] = {}
        self._numbers = itertools.count(1)
        self._free_marks = list(range(MARKS))
        self._checks: dict[int, _Check] = {}
        self._tells_readiness: bool | None = None
        self._failure: InferError | None = None
        self._is_closed = False
        self._conversation = Conversation(assignment, house, self._ended)
        self._channel = self._conversation.channel
        self._arena = self._conversation.arena
        try:
            self._conversation.begin(
                Kind.INITIALISE,
                {
                    Kind.READY: self._take_ready,
                    Kind.FAILED: self._take_failure,
                    Kind.RETURNED: self._take_return,
                    Kind.RESPONSE: self._take_response,
                    Kind.ASK: self._take_ask,
                    Kind.CHECKED: self._take_checked,
                    Kind.WAIT: self._take_wait,
                    Kind.CLOSED: self._take_closed,
                },
            )
            self._conversation.wait_until(
                lambda: self._tells_readiness is not None or self._failure is not None
            )
            if self._failure is not None:
                raise self._failure
        except InferError:
            self._conversation.close()
            raise

    # --- what the owner does ---

    def fileno(self) -> int:
        """Return the descriptor that can be read when there is something to hear."""
        return self._channel.fileno()

    def serve(self, lost: Lost, soon: Soon) -> None:
        """Be watched from now on; `lost` is called once, from any thread, if the process ends by itself."""
        self._lost = lost
        self._channel.soon = soon
        self._hearer = threading.get_ident()
        if self._conversation.process.has_ended():
            self._ended()

    def hear(self) -> bool:
        """Take what the worker has sent, without waiting for more; return whether more may come."""
        return self._conversation.hear()

    def is_heavy(self, batch: Batch) -> bool:
        """Tell whether a batch takes so long to copy that others should not wait for it."""
        size = 0
        for request in batch.requests:
            for tensor in request.inputs.values():
                size += tensor.byte_size
        return size > HEAVY

    def begin(self, batch: Batch, emit: Emit, done: Done) -> None:
        """Send a batch to the worker; raises InferError where there is no room for it."""
        number = next(self._numbers)
        # What comes in the same turn goes together: to wake a worker costs more than all else about a batch.
        is_turn = bool(self._flights) and threading.get_ident() == self._hearer
        send = self._channel.post if is_turn else self._channel.send
        marks = [self._mark(request) for request in batch.requests]
        self._flights[number] = flight = _Flight(batch, emit, done, marks)
        spelt: Spelt = []
        try:
            for request, mark in zip(batch.requests, marks, strict=True):
                spelt.append(spell_request(request, self._arena, mark))
            send([Kind.BATCH, number, batch.size, spelt])
        except (ArenaFullError, ValueError) as error:
            take_back(spelt, self._arena)
            self._land(number, flight)
            raise InferError(Fault.UNAVAILABLE, f"the batch cannot be sent to its worker: {error}") from None

    def execute(self, batch: Batch, emit: Emit) -> None:
        """Run a batch, hear until all its requests are answered; raises InferError where it is refused."""
        outcome: list[InferError | None] = []
        self.begin(batch, emit, outcome.append)
        number = next(reversed(self._flights))
        self._conversation.wait_until(lambda: bool(outcome) and number not in self._flights, self.patience_s)
        if outcome[0] is not None:
            raise outcome[0]

    def forget_sequence(self, correlation_id: int | str, slot: int) -> None:
        """Tell the model that a sequence was abandoned."""
        self._channel.send([Kind.FORGET, correlation_id, slot])

    def overdue(self, batch: Batch) -> None:
        """End the process, for a batch has taken longer than `patience_s`."""
        if any(flight.batch is batch and flight.done is not None for flight in self._flights.values()):
            self._conversation.process.kill(LATE.format(self.patience_s))

    def has_begun(self, batch: Batch) -> bool:
        """Tell whether the worker has begun a batch that it had not returned."""
        begun = self._conversation.board.begun
        return any(flight.batch is batch and number <= begun for number, flight in self._flights.items())

    def is_ready(self) -> bool:
        """Ask the model, if it has something to say; one whose process is gone is not ready."""
        if self._conversation.process.has_ended():
            return False
        if not self._tells_readiness:
            return True
        number = next(self._numbers)
        check = self._checks[number] = _Check()
        self._channel.send([Kind.CHECK, number])
        if self._conversation.process.has_ended():  # since we looked; then nobody answers any more
            self._answer_checks()
        return check.wait()

    def close(self) -> None:
        """Have the model finalised, and end its process; requests still open get no answer any more."""
        self._lost = None
        self._channel.flush()
        conversation = self._conversation
        if not conversation.process.has_ended():
            self._channel.send([Kind.CLOSE])
            try:
                conversation.wait_until(lambda: self._is_closed, self._launch.close_s)
            except InferError as error:
                conversation.complain(error.message)
        for number, flight in list(self._flights.items()):
            self._land(number, flight)
        conversation.close()
        self._answer_checks()

    # --- what the worker says ---

    def _take_ready(self, message: Message) -> None:
        self._tells_readiness = bool(message[1])

    def _take_failure(self, message: Message) -> None:
        self._failure = read_error(message[1])

    def _take_return(self, message: Message) -> None:
        _, number, began, ended, error, responses, again = message
        flight = self._flights[number]
        done, flight.done = flight.done, None
        if done is None:
            raise MalformedError(f"batch {number} returned twice")
        batch = flight.batch
        batch.inputs_ready, batch.outputs_started = int(began), int(ended)
        for spelt in responses:
            self._emit(flight, spelt)
        if not flight.open.issuperset(again):
            raise MalformedError(f"batch {number} has no open rows {again}")
        batch.rescheduled = tuple(again)
        for row in again:
            flight.open.discard(row)
            self._close_request(flight, row)
        if error is not None or not flight.open:
            self._land(number, flight)
        done(None if error is None else read_error(error))

    def _take_response(self, message: Message) -> None:
        _, number, spelt = message
        flight = self._flights.get(number)
        if flight is None:
            return  # it was refused as a whole meanwhile
        self._emit(flight, spelt)
        if not flight.open and flight.done is None:
            self._land(number, flight)

    def _take_ask(self, message: Message) -> None:
        _, number, spelt, decoupled, address = message
        trace = None if address is None else self._trace(*address)
        request: Request = read_request(spelt, self._conversation.borrower, trace=trace)
        self._conversation.service.ask(number, request, decoupled=bool(decoupled))

    def _take_checked(self, message: Message) -> None:
        check = self._checks.pop(message[1], None)
        if check is not None:
            check.answer(bool(message[2]))

    def _take_wait(self, message: Message) -> None:
        _, waiting, number, row = message
        flight = self._flights.get(number)
        flow = None if flight is None or row not in flight.open else flight.batch.requests[row].flow
        result = [Kind.RESULT, waiting, None, None]
        if flow is None:  # the request is answered, and nothing more will be sent
            self._channel.send(result)
        else:
            flow.when_room(lambda: self._channel.send(result))

    def _take_closed(self, _: Message) -> None:
        self._is_closed = True

    def _emit(self, flight: _Flight, spelt: Sequence[object]) -> None:
        row, response = read_response(spelt, self._conversation.borrower)
        request = flight.batch.requests[row]
        if row not in flight.open:
            return  # it was given up while the model went on
        if request.flow is not None and self._streams and not response.silent:
            request.flow.spend(response.byte_size)
        if response.final:
            flight.open.discard(row)
            self._close_request(flight, row)
        flight.emit(row, response)

    # --- what becomes of requests ---

    def _mark(self, request: Request) -> int:
        """Return the mark of a request on the board, which is raised when the request is cancelled."""
        if not self._free_marks:
            return NO_MARK
        mark = self._free_marks.pop()
        marks = self._conversation.board.cancelled
        marks[mark] = request.cancelled
        request.on_cancel = partial(marks.__setitem__, mark, 1)
        return mark

    def _close_request(self, flight: _Flight, row: int) -> None:
        flight.batch.requests[row].on_cancel = None
        mark = flight.marks[row]
        if mark != NO_MARK:
            self._free_marks.append(mark)

    def _land(self, number: int, flight: _Flight) -> None:
        for row in flight.open:
            self._close_request(flight, row)
        flight.open.clear()
        self._flights.pop(number, None)

    def _trace(self, number: int, row: int) -> Trace | None:
        flight = self._flights.get(number)
        return None if flight is None else flight.batch.requests[row].trace

    # --- the end ---

    def _ended(self) -> None:
        self._answer_checks()
        lost, self._lost = self._lost, None
        if lost is not None:
            process = self._conversation.process
            lost(internal(f"{_FAILED.format(process.name)}{process.failure.message}"))

    def _answer_checks(self) -> None:
        for number in list(self._checks):
            check = self._checks.pop(number, None)
            if check is not None:
                check.answer(ready=False)


class _Check:
    """One question for the model's readiness, waited for on a thread."""

    __slots__ = ("_answered", "_ready")

    def __init__(self) -> None:
        self._answered = threading.Event()
        self._ready = False

    def answer(self, ready: bool) -> None:  # noqa: FBT001
        """Say what the model says."""
        self._ready = ready
        self._answered.set()

    def wait(self) -> bool:
        """Return what the model says, after waiting for it."""
        self._answered.wait()
        return self._ready
