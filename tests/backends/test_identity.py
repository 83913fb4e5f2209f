"""The identity backend answers with what it is asked, and is slow or fails where the model says so."""

import time

import numpy as np
import pytest

from deuteron.backends.device import HOST
from deuteron.backends.identity import RESPONSE_PARAMETERS, DeliberateBreakError, IdentityBackend
from deuteron.proto.datatypes import VALID_DATATYPES, Datatype
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.tensor import Tensor

from .conftest import Rig

ONE = """
input { name: 'INPUT0' data_type: TYPE_FP32 dims: 2 }
output { name: 'OUTPUT0' data_type: TYPE_FP32 dims: 2 }
"""
OPTIONAL = """
input { name: 'INPUT0' data_type: TYPE_FP32 dims: 2 optional: true }
input { name: 'INPUT1' data_type: TYPE_STRING dims: [ -1, 2 ] optional: true }
output { name: 'OUTPUT0' data_type: TYPE_FP32 dims: 2 }
output { name: 'OUTPUT1' data_type: TYPE_STRING dims: [ -1, 2 ] }
"""
BACKEND = IdentityBackend({})


@pytest.mark.parametrize("datatype", VALID_DATATYPES, ids=lambda datatype: datatype.wire_name)
def test_every_datatype_comes_back_as_the_same_tensor(rig: Rig, datatype: Datatype) -> None:
    name = datatype.config_name
    engine = rig.engine(
        BACKEND,
        f"input {{ name: 'INPUT_{name}' data_type: {name} dims: -1 }}"
        f"output {{ name: 'OUTPUT_{name}' data_type: {name} dims: -1 }}",
    )
    tensor = Tensor.from_numpy(np.zeros(3, datatype.numpy_type), datatype)
    (response,) = rig.run(engine, rig.request(**{f"INPUT_{name}": tensor}))
    assert response.outputs == {f"OUTPUT_{name}": tensor}


def test_each_request_of_a_batch_gets_its_own(rig: Rig) -> None:
    engine = rig.engine(BACKEND, "max_batch_size: 8" + ONE)
    arrays = [np.full((rows, 2), rows, np.float32) for rows in (1, 3, 2)]
    responses = rig.run(engine, *(rig.request(INPUT0=array) for array in arrays))
    for array, response in zip(arrays, responses, strict=True):
        assert response.final
        assert response.outputs["OUTPUT0"].numpy() is array


def test_every_response_carries_the_same_four_parameters(rig: Rig) -> None:
    (response,) = rig.run(rig.engine(BACKEND, ONE), rig.request(INPUT0=np.zeros(2, np.float32)))
    assert response.parameters is RESPONSE_PARAMETERS
    assert response.parameters == {
        "param0": "an example string parameter",
        "param1": 42,
        "param2": False,
        "param3": 123.123,
    }


def test_only_outputs_that_are_asked_for_are_given(rig: Rig) -> None:
    engine = rig.engine(BACKEND, "max_batch_size: 8" + OPTIONAL)
    assert set(rig.answer(engine, ["OUTPUT0"], INPUT0=np.ones((1, 2), np.float32))) == {"OUTPUT0"}


@pytest.mark.parametrize(("batching", "prefix"), [(True, (3,)), (False, ())])
def test_zeros_stand_in_for_a_missing_input(rig: Rig, batching: bool, prefix: tuple[int, ...]) -> None:
    engine = rig.engine(BACKEND, "max_batch_size: 8" * batching + OPTIONAL)
    answer = rig.answer(engine, INPUT0=np.ones((*prefix, 2), np.float32))
    np.testing.assert_array_equal(answer["OUTPUT0"], np.ones((*prefix, 2), np.float32))
    assert answer["OUTPUT1"].shape == (*prefix, 1, 2)
    assert set(answer["OUTPUT1"].ravel()) == {b""}

    (response,) = rig.run(engine, rig.request(INPUT1=np.full((*prefix, 4, 2), b"x", np.object_)))
    zeros = response.outputs["OUTPUT0"]
    assert (zeros.datatype, zeros.shape) == (Datatype.FP32, (*prefix, 2))
    assert not zeros.numpy().any()


@pytest.mark.parametrize(
    ("inputs", "outputs", "text"),
    [
        (["INPUT0 FP32 2"], [], "model configuration must have equal input/output pairs"),
        (["X FP32 2"], ["OUTPUT0 FP32 2"], "expected input name to follow INPUT<index> pattern, got 'X'"),
        (["INPUT0 FP32 2"], ["Y FP32 2"], "expected output name to follow OUTPUT<index> pattern, got 'Y'"),
        (["INPUT0 FP32 2"], ["OUTPUT1 FP32 2"], "expected input and output indices to match"),
        (
            ["INPUT0 FP32 2"],
            ["OUTPUT0 STRING 2"],
            "expected input and output datatype to match, got TYPE_FP32 and TYPE_STRING",
        ),
        (
            ["INPUT0 FP32 2,3"],
            ["OUTPUT0 FP32 -1"],
            "expected input and output shape to match, got [2,3] and [-1]",
        ),
    ],
)
def test_tensors_that_do_not_pair_are_refused(
    rig: Rig, inputs: list[str], outputs: list[str], text: str
) -> None:
    lines = []
    for kind, specs in (("input", inputs), ("output", outputs)):
        for spec in specs:
            name, datatype, dims = spec.split()
            lines.append(f"{kind} {{ name: '{name}' data_type: TYPE_{datatype} dims: [ {dims} ] }}")
    with pytest.raises(InferError) as caught:
        rig.engine(BACKEND, "\n".join(lines))
    assert (caught.value.fault, caught.value.message) == (Fault.INVALID_ARG, text)


def test_a_reshaped_tensor_pairs_by_the_shape_that_the_model_sees(rig: Rig) -> None:
    text = """
    input { name: 'INPUT0' data_type: TYPE_FP32 dims: 4 reshape { shape: [ 2, 2 ] } }
    output { name: 'OUTPUT0' data_type: TYPE_FP32 dims: [ 2, 2 ] }
    """
    rig.engine(BACKEND, text)


def test_an_engine_refuses_every_nth_execution_and_lives_on(rig: Rig) -> None:
    engine = rig.engine(BACKEND, ONE + Rig.parameters(fail_every="3"))
    request = rig.request(INPUT0=np.zeros(2, np.float32))
    outcomes = []
    for _ in range(7):
        try:
            rig.run(engine, request)
            outcomes.append("answered")
        except InferError as error:
            outcomes.append(error.message)
    assert outcomes == [
        "answered",
        "answered",
        "execution 3 is refused, as 'fail_every' says",
        "answered",
        "answered",
        "execution 6 is refused, as 'fail_every' says",
        "answered",
    ]


def test_an_engine_breaks_at_every_nth_execution(rig: Rig) -> None:
    engine = rig.engine(BACKEND, ONE + Rig.parameters(break_every="2"))
    request = rig.request(INPUT0=np.zeros(2, np.float32))
    rig.run(engine, request)
    with pytest.raises(DeliberateBreakError, match="execution 2 breaks, as 'break_every' says"):
        rig.run(engine, request)


def test_loading_fails_where_the_model_says_so(rig: Rig) -> None:
    with pytest.raises(InferError, match="out of cheese"):
        rig.engine(BACKEND, ONE + Rig.parameters(fail_load="out of cheese"))


@pytest.mark.parametrize(
    "key",
    ["execute_delay_ms", "instance_wise_delay_multiplier", "creation_delay_sec", "fail_every", "break_every"],
)
def test_a_parameter_that_is_no_number_is_refused(rig: Rig, key: str) -> None:
    with pytest.raises(InferError, match="failed to convert 'soon' to integral number") as caught:
        rig.engine(BACKEND, ONE + Rig.parameters(**{key: "soon"}))
    assert caught.value.fault is Fault.INVALID_ARG


@pytest.mark.parametrize(("multiplier", "seconds"), [("0", [0.1, 0.1, 0.1]), ("4", [0.1, 0.4, 0.8])])
def test_an_execution_takes_as_long_as_model_and_instance_say(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, multiplier: str, seconds: list[float]
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    text = (
        ONE
        + Rig.parameters(execute_delay_ms="100")
        + Rig.parameters(instance_wise_delay_multiplier=multiplier)
    )
    engines = [rig.engine(BACKEND, text, index) for index in range(3)]
    slept.clear()
    for engine in engines:
        rig.run(engine, rig.request(INPUT0=np.zeros(2, np.float32)))
    assert slept == seconds


def test_loading_takes_as_long_as_the_model_says(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    BACKEND.load(rig.config(ONE + Rig.parameters(creation_delay_sec="2")), rig.files, HOST)
    assert slept == [2]


def test_there_is_nothing_to_complete(rig: Rig) -> None:
    message = rig.message(ONE)
    assert BACKEND.complete(message, rig.files) is message
