"""Implicit state: what a model says to itself from one request of a sequence to the next."""

import struct
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from deuteron.backends.api import Batch, Emit, Engine, RemembersSequences, Seat
from deuteron.backends.device import HOST, HostStream
from deuteron.backends.implicit_state import StatefulPlan, state_pairs, with_states
from deuteron.backends.onnxruntime import OnnxRuntimeBackend
from deuteron.proto.errors import InferError, internal
from deuteron.proto.message import Correlation, Request, Response
from deuteron.proto.tensor import Tensor

from .conftest import Rig

MODEL = """
max_batch_size: 4
input { name: 'X' data_type: TYPE_INT32 dims: 1 }
output { name: 'Y' data_type: TYPE_INT32 dims: 1 }
"""
STATE = "input_name: 'SUM_IN' output_name: 'SUM_OUT' data_type: TYPE_INT32 dims: 1"
CONFIG = MODEL + f"sequence_batching {{ state {{ {STATE} }} }}"
FROM_FILE = "initial_state { data_type: TYPE_INT32 dims: 1 name: 'begin' data_file: 'begin.bin' }"


class Adder:
    """A model that adds X to its state and answers with the sum; it refuses the number 13."""

    def execute(self, batch: Batch, emit: Emit) -> None:
        """Answer every request."""
        for row, request in enumerate(batch.requests):
            total = request.inputs["X"].numpy() + request.inputs["SUM_IN"].numpy()
            if (request.inputs["X"].numpy() == 13).any():
                raise internal("13 is refused")
            outputs = {name: Tensor.from_numpy(total) for name in ("Y", "SUM_OUT")}
            wanted = request.requested_outputs or ("Y", "SUM_OUT")
            emit(row, Response({name: outputs[name] for name in wanted}))

    def close(self) -> None:
        """Give back nothing."""


class AdderPlan:
    """Makes such models."""

    def engine(self, seat: Seat) -> Adder:
        """Make one."""
        return Adder()

    def close(self) -> None:
        """Give back nothing."""


def engine_of(rig: Rig, config: str = CONFIG) -> Engine:
    """Return an adder with states."""
    frozen = rig.config(config)
    plan = StatefulPlan(AdderPlan(), state_pairs(frozen, rig.files.directory), frozen)
    return plan.engine(Seat("model_0", 0, HOST, HostStream()))


def asked(number: int, slot: int | None, flags: str = "", *outputs: str) -> Request:
    """Ask for a number in a slot; `flags` holds s for START, e for END."""
    request = Rig.request(outputs, X=np.array([[number]], np.int32))
    request.sequence_slot = slot
    request.correlation = Correlation(1, "s" in flags, "e" in flags) if slot is not None else None
    return request


def sums(rig: Rig, engine: Engine, *requests: Request) -> list[int]:
    """Run a batch; return the one number of each answer, which has no other output."""
    answers = rig.run(engine, *requests)
    assert all(set(each.outputs) == {"Y"} for each in answers)
    return [each.outputs["Y"].numpy().item() for each in answers]


def write_begin(rig: Rig, data: bytes) -> None:
    """Write the file of an initial state."""
    (rig.files.directory / "initial_state").mkdir()
    (rig.files.directory / "initial_state" / "begin.bin").write_bytes(data)


def test_a_model_finds_what_it_said_before(rig: Rig) -> None:
    engine = engine_of(rig)
    assert sums(rig, engine, asked(1, 0, "s"), asked(10, 1, "s")) == [1, 10]
    assert sums(rig, engine, asked(20, 1), asked(2, 0)) == [30, 3]


def test_a_request_that_comes_again_is_answered_with_what_its_client_knows(rig: Rig) -> None:
    engine = engine_of(rig)
    again = asked(1, 0, "s", "Y")
    assert sums(rig, engine, again) == [1]
    again.correlation = Correlation(1)
    assert sums(rig, engine, again) == [2]


def test_an_abandoned_sequence_leaves_no_state(rig: Rig) -> None:
    engine = engine_of(rig)
    sums(rig, engine, asked(1, 0, "s"), asked(10, 1, "s"))
    assert isinstance(engine, RemembersSequences)
    engine.forget_sequence(1, 0)
    assert sums(rig, engine, asked(2, 0), asked(20, 1)) == [2, 30]


def test_start_forgets_what_was_before(rig: Rig) -> None:
    engine = engine_of(rig)
    sums(rig, engine, asked(1, 0, "s"))
    assert sums(rig, engine, asked(5, 0, "s")) == [5]


def test_the_state_of_an_earlier_sequence_is_gone_even_when_start_failed(rig: Rig) -> None:
    engine = engine_of(rig)
    sums(rig, engine, asked(1, 0, "s"))
    with pytest.raises(InferError, match="13 is refused"):
        rig.run(engine, asked(13, 0, "s"))
    assert sums(rig, engine, asked(2, 0)) == [2]


def test_a_batch_that_fails_changes_no_state(rig: Rig) -> None:
    engine = engine_of(rig)
    sums(rig, engine, asked(1, 0, "s"))
    with pytest.raises(InferError, match="13 is refused"):
        rig.run(engine, asked(13, 0))
    assert sums(rig, engine, asked(2, 0)) == [3]


def test_an_empty_row_neither_finds_nor_leaves_a_state(rig: Rig) -> None:
    engine = engine_of(rig)
    sums(rig, engine, asked(1, 0, "s"), asked(2, 1, "s"))
    assert sums(rig, engine, asked(7, None), asked(2, 1)) == [7, 4]
    assert sums(rig, engine, asked(1, 0)) == [2]


def test_a_client_sees_the_state_only_where_it_is_an_output_of_the_model(rig: Rig) -> None:
    shown = CONFIG + "output { name: 'SUM_OUT' data_type: TYPE_INT32 dims: 1 }"
    engine = engine_of(rig, shown)
    (everything,) = rig.run(engine, asked(1, 0, "s"))
    assert set(everything.outputs) == {"Y", "SUM_OUT"}
    (some,) = rig.run(engine, asked(1, 0, "", "Y"))
    assert set(some.outputs) == {"Y"}
    assert rig.run(engine, asked(1, 0))[0].outputs["SUM_OUT"].numpy().item() == 3


def test_a_state_may_begin_with_a_file(rig: Rig) -> None:
    write_begin(rig, struct.pack("<i", 100))
    engine = engine_of(rig, CONFIG.replace(STATE, f"{STATE} {FROM_FILE}"))
    assert sums(rig, engine, asked(1, 0, "s")) == [101]


def test_dimensions_of_variable_size_begin_as_one(rig: Rig) -> None:
    config = rig.config(CONFIG.replace(STATE, STATE.replace("dims: 1", "dims: [ -1, 3 ]")))
    (pair,) = state_pairs(config, rig.files.directory)
    assert pair.initial.shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (
            FROM_FILE,
            "initial_state setting expects 4 bytes, but the data provided from begin.binonly has 2 bytes.",
        ),
        (FROM_FILE.replace("begin.bin", "none"), "failed to read initial state file 'none': No such file"),
        (FROM_FILE.replace("begin.bin", "../../secret"), "is outside the directory 'initial_state'"),
        (
            "use_growable_memory: true",
            "you must also enable 'use_single_buffer' for state input name 'SUM_IN'",
        ),
        (
            "use_growable_memory: true use_same_buffer_for_input_output: true",
            "'use_growable_memory' can only work with KIND_GPU model instances right now.",
        ),
    ],
)
def test_a_state_that_cannot_begin_is_refused(rig: Rig, more: str, error: str) -> None:
    write_begin(rig, b"12")
    with pytest.raises(InferError) as refusal:
        engine_of(rig, CONFIG.replace(STATE, f"{STATE} {more}"))
    assert error in refusal.value.message


def save_onnx_adder(directory: Path) -> None:
    """Write a model that adds X to its state."""
    names = ("X", "SUM_IN", "Y", "SUM_OUT")
    x, before, y, after = (
        helper.make_tensor_value_info(name, TensorProto.INT32, ["rows", 1]) for name in names
    )
    nodes = [helper.make_node("Add", ["X", "SUM_IN"], [name]) for name in ("Y", "SUM_OUT")]
    graph = helper.make_graph(nodes, "graph", [x, before], [y, after])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, directory / "model.onnx")


def test_a_model_of_a_file_has_states_among_its_tensors(rig: Rig) -> None:
    save_onnx_adder(rig.files.version_directory)
    config = rig.config(CONFIG)
    plan = OnnxRuntimeBackend({}).load(with_states(config), rig.files, HOST)
    stateful = StatefulPlan(plan, state_pairs(config, rig.files.directory), config)
    engine = stateful.engine(Seat("model_0", 0, HOST, HostStream()))
    assert sums(rig, engine, asked(1, 0, "s"), asked(10, 1, "s")) == [1, 10]
    assert sums(rig, engine, asked(0, None), asked(10, 1, "e"), asked(5, 2, "s")) == [0, 20, 5]
    assert sums(rig, engine, asked(2, 0)) == [3]
    engine.close()
    stateful.close()
