"""Durable sequences: whoever goes on with one finds its true state, and no step is made twice."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from deuteron.backends.api import Batch, Emit, Engine, Seat
from deuteron.backends.device import HOST, HostStream
from deuteron.backends.durable_state import DurableEngine, DurablePlan, can_endure
from deuteron.backends.implicit_state import StatefulPlan, state_pairs
from deuteron.backends.sequence_store import Put, SequenceStoreError
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import Correlation, Request, Response
from deuteron.proto.sequence_record import TOKEN_END, TOKEN_START
from deuteron.proto.tensor import Tensor

from .conftest import Rig
from .test_implicit_state import CONFIG, Adder, AdderPlan

NO_START = "must specify the START flag on the first request of the sequence"


class Shelf:
    """A store in this process, which can be out of order."""

    def __init__(self) -> None:
        self.largest = 10_000
        self.kept: dict[str, Put] = {}
        self.works = True
        self.answers = True
        self.calls: list[str] = []

    def tokens(self, keys: Sequence[str]) -> Sequence[bytes]:
        return [each[TOKEN_START:TOKEN_END] for each in self._look("tokens", keys)]

    def records(self, keys: Sequence[str]) -> Sequence[bytes]:
        return self._look("records", keys)

    def write(self, puts: Sequence[Put]) -> Sequence[bool]:
        self._ask("write")
        written = [self._write(put) for put in puts]
        if not self.answers:
            raise SequenceStoreError("the answer was lost")
        return written

    def _write(self, put: Put) -> bool:
        there = self.kept.get(put.key)
        if put.replaces not in (None, there.spelt[TOKEN_START:TOKEN_END] if there else b""):
            return False
        self.kept[put.key] = put
        return True

    def _look(self, call: str, keys: Sequence[str]) -> Sequence[bytes]:
        self._ask(call)
        return [self.kept[key].spelt if key in self.kept else b"" for key in keys]

    def _ask(self, call: str) -> None:
        if not self.works:
            raise SequenceStoreError("it is away")
        self.calls.append(call)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def server(rig: Rig, shelf: Shelf, plan: AdderPlan | None = None) -> DurableEngine:
    """Return an engine as a server has it: it knows of no sequence but by the store."""
    frozen = rig.config(CONFIG)
    stateful = StatefulPlan(plan or AdderPlan(), state_pairs(frozen, rig.files.directory), frozen)
    return DurablePlan(stateful, shelf, frozen, 1).engine(Seat("model_0", 0, HOST, HostStream()))


def step(number: int, flags: str = "", id_: int | str = 7, slot: int = 0, name: str = "") -> Request:
    """Return a step of a sequence; `flags` holds s for START, e for END, `name` is the ID of the request."""
    request = Rig.request(X=np.array([[number]], np.int32))
    request.id = name
    request.sequence_slot = slot
    request.correlation = Correlation(id_, "s" in flags, "e" in flags)
    return request


def answers(rig: Rig, engine: Engine, *requests: Request) -> list[int | str]:
    """Run a batch; return the sum or the error of each row."""
    return [
        each.outputs["Y"].numpy().item() if each.error is None else each.error.message
        for each in rig.run(engine, *requests)
    ]


# --- going on ---


def test_another_server_goes_on_where_the_first_was(rig: Rig, shelf: Shelf) -> None:
    one, two = server(rig, shelf), server(rig, shelf)
    assert answers(rig, one, step(1, "s")) == [1]
    assert answers(rig, two, step(2)) == [3]
    assert answers(rig, one, step(3)) == [6], "the first has not what the second did"
    assert answers(rig, two, step(4, "e", slot=1)) == [10]


def test_ids_slots_and_sequences_are_told_apart(rig: Rig, shelf: Shelf) -> None:
    one, two = server(rig, shelf), server(rig, shelf)
    begun = (step(1, "s"), step(10, "s", "7", 1), step(100, "s", 8, 2))
    assert answers(rig, one, *begun) == [1, 10, 100]
    moved = (step(1, "", 8, 0), step(1, "", 7, 1), step(1, "", "7", 2))
    assert answers(rig, two, *moved) == [101, 2, 11]


def test_who_goes_on_alone_asks_for_tokens_only(rig: Rig, shelf: Shelf) -> None:
    engine = server(rig, shelf)
    answers(rig, engine, step(1, "s"))
    answers(rig, engine, step(2))
    assert shelf.calls == ["write", "tokens", "write"]


def test_a_start_begins_anew(rig: Rig, shelf: Shelf) -> None:
    engine = server(rig, shelf)
    answers(rig, engine, step(1, "s"))
    assert answers(rig, engine, step(5, "s")) == [5]
    assert answers(rig, server(rig, shelf), step(5)) == [10]


def test_what_is_not_known_must_begin_with_start(rig: Rig, shelf: Shelf) -> None:
    engine = server(rig, shelf)
    answers(rig, engine, step(1, "s", 8), step(1, "s", 9, 1))
    unknown, known = answers(rig, engine, step(1, "", 7), step(1, "", 9, 1))
    assert str(unknown).endswith(f"inference request for sequence 7 to model 'model' {NO_START}")
    assert known == 2


def test_a_sequence_is_over_after_its_end(rig: Rig, shelf: Shelf) -> None:
    engine = server(rig, shelf)
    answers(rig, engine, step(1, "s"), step(1, "s", 8, 1))
    answers(rig, engine, step(1, "e"))
    for each in (engine, server(rig, shelf)):
        (told,) = answers(rig, each, step(1))
        assert NO_START in str(told)


def test_a_row_without_a_sequence_is_none_of_the_stores(rig: Rig, shelf: Shelf) -> None:
    empty = Rig.request(X=np.array([[3]], np.int32))
    assert answers(rig, server(rig, shelf), empty) == [3]
    assert shelf.calls == []


def test_a_record_is_kept_as_long_as_a_sequence_may_be_idle(rig: Rig, shelf: Shelf) -> None:
    config = CONFIG.replace(
        "sequence_batching {", "sequence_batching { max_sequence_idle_microseconds: 1500001"
    )
    frozen = rig.config(config)
    plan = StatefulPlan(AdderPlan(), state_pairs(frozen, rig.files.directory), frozen)
    engine = DurablePlan(plan, shelf, frozen, 1).engine(Seat("model_0", 0, HOST, HostStream()))
    answers(rig, engine, step(1, "s"))
    assert [put.keep_ms for put in shelf.kept.values()] == [1501]


# --- once ---


def test_a_request_that_comes_again_is_given_its_answer(rig: Rig, shelf: Shelf) -> None:
    one, two = server(rig, shelf), server(rig, shelf)
    answers(rig, one, step(1, "s", name="a"))
    assert answers(rig, one, step(2, name="b")) == [3]
    for engine in (one, two):
        assert answers(rig, engine, step(2, name="b")) == [3]
    assert answers(rig, two, step(3, name="c")) == [6]


def test_an_end_that_comes_again_is_given_its_answer(rig: Rig, shelf: Shelf) -> None:
    engine = server(rig, shelf)
    answers(rig, engine, step(1, "s", name="a"))
    assert answers(rig, engine, step(2, "e", name="b")) == [3]
    assert answers(rig, server(rig, shelf), step(2, "e", name="b")) == [3]


def test_a_request_without_an_id_is_always_a_step(rig: Rig, shelf: Shelf) -> None:
    engine = server(rig, shelf)
    assert answers(rig, engine, step(1, "s")) == [1]
    assert [answers(rig, engine, step(1)), answers(rig, engine, step(1))] == [[2], [3]]


def test_a_step_whose_answer_was_lost_is_made_once(rig: Rig, shelf: Shelf) -> None:
    """The store wrote it, and nobody heard so."""
    engine = server(rig, shelf)
    answers(rig, engine, step(1, "s", name="a"))
    shelf.answers = False
    (told,) = answers(rig, engine, step(2, name="b"))
    assert "may be sent again: the answer was lost" in str(told)
    shelf.answers = True
    assert answers(rig, engine, step(2, name="b")) == [3]
    assert answers(rig, engine, step(3, name="c")) == [6]


class Meddler(Adder):
    """A model whose step takes so long that somebody else goes on meanwhile."""

    meddle = staticmethod(lambda: None)

    def execute(self, batch: Batch, emit: Emit) -> None:
        self.meddle()
        super().execute(batch, emit)


class MeddlerPlan(AdderPlan):
    """Makes the one that it was given."""

    def __init__(self) -> None:
        self.model = Meddler()

    def engine(self, seat: Seat) -> Adder:
        return self.model


def test_of_two_that_go_on_at_the_same_time_one_makes_no_step(rig: Rig, shelf: Shelf) -> None:
    plan = MeddlerPlan()
    slow, quick = server(rig, shelf, plan), server(rig, shelf)
    answers(rig, slow, step(1, "s"), step(1, "s", 8, 1))
    plan.model.meddle = lambda: answers(rig, quick, step(10))  # type: ignore[assignment]
    told, other = answers(rig, slow, step(100), step(1, "", 8, 1))
    assert "was continued by another server" in str(told)
    assert other == 2
    assert answers(rig, quick, step(1)) == [12]


# --- what goes wrong ---


@pytest.mark.parametrize("flags", ["", "s"])
def test_without_the_store_there_is_no_step(rig: Rig, shelf: Shelf, flags: str) -> None:
    engine = server(rig, shelf)
    answers(rig, engine, step(1, "s"))
    shelf.works = False
    try:
        (response,) = rig.run(engine, step(2, flags))
        error = response.error
    except InferError as refusal:
        error = refusal
    assert error is not None
    assert error.fault is Fault.UNAVAILABLE
    assert error.message == "the sequence store cannot be reached, the request may be sent again: it is away"
    shelf.works = True
    assert answers(rig, engine, step(2)) == [3]


def test_a_state_that_is_too_large_is_not_a_step(rig: Rig, shelf: Shelf) -> None:
    engine = server(rig, shelf)
    answers(rig, engine, step(1, "s"))
    shelf.largest = 10
    (told,) = answers(rig, engine, step(2))
    assert "and the sequence store takes 10" in str(told)
    shelf.largest = 1000
    assert answers(rig, engine, step(2)) == [3]


def test_a_batch_that_fails_changes_no_state(rig: Rig, shelf: Shelf) -> None:
    engine = server(rig, shelf)
    answers(rig, engine, step(1, "s", name="a"), step(5, "s", 8, 1))
    with pytest.raises(InferError, match="13 is refused"):
        rig.run(engine, step(2), step(13, "", 8, 1))
    assert answers(rig, engine, step(2), step(1, "", 8, 1)) == [3, 6]


def test_a_start_that_fails_has_begun_all_the_same(rig: Rig, shelf: Shelf) -> None:
    """As without a store: what was before is gone, and the next request begins at the beginning."""
    engine = server(rig, shelf)
    answers(rig, engine, step(1, "s"))
    with pytest.raises(InferError, match="13 is refused"):
        rig.run(engine, step(13, "s"))
    assert answers(rig, server(rig, shelf), step(2)) == [2]


def test_a_record_that_nobody_of_ours_wrote_is_an_error_of_that_row(rig: Rig, shelf: Shelf) -> None:
    engine = server(rig, shelf)
    answers(rig, engine, step(1, "s"), step(1, "s", 8, 1))
    key, put = next(iter(shelf.kept.items()))
    shelf.kept[key] = Put(key, b"something else entirely", None, 1)
    told, other = answers(rig, engine, step(1), step(1, "", 8, 1))
    assert "the sequence store holds something else than this sequence" in str(told)
    assert other == 2
    shelf.kept[key] = put
    assert answers(rig, engine, step(1)) == [2]


class Late(Adder):
    """A model that answers from a thread of its own, after its batch has returned."""

    def execute(self, batch: Batch, emit: Emit) -> None:
        self.thread = threading.Timer(0.01, super().execute, (batch, emit))
        self.thread.start()


class LatePlan(AdderPlan):
    """Makes such models."""

    def engine(self, seat: Seat) -> Adder:
        return Late()


def test_an_answer_that_comes_late_is_written_before_it_is_told(rig: Rig, shelf: Shelf) -> None:
    engine = server(rig, shelf, LatePlan())
    told: list[tuple[int, list[str]]] = []
    heard = threading.Event()

    def emit(row: int, response: Response) -> None:
        told.append((response.outputs["Y"].numpy().item(), list(shelf.calls)))
        heard.set()

    engine.execute(rig.batch(step(1, "s")), emit)
    assert heard.wait(10)
    assert told == [(1, ["write"])]
    assert answers(rig, server(rig, shelf), step(2)) == [3]


def test_an_abandoned_sequence_is_forgotten_here_and_not_in_the_store(rig: Rig, shelf: Shelf) -> None:
    """Another server may have gone on with it."""
    engine = server(rig, shelf)
    answers(rig, engine, step(1, "s"))
    engine.forget_sequence(7, 0)
    assert answers(rig, engine, step(2)) == [3]


STATELESS = "max_batch_size: 4 sequence_batching { }"
STATE = "state { input_name: 'A' output_name: 'B' data_type: TYPE_INT32 dims: 1 }"


@pytest.mark.parametrize(
    ("config", "endures"),
    [
        (f"sequence_batching {{ {STATE} }}", True),
        ("sequence_batching { }", False),
        (f"sequence_batching {{ {STATE} iterative_sequence: true }}", False),
        (f"sequence_batching {{ {STATE} }} model_transaction_policy {{ decoupled: true }}", False),
        ("dynamic_batching { }", False),
    ],
)
def test_what_endures_is_implicit_state(rig: Rig, config: str, endures: bool) -> None:
    assert can_endure(rig.config(config)) is endures


def test_the_outputs_of_a_replayed_answer_are_those_the_client_knows(rig: Rig, shelf: Shelf) -> None:
    engine = server(rig, shelf)
    rig.run(engine, step(1, "s"))
    for _ in range(2):
        (response,) = rig.run(engine, step(2, name="b"))
        assert {name: tensor.numpy().tolist() for name, tensor in response.outputs.items()} == {"Y": [[3]]}
        assert isinstance(response.outputs["Y"], Tensor)
