"""A model file's own signature completes a configuration, and refuses one that contradicts it."""

import pytest
from google.protobuf import text_format

from deuteron.backends.signature import Signature, TensorInfo, check, complete
from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.schema import model_config_pb2

from .conftest import Rig


def info(text: str) -> TensorInfo:
    """Describe a tensor as `NAME DATATYPE size,size`; without sizes it is a scalar."""
    name, datatype, *sizes = text.split()
    return TensorInfo(name, Datatype[datatype], tuple(map(int, sizes[0].split(","))) if sizes else ())


def signature(inputs: list[str], outputs: list[str], defaulted: list[str] | None = None) -> Signature:
    """Describe a model."""
    return Signature(*(tuple(map(info, infos)) for infos in (inputs, outputs, defaulted or [])))


BATCHING = signature(["X FP32 -1,3", "S BYTES -1"], ["Y FP16 -1,-1,5"])
FIXED = signature(["X FP32 2,3"], ["Y FP32", "Z INT64 -1"])


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        pytest.param(
            BATCHING,
            "",
            """
            max_batch_size: 4 dynamic_batching {}
            input { name: 'X' data_type: TYPE_FP32 dims: 3 }
            input { name: 'S' data_type: TYPE_STRING dims: 1 reshape {} }
            output { name: 'Y' data_type: TYPE_FP16 dims: [ -1, 5 ] }
            """,
            id="all is completed, and what can batch does",
        ),
        pytest.param(
            BATCHING,
            "max_batch_size: 16",
            """
            max_batch_size: 16 dynamic_batching {}
            input { name: 'X' data_type: TYPE_FP32 dims: 3 }
            input { name: 'S' data_type: TYPE_STRING dims: 1 reshape {} }
            output { name: 'Y' data_type: TYPE_FP16 dims: [ -1, 5 ] }
            """,
            id="a batch size that is given stays",
        ),
        pytest.param(
            BATCHING,
            "max_batch_size: 1 input { name: 'X' data_type: TYPE_FP32 dims: 9 }",
            """
            max_batch_size: 1
            input { name: 'X' data_type: TYPE_FP32 dims: 9 }
            output { name: 'Y' data_type: TYPE_FP16 dims: [ -1, 5 ] }
            """,
            id="inputs that are given stay, and batches of one need no batcher",
        ),
        pytest.param(
            BATCHING,
            "max_batch_size: 2 sequence_batching {} output { name: 'Y' data_type: TYPE_FP16 dims: 9 }",
            """
            max_batch_size: 2 sequence_batching {}
            input { name: 'X' data_type: TYPE_FP32 dims: 3 }
            input { name: 'S' data_type: TYPE_STRING dims: 1 reshape {} }
            output { name: 'Y' data_type: TYPE_FP16 dims: 9 }
            """,
            id="outputs that are given stay, and so does the way of batching",
        ),
        pytest.param(
            BATCHING,
            "batch_input { target_name: 'S' source_input: 'X' }",
            """
            max_batch_size: 4 dynamic_batching {}
            batch_input { target_name: 'S' source_input: 'X' }
            output { name: 'Y' data_type: TYPE_FP16 dims: [ -1, 5 ] }
            """,
            id="a batch input is an input that is given",
        ),
        pytest.param(
            FIXED,
            "",
            """
            input { name: 'X' data_type: TYPE_FP32 dims: [ 2, 3 ] }
            output { name: 'Y' data_type: TYPE_FP32 dims: 1 }
            output { name: 'Z' data_type: TYPE_INT64 dims: -1 }
            """,
            id="what cannot batch does not, and a scalar is one element",
        ),
    ],
)
def test_a_signature_completes_a_configuration(model: Signature, given: str, expected: str) -> None:
    message = Rig.message(given)
    before = text_format.MessageToString(message)
    assert complete(message, model, 4) == Rig.message(expected)
    assert text_format.MessageToString(message) == before


@pytest.mark.parametrize("default", [0, -1])
def test_without_a_default_batch_size_nothing_batches(default: int) -> None:
    completed = complete(model_config_pb2.ModelConfig(), BATCHING, default)
    assert completed.max_batch_size == 0
    assert completed.WhichOneof("scheduling_choice") is None
    assert [list(each.dims) for each in completed.input] == [[-1, 3], [-1]]


def test_batches_of_a_model_that_cannot_batch_are_refused() -> None:
    with pytest.raises(InferError) as caught:
        complete(Rig.message("max_batch_size: 8"), FIXED, 4)
    assert (caught.value.fault, caught.value.message) == (
        Fault.INVALID_ARG,
        (
            "autofill failed for model 'model': model does not support batching while non-zero "
            "max_batch_size is specified"
        ),
    )


X = "input { name: 'X' data_type: TYPE_FP32 dims: 3 }"
S = "input { name: 'S' data_type: TYPE_STRING dims: 1 reshape {} }"
T = "input { name: 'T' data_type: TYPE_STRING dims: 1 reshape {} }"
Y = "output { name: 'Y' data_type: TYPE_FP16 dims: [ -1, 5 ] }"
FIXED_X = "input { name: 'X' data_type: TYPE_FP32 dims: [ 2, 3 ] }"


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (BATCHING, f"max_batch_size: 8 {X} {S} {Y}"),
        (BATCHING, f"max_batch_size: 8 {S} {X}"),
        (FIXED, f"{FIXED_X} output {{ name: 'Y' data_type: TYPE_FP32 dims: [ 1, 1 ] }}"),
        (FIXED, f"{FIXED_X} output {{ name: 'Z' data_type: TYPE_INT64 dims: -1 }}"),
        (
            signature(["X FP32 -1,-1"], [], ["SCALE FP32 1"]),
            """
            input { name: 'X' data_type: TYPE_FP32 dims: [ 7, -1 ] }
            input { name: 'SCALE' data_type: TYPE_FP32 dims: 1 optional: true }
            """,
        ),
    ],
)
def test_a_configuration_that_fits_passes(rig: Rig, model: Signature, text: str) -> None:
    check(rig.config(text), model)


@pytest.mark.parametrize(
    ("model", "text", "complaint"),
    [
        (
            BATCHING,
            f"max_batch_size: 8 {X} {Y}",
            "unable to load model 'model', configuration expects 1 inputs, model provides 2",
        ),
        (
            BATCHING,
            f"max_batch_size: 8 {X} {S} {T}",
            "unable to load model 'model', configuration expects 3 inputs, model provides 2",
        ),
        (
            BATCHING,
            f"max_batch_size: 8 {X} {T} {Y}",
            "unexpected inference input 'T', allowed inputs are: S, X",
        ),
        (
            FIXED,
            f"{FIXED_X} output {{ name: 'W' data_type: TYPE_FP32 dims: 1 }}",
            "unexpected inference output 'W', allowed outputs are: Y, Z",
        ),
        (
            BATCHING,
            f"max_batch_size: 8 {X.replace('FP32', 'INT8')} {S} {Y}",
            (
                "unable to load model 'model', configuration expects datatype TYPE_INT8 for input 'X', "
                "model provides TYPE_FP32"
            ),
        ),
        (
            BATCHING,
            f"max_batch_size: 8 {X} {S.replace('STRING', 'UINT8')} {Y}",
            (
                "unable to load model 'model', configuration expects datatype TYPE_UINT8 for input 'S', "
                "model provides TYPE_BYTES"
            ),
        ),
        (
            signature(["X FP32 2,3"], ["Y INVALID 1"]),
            f"{FIXED_X} output {{ name: 'Y' data_type: TYPE_STRING dims: 1 }}",
            (
                "unable to load model 'model', configuration expects datatype TYPE_STRING for output 'Y', "
                "model provides TYPE_<invalid>"
            ),
        ),
        (
            signature(["X FP32 -1,3"], ["Y FP32 -1"], ["SCALE FP32 -1,1"]),
            f"max_batch_size: 8 {X} input {{ name: 'SCALE' data_type: TYPE_FP32 dims: 1 optional: true }}",
            (
                "unable to load model 'model', optional input 'SCALE' is not supported for models that "
                "support batching"
            ),
        ),
        (
            FIXED,
            "max_batch_size: 8 input { name: 'X' data_type: TYPE_FP32 dims: 3 }",
            (
                "model 'model', tensor 'X': for the model to support batching the shape should have at "
                "least 1 dimension and the first dimension must be -1; "
                "but shape expected by the model is [2,3]"
            ),
        ),
        (
            BATCHING,
            f"max_batch_size: 8 {X.replace('dims: 3', 'dims: 4')} {S} {Y}",
            (
                "model 'model', tensor 'X': the model expects 2 dimensions (shape [-1,3]) but the model "
                "configuration specifies 2 dimensions (an initial batch dimension because max_batch_size > 0 "
                "followed by the explicit tensor shape, making complete shape [-1,4])"
            ),
        ),
        (
            FIXED,
            "input { name: 'X' data_type: TYPE_FP32 dims: [ 2, 3, 1 ] }",
            (
                "model 'model', tensor 'X': the model expects 2 dimensions (shape [2,3]) but the model "
                "configuration specifies 3 dimensions (shape [2,3,1])"
            ),
        ),
        (
            FIXED,
            f"{FIXED_X} output {{ name: 'Z' data_type: TYPE_INT64 dims: 7 }}",
            (
                "model 'model', tensor 'Z': the model expects 1 dimensions (shape [-1]) but the model "
                "configuration specifies 1 dimensions (shape [7])"
            ),
        ),
        (
            FIXED,
            f"{FIXED_X} output {{ name: 'Y' data_type: TYPE_FP32 dims: [ 1, 2 ] }}",
            (
                "unable to load model 'model', scalar tensor 'Y', should only provide 1 in the model "
                "configuration when the model doesn't support batching. Model configuration provided: [1,2]."
            ),
        ),
    ],
)
def test_a_configuration_that_contradicts_the_model_is_refused(
    rig: Rig, model: Signature, text: str, complaint: str
) -> None:
    with pytest.raises(InferError) as caught:
        check(rig.config(text), model)
    assert (caught.value.fault, caught.value.message) == (Fault.INVALID_ARG, complaint)
