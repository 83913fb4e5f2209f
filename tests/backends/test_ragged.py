"""Requests of different shapes share a batch; the model is told where each begins, and each gets its own."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from deuteron.backends.api import Backend
from deuteron.backends.onnxruntime import OnnxRuntimeBackend
from deuteron.backends.pytorch.backend import PyTorchBackend
from deuteron.backends.ragged import Ragged, rows_of
from deuteron.backends.rows import Rows
from deuteron.proto.errors import InferError
from deuteron.proto.message import Request
from deuteron.proto.tensor import Array, Tensor

from .conftest import Rig

HEAD = """
max_batch_size: 8
input { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true }
"""
IO = HEAD + 'output { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }'
SCATTER = """
batch_output { target_name: "OUT" kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: "IN" }
"""


def batch_input(kind: str, datatype: str = "TYPE_INT32", target: str = "TOLD") -> str:
    return f"""
        batch_input {{
            kind: {kind} target_name: "{target}" data_type: {datatype} source_input: "IN"
        }}
    """


def request(*shape: int) -> Request:
    """Ask with a tensor of this shape, full of its last dimension."""
    return Rig.request(IN=np.full(shape, shape[-1], np.float32))


def ragged(rig: Rig, text: str) -> Ragged:
    rows = rows_of(rig.config(text))
    assert isinstance(rows, Ragged)
    return rows


def test_a_model_that_asks_for_nothing_of_this_has_plain_rows(rig: Rig) -> None:
    text = HEAD.replace("allow_ragged_batch: true", "")
    assert rows_of(rig.config(text)) == Rows(batching=True)


def test_elements_lie_in_one_row_also_those_of_a_lone_request(rig: Rig) -> None:
    rows = ragged(rig, IO)
    batch = Rig.batch(request(1, 2), request(2, 3), request(1, 1))
    assert rows.join(batch, ["IN"])["IN"].tolist() == [2, 2, 3, 3, 3, 3, 3, 3, 1]
    assert rows.join(Rig.batch(request(1, 2)), ["IN"])["IN"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("BATCH_ELEMENT_COUNT", [2, 6, 1]),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT", [2, 8, 9]),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", [0, 2, 8, 9]),
        ("BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", [0] * 6),
        ("BATCH_ITEM_SHAPE", [[2], [3], [3], [1]]),
        ("BATCH_ITEM_SHAPE_FLATTEN", [2, 3, 3, 1]),
    ],
)
@pytest.mark.parametrize(("datatype", "dtype"), [("TYPE_INT32", np.int32), ("TYPE_FP32", np.float32)])
def test_a_batch_input_tells_of_the_batch(
    rig: Rig, kind: str, told: list[object], datatype: str, dtype: type[np.generic]
) -> None:
    rows = ragged(rig, IO + batch_input(kind, datatype))
    made = rows.join(Rig.batch(request(1, 2), request(2, 3), request(1, 1)), ["IN", "TOLD"])["TOLD"]
    assert made.tolist() == told
    assert made.dtype == dtype


def test_shapes_of_items_have_as_many_numbers_as_items_have_dimensions(rig: Rig) -> None:
    text = IO.replace("dims: [ -1 ] allow", "dims: [ -1, -1 ] allow") + batch_input("BATCH_ITEM_SHAPE")
    made = ragged(rig, text).join(Rig.batch(request(2, 1, 2), request(1, 4, 1)), ["IN"])["TOLD"]
    assert made.tolist() == [[1, 2], [1, 2], [4, 1]]


def test_one_batch_input_may_have_several_targets(rig: Rig) -> None:
    text = IO + batch_input("BATCH_ELEMENT_COUNT").replace('target_name: "TOLD"', 'target_name: ["A", "B"]')
    joined = ragged(rig, text).join(Rig.batch(request(1, 2)), ["IN"])
    assert joined["A"].tolist() == joined["B"].tolist() == [2]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5)), min_size=1, max_size=6))
def test_what_is_joined_is_dealt_out_again(shapes: list[tuple[int, int]]) -> None:
    rows = rows_of(Rig.config(Rig.__new__(Rig), IO + SCATTER))
    generator = np.random.default_rng(len(shapes))
    requests = [Rig.request(IN=generator.random(shape, np.float32)) for shape in shapes]
    batch = Rig.batch(*requests)
    joined = rows.join(batch, ["IN"])["IN"]
    for asked, response in zip(requests, rows.split(batch, {"OUT": Tensor.from_numpy(joined)}), strict=True):
        np.testing.assert_array_equal(response.outputs["OUT"].numpy(), asked.inputs["IN"].numpy())


def test_outputs_that_nobody_asked_for_are_not_dealt_out(rig: Rig) -> None:
    rows = ragged(rig, IO + 'output { name: "ROWS" data_type: TYPE_FP32 dims: [ 1 ] }' + SCATTER)
    batch = Rig.batch(Rig.request(["ROWS"], IN=np.zeros((1, 2), np.float32)), request(1, 1))
    outputs = {"OUT": np.zeros(3, np.float32), "ROWS": np.zeros((2, 1), np.float32)}
    responses = rows.split(batch, {name: Tensor.from_numpy(array) for name, array in outputs.items()})
    assert [list(response.outputs) for response in responses] == [["ROWS"], ["OUT", "ROWS"]]


def test_an_output_of_the_wrong_size_is_an_error(rig: Rig) -> None:
    output = Tensor.from_numpy(np.zeros(2, np.float32))
    with pytest.raises(InferError, match="have room for 3 elements, the model made 2"):
        ragged(rig, IO + SCATTER).split(Rig.batch(request(1, 2), request(1, 1)), {"OUT": output})


def test_an_output_that_no_shape_can_fill_is_refused(rig: Rig) -> None:
    text = IO.replace(
        '"OUT" data_type: TYPE_FP32 dims: [ -1 ]', '"OUT" data_type: TYPE_FP32 dims: [ -1, -1 ]'
    )
    with pytest.raises(InferError, match="more variable dimensions than its source input 'IN' can fill"):
        rows_of(rig.config(text + SCATTER))


# --- engines ---


def save_onnx(path: Path, input_shape: tuple[str | int, ...] = ("elements",)) -> None:
    """Write OUT = IN + 1, and TWICE = ENDS * 2 with a row for each request."""
    tensors = [
        helper.make_tensor_value_info("IN", TensorProto.FLOAT, input_shape),
        helper.make_tensor_value_info("ENDS", TensorProto.FLOAT, ["requests"]),
    ]
    results = [
        helper.make_tensor_value_info("OUT", TensorProto.FLOAT, input_shape),
        helper.make_tensor_value_info("TWICE", TensorProto.FLOAT, ["requests", 1]),
    ]
    nodes = [
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Constant", [], ["column"], value_ints=[-1, 1]),
        helper.make_node("Add", ["IN", "one"], ["OUT"]),
        helper.make_node("Add", ["ENDS", "ENDS"], ["doubled"]),
        helper.make_node("Reshape", ["doubled", "column"], ["TWICE"]),
    ]
    graph = helper.make_graph(nodes, "ragged", tensors, results)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)


class PlusOne(torch.nn.Module):
    """The same, with arguments in another order than the configuration has them."""

    def forward(self, ENDS: torch.Tensor, IN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: N803
        return IN + 1, (ENDS * 2).reshape(-1, 1)


def save_torch(path: Path) -> None:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        torch.jit.script(PlusOne()).save(str(path))  # type: ignore[no-untyped-call] # PyTorch left it untyped


MODEL = (
    IO
    + 'output { name: "TWICE" data_type: TYPE_FP32 dims: [ 1 ] }'
    + batch_input("BATCH_ACCUMULATED_ELEMENT_COUNT", "TYPE_FP32", "ENDS")
    + SCATTER
)

ENGINES: dict[str, tuple[Callable[[], Backend], str, Callable[[Path], None]]] = {
    "onnxruntime": (lambda: OnnxRuntimeBackend({}), "model.onnx", save_onnx),
    "pytorch": (lambda: PyTorchBackend({}), "model.pt", save_torch),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.*deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", ENGINES)
def test_engines_run_ragged_batches(rig: Rig, name: str) -> None:
    make, filename, save = ENGINES[name]
    save(rig.files.version_directory / filename)
    engine = rig.engine(make(), MODEL)
    arrays: list[Array] = [np.full((1, size), size, np.float32) for size in (2, 4, 1, 3)]
    responses = Rig.run(engine, *(Rig.request(IN=array) for array in arrays))
    for array, response in zip(arrays, responses, strict=True):
        np.testing.assert_array_equal(response.outputs["OUT"].numpy(), array + 1)
    assert [response.outputs["TWICE"].numpy().tolist() for response in responses] == [
        [[4]],
        [[12]],
        [[14]],
        [[20]],
    ]
    assert Rig.answer(engine, IN=arrays[0])["OUT"].tolist() == [[3, 3]]


@pytest.mark.parametrize(
    ("shape", "text", "message"),
    [
        (
            ("rows", "elements"),
            MODEL,
            "provides input with shape [-1] for ragged input 'IN', model provides [-1,-1]",
        ),
        (
            ("elements",),
            MODEL.replace("data_type: TYPE_FP32 source_input", "data_type: TYPE_INT32 source_input"),
            "configuration expects datatype TYPE_INT32 for input 'ENDS', model provides TYPE_FP32",
        ),
        (("elements",), MODEL.replace('"ENDS"', '"OTHER"'), "unexpected inference input 'OTHER'"),
        (("elements",), IO + SCATTER, "configuration expects 1 inputs, model provides 2"),
    ],
    ids=["shape", "datatype", "name", "count"],
)
def test_a_model_that_does_not_fit_is_refused(
    rig: Rig, shape: tuple[str | int, ...], text: str, message: str
) -> None:
    save_onnx(rig.files.version_directory / "model.onnx", shape)
    with pytest.raises(InferError) as raised:
        rig.engine(OnnxRuntimeBackend({}), text)
    assert message in raised.value.message
