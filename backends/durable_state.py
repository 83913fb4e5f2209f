"""Durable sequences: implicit state that outlives its server.

After each step of a sequence, and before the step is answered, its state is written to a store. So another
server, or the same one after its death, goes on with it where it was; which one a request comes to does not
matter. What is promised:

* *No step is lost.* What was answered was written.
* *No step is made twice,* for clients that give each request of a sequence an ID of its own: the record holds
  the ID and the answer, and a request that comes again is given that answer.
* *No step is made on an old state.* Before a step the token in the store is compared with the one that is
  remembered here; where somebody else went on, the state is read anew. And a record replaces only the one
  that its step began with: of two that go on at the same time one is told so.
* *No store, no step.* Where the store cannot be asked or written to, the request fails as UNAVAILABLE, and
  the state is what it was. Without that the other promises would be empty.

A record is forgotten when the sequence was idle for as long as its configuration allows. A sequence that came
to its END leaves one too, for those who did not hear the last answer.

A `DurableEngine` stands round a `StatefulEngine`: it decides what the state of a sequence is, the other what
a model sees of it. Requests that need no step, or cannot have one, run with the batch all the same, so that
each row stays where it is, and what the model says of them is dropped.
"""

import hashlib
import secrets
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ..proto.config import ModelConfig
from ..proto.errors import Fault, InferError, internal
from ..proto.message import Request, Response
from ..proto.sequence_controls import no_start
from ..proto.sequence_record import TOKEN_SIZE, SequenceRecord, SequenceRecordError, read, spell
from ..proto.stored_outputs import StoredOutputs, StoredOutputsError
from .api import Batch, Emit, Plan, Seat
from .implicit_state import StatefulEngine
from .sequence_store import Put, SequenceStore, SequenceStoreError

PREFIX: Final = "deuteron:sequence:"

Answer = tuple[int, Response]
"""A row, and what it is answered with."""


def can_endure(config: ModelConfig) -> bool:
    """Tell whether all that is to be known of a model's sequences is in its implicit states and answers."""
    batching = config.sequence_batching
    return (
        batching is not None
        and bool(batching.state)
        and not batching.iterative_sequence
        and not config.decoupled
    )


class DurablePlan:
    """A plan whose engines keep the states of sequences in a store as well."""

    __slots__ = ("_config", "_plan", "_store", "_version")

    def __init__(self, plan: Plan, store: SequenceStore, config: ModelConfig, version: int) -> None:
        """Take a plan that makes stateful engines."""
        self._plan = plan
        self._store = store
        self._config = config
        self._version = version

    def engine(self, seat: Seat) -> "DurableEngine":
        """Make the engine of one instance, which remembers no sequence yet."""
        engine = self._plan.engine(seat)
        assert isinstance(engine, StatefulEngine), "only implicit state can be kept"
        return DurableEngine(engine, self._store, self._config, self._version)

    def close(self) -> None:
        """Give back what is shared; the store is not."""
        self._plan.close()


@dataclass(frozen=True, slots=True)
class _Step:
    """A request that continues or begins a sequence."""

    request: Request
    slot: int
    key: str
    replaces: bytes | None = None
    """The token of the step before; None where a sequence begins."""
    answer: Response | None = None
    """What it is answered with, where it is no step at all."""


@dataclass(frozen=True, slots=True)
class _Memory:
    """What is known here of the sequence that was served last in a slot."""

    key: str
    token: bytes
    request_id: str
    ended: bool


class DurableEngine:
    """An engine whose sequences are known to a store."""

    __slots__ = ("_engine", "_keep_ms", "_memories", "_model", "_prefix", "_store")

    def __init__(
        self, engine: StatefulEngine, store: SequenceStore, config: ModelConfig, version: int
    ) -> None:
        assert config.sequence_batching is not None
        self._engine = engine
        self._store = store
        self._model = config.name
        self._prefix = f"{PREFIX}{config.name}:{version}:"
        self._keep_ms = -(-config.sequence_batching.max_sequence_idle_microseconds // 1000)
        self._memories: dict[int, _Memory] = {}

    def execute(self, batch: Batch, emit: Emit) -> None:
        """Run a batch on the states that are true now, and write what it made of them before it is told."""
        steps = self._steps(batch.requests)
        lock = threading.Lock()
        gathered: list[Answer] = []
        has_returned = False

        def take(row: int, response: Response) -> None:
            with lock:
                if not has_returned:
                    gathered.append((row, response))
                    return
            self._finish(steps, [(row, response)], emit)  # from a thread of the model's own

        if any(step is None or step.answer is None for step in steps):
            try:
                self._engine.execute(batch, take)
            except BaseException:
                self._undo(steps)
                raise
        with lock:
            has_returned = True
        answered = {row: step.answer for row, step in enumerate(steps) if step is not None and step.answer}
        made = [(row, response) for row, response in gathered if row not in answered]
        self._finish(steps, [*answered.items(), *made], emit)

    def forget_sequence(self, correlation_id: int | str, slot: int) -> None:
        """Let what is remembered here go; the store keeps its own time, for others may have gone on."""
        self._memories.pop(slot, None)
        self._engine.forget_sequence(correlation_id, slot)

    def close(self) -> None:
        """Forget what is remembered here."""
        self._memories.clear()
        self._engine.close()

    # --- before the batch ---

    def _steps(self, requests: Sequence[Request]) -> list[_Step | None]:
        """Return the step that each row is, None for rows of no sequence; raises InferError."""
        steps: list[_Step | None] = [self._begun(request) for request in requests]
        going_on = [(row, step) for row, step in enumerate(steps) if step and not _starts(step.request)]
        try:
            tokens = self._store.tokens([step.key for _, step in going_on]) if going_on else ()
            unknown = []
            for (row, step), token in zip(going_on, tokens, strict=True):
                memory = self._memories.get(step.slot)
                known = memory is not None and (memory.key, memory.token) == (step.key, token)
                if known and memory is not None and not (memory.ended or _repeats(step, memory.request_id)):
                    steps[row] = _Step(step.request, step.slot, step.key, token)
                else:
                    unknown.append((row, step))
            records = self._store.records([step.key for _, step in unknown]) if unknown else ()
        except SequenceStoreError as error:
            raise _unavailable(error) from error
        for (row, step), spelt in zip(unknown, records, strict=True):
            steps[row] = self._resumed(step, spelt)
        return steps

    def _begun(self, request: Request) -> _Step | None:
        correlation, slot = request.correlation, request.sequence_slot
        if correlation is None or slot is None:
            return None
        name = f"{type(correlation.id).__name__} {correlation.id}".encode(errors="surrogatepass")
        return _Step(request, slot, self._prefix + hashlib.sha256(name).hexdigest())

    def _resumed(self, step: _Step, spelt: bytes) -> _Step:
        """Return a step on what the store keeps of its sequence, or with the answer it has already."""
        self._memories.pop(step.slot, None)
        try:
            record = read(spelt) if spelt else None
        except SequenceRecordError as error:
            refusal = internal(f"the sequence store holds something else than this sequence: {error}")
            return _answered(step, Response(error=refusal))
        if record is not None and record.answers(step.request.id):
            return _answered(step, Response(record.outputs.restored(), record.parameters))
        if record is None or record.ended:
            assert step.request.correlation is not None
            refusal = no_start(step.request.correlation.id, self._model)
            return _answered(step, Response(error=refusal))
        self._engine.restore(step.slot, record.states.restored())
        return _Step(step.request, step.slot, step.key, record.token)

    # --- after it ---

    def _finish(self, steps: Sequence[_Step | None], answers: Iterable[Answer], emit: Emit) -> None:
        """Write what steps have changed, then answer."""
        puts: list[tuple[int, Response, _Step, SequenceRecord]] = []
        for row, response in answers:
            step = steps[row]
            if step is None or step.answer is not None:
                if step is not None:
                    self._memories.pop(step.slot, None)
                emit(row, response)
            elif response.error is not None and not _starts(step.request):
                emit(row, response)  # the state is what it was
            else:
                puts.append((row, response, step, self._record(step, response)))
        for (row, response, step, record), error in zip(puts, self._write(puts), strict=True):
            if error is None:
                self._memories[step.slot] = _Memory(step.key, record.token, record.request_id, record.ended)
            else:
                self._memories.pop(step.slot, None)
            emit(row, response if error is None or response.error is not None else Response(error=error))

    def _record(self, step: _Step, response: Response) -> SequenceRecord:
        """Return what is to be kept of a step; of a START that failed, the state it began with."""
        assert step.request.correlation is not None
        served = response.error is None
        ended = served and step.request.correlation.end
        return SequenceRecord(
            secrets.token_bytes(TOKEN_SIZE),
            step.request.id if served else "",
            ended,
            StoredOutputs.of({} if ended else self._engine.states(step.slot)),
            StoredOutputs.of(response.outputs if served else {}),
            response.parameters,
        )

    def _write(
        self, puts: Sequence[tuple[int, Response, _Step, SequenceRecord]]
    ) -> Sequence[InferError | None]:
        """Write records; return for each why it could not be written."""
        if not puts:
            return ()
        errors: list[InferError | None] = [None] * len(puts)
        ready: list[tuple[int, Put]] = []
        for place, (_, _, step, record) in enumerate(puts):
            try:
                spelt = spell(record)
            except StoredOutputsError as error:
                errors[place] = internal(f"the state of the sequence cannot be kept: {error}")
                continue
            if len(spelt) > self._store.largest:
                errors[place] = internal(
                    f"the state of the sequence cannot be kept: it has {len(spelt)} bytes with its answer, "
                    f"and the sequence store takes {self._store.largest}"
                )
            else:
                ready.append((place, Put(step.key, spelt, step.replaces, self._keep_ms)))
        try:
            written = self._store.write([put for _, put in ready])
        except SequenceStoreError as error:
            for place, _ in ready:
                errors[place] = _unavailable(error)
            return errors
        for (place, _), is_written in zip(ready, written, strict=True):
            if not is_written:
                errors[place] = InferError(Fault.UNAVAILABLE, _OVERTAKEN)
        return errors

    def _undo(self, steps: Iterable[_Step | None]) -> None:
        """Let no state of a batch that failed as a whole count: what follows begins with the store."""
        failed = Response(error=internal(""))
        started = [
            (0, failed, step, self._record(step, failed))
            for step in steps
            if step is not None and _starts(step.request)
        ]
        self._write(started)
        for step in steps:
            if step is not None:
                self._memories.pop(step.slot, None)


def _starts(request: Request) -> bool:
    return request.correlation is not None and request.correlation.start


def _repeats(step: _Step, request_id: str) -> bool:
    return bool(step.request.id) and step.request.id == request_id


def _answered(step: _Step, answer: Response) -> _Step:
    return _Step(step.request, step.slot, step.key, answer=answer)


def _unavailable(error: SequenceStoreError) -> InferError:
    return InferError(
        Fault.UNAVAILABLE, f"the sequence store cannot be reached, the request may be sent again: {error}"
    )


_OVERTAKEN: Final = (
    "the sequence was continued by another server, or forgotten, while this step ran; the step was not made"
)
