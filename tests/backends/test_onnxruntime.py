"""ONNX models load, complete their configurations, and answer, as ONNX Runtime itself would."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto as Proto
from onnx import helper

from deuteron.backends.api import Seat
from deuteron.backends.device import HOST, Device, HostStream
from deuteron.backends.onnxruntime import OnnxRuntimeBackend, session_options
from deuteron.proto.datatypes import VALID_DATATYPES, Datatype
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.tensor import Array, Tensor

from .conftest import Rig

BACKEND = OnnxRuntimeBackend({})
ONNX_TYPES = {
    Datatype.BOOL: Proto.BOOL,
    Datatype.UINT8: Proto.UINT8,
    Datatype.UINT16: Proto.UINT16,
    Datatype.UINT32: Proto.UINT32,
    Datatype.UINT64: Proto.UINT64,
    Datatype.INT8: Proto.INT8,
    Datatype.INT16: Proto.INT16,
    Datatype.INT32: Proto.INT32,
    Datatype.INT64: Proto.INT64,
    Datatype.FP16: Proto.FLOAT16,
    Datatype.FP32: Proto.FLOAT,
    Datatype.FP64: Proto.DOUBLE,
    Datatype.BYTES: Proto.STRING,
    Datatype.BF16: Proto.BFLOAT16,
}
ADD_SUB = """
max_batch_size: 8
input { name: 'A' data_type: TYPE_INT32 dims: 2 }
input { name: 'B' data_type: TYPE_INT32 dims: 2 }
output { name: 'SUM' data_type: TYPE_INT32 dims: 2 }
output { name: 'DIFFERENCE' data_type: TYPE_INT32 dims: 2 }
"""


def value(name: str, onnx_type: int, *shape: int | str) -> onnx.ValueInfoProto:
    """Describe a tensor of a graph."""
    return helper.make_tensor_value_info(name, onnx_type, shape)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[onnx.TensorProto] = (),
) -> None:
    """Write an ONNX file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(initializers))
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)


def save_identity(rig: Rig, onnx_type: int, *shape: int | str) -> None:
    """Write a model that returns X as Y."""
    node = helper.make_node("Identity", ["X"], ["Y"])
    save(model_file(rig), [node], [value("X", onnx_type, *shape)], [value("Y", onnx_type, *shape)])


def save_add_sub(rig: Rig) -> None:
    """Write a model that adds and subtracts rows of two numbers."""
    nodes = [
        helper.make_node("Add", ["A", "B"], ["SUM"]),
        helper.make_node("Sub", ["A", "B"], ["DIFFERENCE"]),
    ]
    inputs = [value(name, Proto.INT32, "rows", 2) for name in ("A", "B")]
    outputs = [value(name, Proto.INT32, "rows", 2) for name in ("SUM", "DIFFERENCE")]
    save(model_file(rig), nodes, inputs, outputs)


def model_file(rig: Rig) -> Path:
    """Return where a model lies by default."""
    return rig.files.version_directory / "model.onnx"


def identity_config(datatype: Datatype, dims: str, more: str = "") -> str:
    """Describe the model that returns X as Y."""
    tensor = f"data_type: {datatype.config_name} dims: [ {dims} ] {more}"
    return f"input {{ name: 'X' {tensor} }} output {{ name: 'Y' {tensor} }}"


def test_rows_of_many_requests_are_computed_at_once(rig: Rig) -> None:
    save_add_sub(rig)
    engine = rig.engine(BACKEND, ADD_SUB)
    arrays = [np.arange(rows * 2, dtype=np.int32).reshape(rows, 2) for rows in (1, 3, 2)]
    wanted = [(), ("SUM",), ("DIFFERENCE", "SUM")]
    requests = [rig.request(names, A=each, B=each) for names, each in zip(wanted, arrays, strict=True)]
    responses = rig.run(engine, *requests)
    assert [set(response.outputs) for response in responses] == [
        {"SUM", "DIFFERENCE"},
        {"SUM"},
        {"SUM", "DIFFERENCE"},
    ]
    for array, response in zip(arrays, responses, strict=True):
        np.testing.assert_array_equal(response.outputs["SUM"].numpy(), array * 2)


def test_an_engine_tells_when_it_began_to_compute_and_when_it_was_done(rig: Rig) -> None:
    save_add_sub(rig)
    engine = rig.engine(BACKEND, ADD_SUB)
    ones = np.ones((1, 2), np.int32)
    batch = rig.batch(rig.request(A=ones, B=ones))
    engine.execute(batch, lambda _row, _response: None)
    assert 0 < batch.inputs_ready <= batch.outputs_started


@pytest.mark.parametrize("datatype", VALID_DATATYPES, ids=lambda datatype: datatype.wire_name)
def test_every_datatype_goes_in_and_comes_out(rig: Rig, datatype: Datatype) -> None:
    save_identity(rig, ONNX_TYPES[datatype], "rows", 2)
    engine = rig.engine(BACKEND, "max_batch_size: 8 " + identity_config(datatype, "2"))
    if datatype is Datatype.BYTES:
        given: Array = np.array([[b"", b"a"], ["\u00e9".encode(), b"b" * 300]], np.object_)
    else:
        given = np.array([[0, 1], [1, 0]]).astype(datatype.numpy_type)
    tensor = Tensor.from_numpy(given, datatype)
    first, second = rig.run(engine, rig.request(X=tensor), rig.request(X=tensor))
    for response in (first, second):
        assert response.outputs["Y"].datatype is datatype
        np.testing.assert_array_equal(response.outputs["Y"].numpy(), given)
    assert first.outputs["Y"].raw == tensor.raw


def test_bf16_may_meet_other_datatypes_in_one_model(rig: Rig) -> None:
    node = helper.make_node("Cast", ["X"], ["Y"], to=Proto.FLOAT)
    save(model_file(rig), [node], [value("X", Proto.BFLOAT16, "n")], [value("Y", Proto.FLOAT, "n")])
    engine = rig.engine(
        BACKEND,
        "input { name: 'X' data_type: TYPE_BF16 dims: -1 }output { name: 'Y' data_type: TYPE_FP32 dims: -1 }",
    )
    words = (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    answer = rig.answer(engine, X=Tensor.from_numpy(words, Datatype.BF16))
    assert answer["Y"].tolist() == [1.5, -2.0]


def test_bytes_of_a_socket_are_read_where_they_lie(rig: Rig) -> None:
    save_identity(rig, Proto.FLOAT, "n")
    engine = rig.engine(BACKEND, identity_config(Datatype.FP32, "-1"))
    for offset in (0, 1):
        body = memoryview(b"\0" * offset + np.arange(3, dtype=np.float32).tobytes())[offset:]
        assert rig.answer(engine, X=Tensor(Datatype.FP32, (3,), body))["Y"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("datatype", [Datatype.BF16, Datatype.FP16, Datatype.BYTES])
def test_elements_in_any_order_of_memory_are_taken(rig: Rig, datatype: Datatype) -> None:
    save_identity(rig, ONNX_TYPES[datatype], "m", "n")
    engine = rig.engine(BACKEND, identity_config(datatype, "-1, -1"))
    given = np.arange(6).reshape(2, 3).astype(datatype.numpy_type)
    if datatype is Datatype.BYTES:
        given = np.array([[b"a", b"b", b"c"], [b"d", b"e", b"f"]], np.object_)
    for array in (given[::-1], given.T, given[:, ::2]):
        answer = rig.answer(engine, X=Tensor.from_numpy(array, datatype))
        np.testing.assert_array_equal(answer["Y"], array)


def test_a_scalar_is_one_element_to_the_client(rig: Rig) -> None:
    save_identity(rig, Proto.FLOAT)
    engine = rig.engine(BACKEND, identity_config(Datatype.FP32, "1, 1"))
    assert rig.answer(engine, X=np.full((1, 1), 7, np.float32))["Y"].tolist() == [[7]]


def test_an_input_the_model_has_a_value_for_may_be_left_out(rig: Rig) -> None:
    node = helper.make_node("Mul", ["X", "SCALE"], ["Y"])
    scale = helper.make_tensor("SCALE", Proto.FLOAT, [1], [3.0])
    inputs = [value("X", Proto.FLOAT, "n"), value("SCALE", Proto.FLOAT, 1)]
    save(model_file(rig), [node], inputs, [value("Y", Proto.FLOAT, "n")], [scale])
    engine = rig.engine(
        BACKEND,
        """
        input { name: 'X' data_type: TYPE_FP32 dims: -1 }
        input { name: 'SCALE' data_type: TYPE_FP32 dims: 1 optional: true }
        output { name: 'Y' data_type: TYPE_FP32 dims: -1 }
        """,
    )
    ones = np.ones(2, np.float32)
    assert rig.answer(engine, X=ones)["Y"].tolist() == [3, 3]
    assert rig.answer(engine, X=ones, SCALE=np.array([5], np.float32))["Y"].tolist() == [5, 5]


def test_text_that_is_not_utf8_is_refused(rig: Rig) -> None:
    save_identity(rig, Proto.STRING, "n")
    engine = rig.engine(BACKEND, identity_config(Datatype.BYTES, "-1"))
    with pytest.raises(InferError, match="input 'X' has an element that is not text in UTF-8") as caught:
        rig.answer(engine, X=np.array([b"\xff"], np.object_))
    assert caught.value.fault is Fault.INVALID_ARG


def test_one_session_serves_many_instances_at_a_time(rig: Rig) -> None:
    save_add_sub(rig)
    plan = BACKEND.load(rig.config(ADD_SUB), rig.files, HOST)
    engines = [plan.engine(Seat(f"model_{index}", index, HOST, HostStream())) for index in range(4)]
    wrong: list[Any] = []

    def work(number: int) -> None:
        given = np.full((1, 2), number, np.int32)
        for _ in range(50):
            total = rig.answer(engines[number], A=given, B=given)["SUM"]
            if total.tolist() != [[2 * number] * 2]:
                wrong.append(total)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for engine in engines:
        engine.close()
    plan.close()


@pytest.mark.parametrize(
    ("filename", "place"),
    [("", "model.onnx"), ("", "model.onnx/model.onnx"), ("net.onnx", "net.onnx"), ("net", "net/model.onnx")],
)
def test_a_model_is_a_file_or_a_directory_with_one(rig: Rig, filename: str, place: str) -> None:
    save_identity(rig, Proto.FLOAT, "n")
    origin, target = model_file(rig), rig.files.version_directory / place
    content = origin.read_bytes()
    origin.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    rig.engine(BACKEND, f"default_model_filename: '{filename}'" + identity_config(Datatype.FP32, "-1"))


def test_a_missing_file_is_told(rig: Rig) -> None:
    with pytest.raises(InferError) as caught:
        rig.engine(BACKEND, identity_config(Datatype.FP32, "-1"))
    assert caught.value.titled == (
        f"Unavailable: unable to find '{model_file(rig)}' for model instance 'model'"
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"junk" * 9, "onnx runtime error 7: Load model from {path} failed:Protobuf parsing failed."),
        (b"", "onnx runtime error 2: Load model from {path} failed:No graph was found in the protobuf."),
    ],
)
def test_a_file_that_is_no_model_is_told(
    rig: Rig, capfd: pytest.CaptureFixture[str], content: bytes, text: str
) -> None:
    path = model_file(rig)
    path.write_bytes(content)
    for act in (
        lambda: rig.engine(BACKEND, identity_config(Datatype.FP32, "-1")),
        lambda: BACKEND.complete(rig.message(""), rig.files),
    ):
        with pytest.raises(InferError) as caught:
            act()
        assert caught.value.fault is Fault.INTERNAL
        assert caught.value.message == text.format(path=path)
    assert capfd.readouterr().err == ""


def test_what_the_model_refuses_refuses_the_batch(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    node = helper.make_node("MatMul", ["A", "B"], ["C"])
    inputs = [value("A", Proto.FLOAT, "a", "b"), value("B", Proto.FLOAT, "c", "d")]
    save(model_file(rig), [node], inputs, [value("C", Proto.FLOAT, "e", "f")])
    engine = rig.engine(
        BACKEND,
        """
        input { name: 'A' data_type: TYPE_FP32 dims: [ -1, -1 ] }
        input { name: 'B' data_type: TYPE_FP32 dims: [ -1, -1 ] }
        output { name: 'C' data_type: TYPE_FP32 dims: [ -1, -1 ] }
        """,
    )
    two, three = np.ones((2, 2), np.float32), np.ones((3, 3), np.float32)
    with pytest.raises(
        InferError, match="onnx runtime error 1: Non-zero status code returned while"
    ) as caught:
        rig.answer(engine, A=two, B=three)
    assert caught.value.fault is Fault.INTERNAL
    assert rig.answer(engine, A=two, B=two)["C"].tolist() == [[2, 2], [2, 2]]
    assert capfd.readouterr().err == ""


def test_a_model_with_sequences_is_refused(rig: Rig) -> None:
    node = helper.make_node("SplitToSequence", ["X"], ["Y"])
    sequence = helper.make_tensor_sequence_value_info("Y", Proto.FLOAT, None)
    save(model_file(rig), [node], [value("X", Proto.FLOAT, "n")], [sequence])
    with pytest.raises(InferError) as caught:
        BACKEND.complete(rig.message(""), rig.files)
    assert caught.value.titled == (
        "Unsupported: Unsupported ONNX Type 'ONNX_TYPE_SEQUENCE' for I/O 'Y', expected 'ONNX_TYPE_TENSOR'."
    )


@pytest.mark.parametrize(
    ("shape", "dims"), [(("rows", 3), [3]), (("rows", "n", 2), [-1, 2]), (("rows",), [1])]
)
def test_what_can_batch_is_completed_with_batching(
    rig: Rig, shape: tuple[int | str, ...], dims: list[int]
) -> None:
    save_identity(rig, Proto.FLOAT, *shape)
    completed = BACKEND.complete(rig.message("backend: 'onnxruntime'"), rig.files)
    assert (completed.name, completed.backend, completed.max_batch_size) == ("model", "onnxruntime", 4)
    assert completed.HasField("dynamic_batching")
    assert [(each.name, list(each.dims)) for each in completed.input] == [("X", dims)]
    assert [(each.name, list(each.dims)) for each in completed.output] == [("Y", dims)]
    assert completed.input[0].HasField("reshape") == (len(shape) == 1)
    rig.engine(BACKEND, str(completed).partition("\n")[2])


@pytest.mark.parametrize(("shape", "dims"), [((2, 3), [2, 3]), ((), [1])])
def test_what_cannot_batch_is_completed_as_it_is(rig: Rig, shape: tuple[int, ...], dims: list[int]) -> None:
    save_identity(rig, Proto.STRING, *shape)
    completed = BACKEND.complete(rig.message(""), rig.files)
    assert completed.max_batch_size == 0
    assert [list(each.dims) for each in completed.input] == [dims]
    assert [list(each.dims) for each in completed.output] == [dims]


def test_the_default_batch_size_is_a_setting_of_the_backend(rig: Rig) -> None:
    save_identity(rig, Proto.FLOAT, "rows", 3)
    backend = OnnxRuntimeBackend({"default-max-batch-size": "16"})
    assert backend.complete(rig.message(""), rig.files).max_batch_size == 16
    with pytest.raises(InferError, match="failed to convert 'many' to integral number"):
        OnnxRuntimeBackend({"default-max-batch-size": "many"})


def test_a_configuration_with_all_tensors_is_not_held_against_the_file(rig: Rig) -> None:
    message = rig.message(ADD_SUB)
    assert BACKEND.complete(message, rig.files) is message


def test_a_configuration_that_contradicts_the_file_is_refused(rig: Rig) -> None:
    save_add_sub(rig)
    with pytest.raises(InferError) as caught:
        rig.engine(BACKEND, ADD_SUB.replace("'A'", "'C'"))
    assert caught.value.message == "unexpected inference input 'C', allowed inputs are: A, B"


def options(rig: Rig, text: str = "", **parameters: str) -> ort.SessionOptions:
    """Return the session options of a configuration."""
    return session_options(rig.config(text + Rig.parameters(**parameters)), HOST)


def test_threads_are_shared_and_do_not_spin_by_default(rig: Rig) -> None:
    found = options(rig, "instance_group { kind: KIND_CPU count: 1 }")
    assert found.intra_op_num_threads == len(os.sched_getaffinity(0))
    assert found.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert found.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert found.enable_cpu_mem_arena
    assert found.enable_mem_pattern


def test_parameters_of_the_model_set_the_session(rig: Rig) -> None:
    found = options(
        rig,
        intra_op_thread_count="3",
        inter_op_thread_count="2",
        execution_mode="1",
        enable_mem_arena="off",
        enable_mem_pattern="false",
        **{"session.intra_op.allow_spinning": "1"},
    )
    assert (found.intra_op_num_threads, found.inter_op_num_threads) == (3, 2)
    assert found.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert not found.enable_cpu_mem_arena
    assert not found.enable_mem_pattern
    assert found.get_session_config_entry("session.intra_op.allow_spinning") == "1"


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (0, ort.GraphOptimizationLevel.ORT_ENABLE_ALL),
        (-1, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC),
        (1, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED),
        (2, ort.GraphOptimizationLevel.ORT_DISABLE_ALL),
    ],
)
def test_the_level_of_graph_optimization_is_chosen_by_the_model(
    rig: Rig, level: int, expected: ort.GraphOptimizationLevel
) -> None:
    assert options(rig, f"optimization {{ graph {{ level: {level} }} }}").graph_optimization_level == expected


@pytest.mark.parametrize(
    ("text", "fault", "complaint"),
    [
        (
            Rig.parameters(execution_mode="2"),
            Fault.INVALID_ARG,
            (
                "Invalid configuration value provided. "
                "Expected values for  execution_mode are 0 or 1 but got 2 ."
            ),
        ),
        (
            Rig.parameters(enable_mem_arena="maybe"),
            Fault.INVALID_ARG,
            "failed to convert 'maybe' to boolean",
        ),
        (
            "optimization { execution_accelerators { cpu_execution_accelerator { name: 'openvino' } } }",
            Fault.INVALID_ARG,
            "unknown Execution Accelerator 'openvino' is requested",
        ),
        (
            "model_operations { op_library_filename: 'ops.so' }",
            Fault.UNSUPPORTED,
            "model 'model' asks for libraries of custom operators, which are not supported",
        ),
    ],
)
def test_what_onnx_runtime_cannot_do_is_refused(rig: Rig, text: str, fault: Fault, complaint: str) -> None:
    with pytest.raises(InferError) as caught:
        options(rig, text)
    assert (caught.value.fault, caught.value.message) == (fault, complaint)


def test_the_arena_shrinks_where_the_model_says_so(rig: Rig) -> None:
    save_add_sub(rig)
    text = Rig.parameters(**{"memory.enable_memory_arena_shrinkage": "cpu:0"})
    ones = np.ones((1, 2), np.int32)
    assert rig.answer(rig.engine(BACKEND, ADD_SUB + text), A=ones, B=ones)["SUM"].tolist() == [[2, 2]]


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="this build can use a GPU"
)
def test_a_gpu_that_this_build_cannot_use_is_refused_not_forgotten(rig: Rig) -> None:
    save_add_sub(rig)
    with pytest.raises(
        InferError, match="the installed onnxruntime cannot use gpu:1: pip install onnxruntime-gpu"
    ):
        BACKEND.load(rig.config(ADD_SUB), rig.files, Device("GPU", 1))
