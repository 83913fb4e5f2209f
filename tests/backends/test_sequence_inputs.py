"""Control inputs of sequences are inputs of the model, though no client sends them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from deuteron.backends.api import Backend
from deuteron.backends.onnxruntime import OnnxRuntimeBackend
from deuteron.backends.pytorch.backend import PyTorchBackend
from deuteron.backends.signature import Signature, TensorInfo, check
from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import Fault, InferError

from .conftest import Rig

MODEL = """
max_batch_size: 4
input { name: 'X' data_type: TYPE_INT32 dims: 2 }
output { name: 'Y' data_type: TYPE_INT32 dims: 2 }
sequence_batching {
  control_input { name: 'START' control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }
  control_input { name: 'CORRID' control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT64 } }
}
"""
X = TensorInfo("X", Datatype.INT32, (-1, 2))
Y = TensorInfo("Y", Datatype.INT32, (-1, 2))
START = TensorInfo("START", Datatype.INT32, (-1, 1))
CORRID = TensorInfo("CORRID", Datatype.INT64, (-1, 1))


def save_onnx(directory: Path) -> Backend:
    """Write a model that adds the controls to its input."""

    def value(info: TensorInfo) -> onnx.ValueInfoProto:
        kind = TensorProto.INT64 if info.datatype is Datatype.INT64 else TensorProto.INT32
        return helper.make_tensor_value_info(
            info.name, kind, ["rows" if each == -1 else each for each in info.shape]
        )

    nodes = [
        helper.make_node("Cast", ["CORRID"], ["ID"], to=TensorProto.INT32),
        helper.make_node("Add", ["X", "START"], ["STARTED"]),
        helper.make_node("Add", ["STARTED", "ID"], ["Y"]),
    ]
    graph = helper.make_graph(nodes, "graph", [value(X), value(START), value(CORRID)], [value(Y)])
    opsets = [helper.make_opsetid("", 21)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), directory / "model.onnx")
    return OnnxRuntimeBackend({})


class AddControls(torch.nn.Module):
    """The same in PyTorch."""

    def forward(self, X: torch.Tensor, START: torch.Tensor, CORRID: torch.Tensor) -> torch.Tensor:  # noqa: N803
        """Add the controls."""
        return X + START + CORRID.to(torch.int32)


def save_torchscript(directory: Path) -> Backend:
    """Write that."""
    torch.jit.script(AddControls()).save(str(directory / "model.pt"))  # type: ignore[no-untyped-call]
    return PyTorchBackend({})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("save", [save_onnx, save_torchscript])
def test_a_model_reads_the_controls_that_come_with_a_request(
    rig: Rig, save: Callable[[Path], Backend]
) -> None:
    engine = rig.engine(save(rig.files.version_directory), MODEL)
    requests = [
        rig.request(
            X=np.array([[id_, 0]], np.int32),
            START=np.array([[start]], np.int32),
            CORRID=np.array([[id_]], np.int64),
        )
        for id_, start in ((10, 1), (20, 0))
    ]
    answers = [response.outputs["Y"].numpy().tolist() for response in rig.run(engine, *requests)]
    assert answers == [[[21, 11]], [[40, 20]]]


def refusal(rig: Rig, *inputs: TensorInfo) -> InferError:
    """Return why a model with these inputs does not fit."""
    with pytest.raises(InferError) as refused:
        check(rig.config(MODEL), Signature(inputs, (Y,)))
    return refused.value


def test_controls_count_as_inputs(rig: Rig) -> None:
    check(rig.config(MODEL), Signature((X, START, CORRID), (Y,)))
    text = "unable to load model 'model', configuration expects 3 inputs, model provides 1"
    assert refusal(rig, X).message == text


def test_a_control_that_the_model_does_not_read_is_refused(rig: Rig) -> None:
    error = refusal(rig, X, START, TensorInfo("OTHER", Datatype.INT64, (-1, 1)))
    assert error.fault is Fault.INTERNAL
    assert error.message == (
        "configuration specified sequence control 'CORRID', but model does not provide that input"
    )


def test_a_control_of_another_shape_is_refused(rig: Rig) -> None:
    assert refusal(rig, X, START, TensorInfo("CORRID", Datatype.INT64, (-1, 2))).message == (
        "unable to load model 'model', sequence control 'CORRID' in model has dims [2] but dims [1] is "
        "expected"
    )


def test_a_control_of_another_datatype_is_refused(rig: Rig) -> None:
    assert refusal(rig, X, START, TensorInfo("CORRID", Datatype.UINT64, (-1, 1))).message == (
        "unable to load model 'model', sequence control 'CORRID', the model expects data-type TYPE_UINT64 "
        "but the model configuration specifies data-type TYPE_INT64"
    )
