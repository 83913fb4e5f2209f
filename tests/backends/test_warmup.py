"""Warm-up: what samples are made of, how they are run, and what is said when that fails."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deuteron.backends.api import Batch, Emit, Seat
from deuteron.backends.device import HOST, HostStream
from deuteron.backends.identity import IdentityBackend
from deuteron.backends.warmup import WarmedPlan, WarmupBatch, warmup_batches
from deuteron.proto.byte_strings import encode_byte_strings
from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import Fault, InferError, internal
from deuteron.proto.message import Response

from .conftest import Rig

SEAT = Seat("model_0", 0, HOST, HostStream())

Make = Callable[..., list[WarmupBatch]]


@pytest.fixture
def make(rig: Rig) -> Make:
    """Make the samples of a model whose one input, `X`, has the type and the size that its sample gives."""

    def make_(
        sample: str, datatype: str = "TYPE_FP32", more: str = "", size: int = 1, max_batch_size: int = 8
    ) -> list[WarmupBatch]:
        config = f"""
            max_batch_size: {max_batch_size}
            input {{ name: 'X' data_type: {datatype} dims: [ 4 ] }}
            output {{ name: 'Y' data_type: {datatype} dims: [ 4 ] }}
            model_warmup {{ name: 'sample' batch_size: {size} {more}
              inputs {{ key: 'X' value {{ data_type: {datatype} dims: [ 4 ] {sample} }} }} }}
        """
        return warmup_batches(rig.config(config), rig.files.directory)

    return make_


class Recorder:
    """An engine that keeps what it is given, and answers as it is told."""

    def __init__(self, answer: Callable[[Batch, Emit], None]) -> None:
        self.batches: list[Batch] = []
        self.closed = False
        self._answer = answer

    def execute(self, batch: Batch, emit: Emit) -> None:
        self.batches.append(batch)
        self._answer(batch, emit)

    def close(self) -> None:
        self.closed = True


def answer_all(batch: Batch, emit: Emit) -> None:
    for row in range(len(batch.requests)):
        emit(row, Response())


# --- what samples are made of ---


def test_a_sample_of_an_iterative_model_runs_one_step(make: Make) -> None:
    """The request would come again; nobody waits for that."""

    def reschedule(batch: Batch, emit: Emit) -> None:
        batch.rescheduled = [0]

    recorder = Recorder(reschedule)
    (sample,) = make("zero_data: true")
    sample.run(recorder, SEAT)
    assert len(recorder.batches) == 1


def test_zeros_have_the_batch_dimension_of_one_row(make: Make) -> None:
    (batch,) = make("zero_data: true")
    tensor = batch.requests[0].inputs["X"]
    assert (tensor.datatype, tensor.shape) == (Datatype.FP32, (1, 4))
    assert not tensor.numpy().any()


def test_a_model_without_batches_gets_the_shape_as_it_is(make: Make) -> None:
    (batch,) = make("zero_data: true", max_batch_size=0)
    assert batch.requests[0].inputs["X"].shape == (4,)


def test_a_name_that_is_no_input_of_the_model_gets_the_shape_as_it_is(make: Make) -> None:
    control = "inputs { key: 'START' value { data_type: TYPE_INT32 dims: [ 1 ] zero_data: true } }"
    (batch,) = make("zero_data: true", more=control)
    assert batch.requests[0].inputs["START"].shape == (1,)


@pytest.mark.parametrize("datatype", [each for each in Datatype if each is not Datatype.INVALID])
@pytest.mark.parametrize("data", ["zero_data", "random_data"])
def test_every_datatype_can_be_made(make: Make, datatype: Datatype, data: str) -> None:
    (batch,) = make(f"{data}: true", datatype.config_name)
    tensor = batch.requests[0].inputs["X"]
    assert tensor.datatype is datatype
    assert tensor.numpy().dtype == datatype.numpy_type
    assert tensor.byte_size == (datatype.item_size or 4) * 4  # an empty string is its length alone


def test_random_numbers_differ_from_each_other_and_not_from_one_load_to_the_next(make: Make) -> None:
    first, again = (make("random_data: true")[0].requests[0].inputs["X"].numpy() for _ in range(2))
    assert len(set(first.ravel().tolist())) == 4
    np.testing.assert_array_equal(first, again)


def test_data_may_come_from_a_file(make: Make, rig: Rig) -> None:
    (rig.files.directory / "warmup").mkdir()
    (rig.files.directory / "warmup" / "x").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (batch,) = make("input_data_file: 'x'")
    assert batch.requests[0].inputs["X"].numpy().tolist() == [[0, 1, 2, 3]]


def test_strings_may_come_from_a_file(make: Make, rig: Rig) -> None:
    (rig.files.directory / "warmup").mkdir()
    strings = encode_byte_strings(np.array([b"a", b"", b"ccc", b"d"], np.object_))
    (rig.files.directory / "warmup" / "x").write_bytes(strings)
    (batch,) = make("input_data_file: 'x'", "TYPE_STRING")
    assert batch.requests[0].inputs["X"].numpy().tolist() == [[b"a", b"", b"ccc", b"d"]]


def test_a_batch_has_as_many_requests_as_its_size_says(make: Make) -> None:
    (batch,) = make("zero_data: true", size=3)
    assert [request.batch_size for request in batch.requests] == [1, 1, 1]
    assert make("zero_data: true", size=0) == []


@pytest.mark.parametrize(
    ("sample", "datatype", "content", "said"),
    [
        (
            "'x'",
            "TYPE_FP32",
            b"1234567",
            "[request id: <id_unknown>] warmup setting expects 16 bytes, but the data provided from xonly ",
        ),
        (
            "'nowhere'",
            "TYPE_FP32",
            b"",
            "failed to read warmup data file 'nowhere' for input 'X': No such file",
        ),
        ("'../secret'", "TYPE_FP32", b"", "warmup data file '../secret' for input 'X' is outside the warmup"),
        ("'/etc/passwd'", "TYPE_FP32", b"", "warmup data file '/etc/passwd' for input 'X' is outside"),
        ("'x'", "TYPE_STRING", b"\x01\0\0\0a", "warmup setting expects 4 strings, but x has 1"),
        ("'x'", "TYPE_STRING", b"\x09\0\0\0a", "warmup data file 'x' cannot be read as strings"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(
    make: Make, rig: Rig, sample: str, datatype: str, content: bytes, said: str
) -> None:
    (rig.files.directory / "warmup").mkdir()
    (rig.files.directory / "warmup" / "x").write_bytes(content)
    (rig.files.directory / "secret").write_bytes(bytes(16))
    with pytest.raises(InferError) as refused:
        make(f"input_data_file: {sample}", datatype)
    assert said in refused.value.message


def test_a_link_out_of_the_directory_is_not_followed(make: Make, rig: Rig, tmp_path: Path) -> None:
    (rig.files.directory / "warmup").mkdir()
    (rig.files.directory / "warmup" / "x").symlink_to("/etc/passwd")
    with pytest.raises(InferError, match="is outside the warmup directory"):
        make("input_data_file: 'x'")


@pytest.mark.parametrize(("max_batch_size", "limit"), [(8, 8), (0, 1024)])
def test_a_batch_beyond_the_bounds_is_refused(make: Make, max_batch_size: int, limit: int) -> None:
    with pytest.raises(InferError, match=f"has batch size 4000000000, more than the {limit} that"):
        make("zero_data: true", size=4000000000, max_batch_size=max_batch_size)


# --- how they are run ---


def test_a_sample_runs_as_one_batch_as_often_as_it_says(make: Make) -> None:
    engine = Recorder(answer_all)
    (batch,) = make("zero_data: true", size=3, more="count: 5")
    batch.run(engine, SEAT)
    assert [each.size for each in engine.batches] == [3] * 5


def test_an_engine_that_answers_later_is_waited_for(make: Make) -> None:
    answered = threading.Event()

    def answer_later(batch: Batch, emit: Emit) -> None:
        def answer() -> None:
            emit(0, Response(final=False))
            answered.set()
            emit(0, Response(final=True, silent=True))

        threading.Thread(target=answer).start()

    (batch,) = make("zero_data: true")
    batch.run(Recorder(answer_later), SEAT)
    assert answered.is_set()


def refuse(batch: Batch, emit: Emit) -> None:
    raise internal("no")


def break_down(batch: Batch, emit: Emit) -> None:
    raise ZeroDivisionError("by nothing")


def answer_with_errors(batch: Batch, emit: Emit) -> None:
    for row in range(len(batch.requests)):
        emit(row, Response(error=internal(f"bad {row}")))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refuse, "no; "),
        (break_down, "ZeroDivisionError: by nothing; "),
        (answer_with_errors, "bad 0; bad 1; "),
    ],
)
def test_a_sample_that_fails_is_told_in_triton_s_words(
    make: Make, answer: Callable[[Batch, Emit], None], said: str
) -> None:
    (batch,) = make("zero_data: true", size=2)
    with pytest.raises(InferError) as failed:
        batch.run(Recorder(answer), SEAT)
    assert failed.value.fault is Fault.INTERNAL
    assert failed.value.message == f"failed to run warmup sample 'sample': {said}"


class PlanOf:
    """A plan that seats one engine."""

    def __init__(self, engine: Recorder) -> None:
        self._engine = engine
        self.closed = False

    def engine(self, seat: Seat) -> Recorder:
        return self._engine

    def close(self) -> None:
        self.closed = True


def test_an_engine_is_given_away_warm_and_one_that_fails_is_closed(make: Make) -> None:
    warm, broken = Recorder(answer_all), Recorder(refuse)
    batches = make("zero_data: true")
    assert WarmedPlan(PlanOf(warm), batches).engine(SEAT) is warm
    assert (len(warm.batches), warm.closed) == (1, False)
    with pytest.raises(InferError):
        WarmedPlan(PlanOf(broken), batches).engine(SEAT)
    assert broken.closed


def test_the_plan_is_closed_with_the_warmed_one(make: Make) -> None:
    plan = PlanOf(Recorder(answer_all))
    WarmedPlan(plan, make("zero_data: true")).close()
    assert plan.closed


def test_a_real_engine_is_warmed_up(rig: Rig) -> None:
    config = rig.config("""
        max_batch_size: 8
        input { name: 'INPUT0' data_type: TYPE_FP32 dims: [ 4 ] }
        output { name: 'OUTPUT0' data_type: TYPE_FP32 dims: [ 4 ] }
        parameters { key: 'fail_every' value { string_value: '4' } }
        model_warmup { name: 'sample' batch_size: 8 count: 3
          inputs { key: 'INPUT0' value { data_type: TYPE_FP32 dims: [ 4 ] random_data: true } } }
    """)
    plan = WarmedPlan(
        IdentityBackend({}).load(config, rig.files, HOST), warmup_batches(config, rig.files.directory)
    )
    engine = plan.engine(SEAT)
    with pytest.raises(InferError):  # the fourth execution of the engine, the first that is not its warm-up
        engine.execute(Rig.batch(Rig.request(INPUT0=np.zeros((1, 4), np.float32))), lambda *_: None)
