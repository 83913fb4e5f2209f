"""The generate extension: objects of plain values in, and out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deuteron.proto.admission import Admission
from deuteron.proto.bounds import MAX_PARAMETERS
from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import Fault, InferError, invalid
from deuteron.proto.kserve_http import decode_generate, encode_generate, event
from deuteron.proto.message import Request, Response
from deuteron.proto.target import Target
from deuteron.proto.tensor import Shape, Tensor

RID = "[request id: <id_unknown>] "

LANGUAGE = """
    name: "m" max_batch_size: 4
    input { name: "PROMPT" data_type: TYPE_STRING dims: 1 }
    input { name: "STREAM" data_type: TYPE_BOOL dims: 1 optional: true }
    input { name: "TOKENS" data_type: TYPE_INT32 dims: [-1, 2] optional: true }
    input { name: "HALF" data_type: TYPE_FP16 dims: 1 optional: true }
"""


@pytest.fixture(scope="module")
def language(targeted: Callable[[str], Target]) -> Target:
    return targeted(LANGUAGE)


def test_members_become_inputs_and_parameters(language: Target) -> None:
    body = {
        "id": "seven",
        "PROMPT": "hello",
        "temperature": 0.5,
        "parameters": {"STREAM": True, "max_tokens": 20, "sequence_id": 3, "triton_x": "y"},
    }
    request = decode_generate(orjson.dumps(body), language)
    Admission(language.config).check(request)
    assert (request.model_name, request.model_version, request.id) == ("m", 3, "seven")
    assert request.inputs["PROMPT"].numpy().tolist() == [[b"hello"]]
    assert request.inputs["STREAM"].numpy().tolist() == [[True]]
    assert request.parameters == {
        "id": "seven",
        "temperature": 0.5,
        "max_tokens": 20,
        "sequence_id": 3,
        "triton_x": "y",
    }
    assert request.correlation is None


SHAPED: list[tuple[str, int, Shape]] = [
    ("dims: 1", 1, (1,)),
    ("dims: -1", 5, (5,)),
    ("dims: [-1, 2]", 6, (3, 2)),
    ("dims: [-1, 3, -1]", 6, (1, 3, 2)),
    ("max_batch_size: 4 {} dims: 2", 6, (3, 2)),
    ("max_batch_size: 4 {} dims: -1", 6, (1, 6)),
]


@pytest.mark.parametrize(("dims", "count", "shape"), SHAPED)
def test_the_shape_is_worked_out_from_the_number_of_elements(
    targeted: Callable[[str], Target], dims: str, count: int, shape: Shape
) -> None:
    batch, _, dims = dims.rpartition("{}")
    model = targeted(f'name: "m" {batch} input {{ name: "A" data_type: TYPE_INT8 {dims} }}')
    request = decode_generate(orjson.dumps({"A": list(range(count))}), model)
    assert request.inputs["A"].shape == shape
    assert request.inputs["A"].numpy().ravel().tolist() == list(range(count))


@pytest.mark.parametrize(("name", "datatype"), [("TOKENS", Datatype.INT32), ("PROMPT", Datatype.BYTES)])
def test_an_empty_array_is_a_tensor_without_shape(language: Target, name: str, datatype: Datatype) -> None:
    tensor = decode_generate(orjson.dumps({name: []}), language).inputs[name]
    assert (tensor.datatype, tensor.shape, tensor.raw) == (datatype, (), b"")


STRING = "attempt to access JSON non-string as string"
NO_SHAPE = "The schema can not convert input 'TOKENS' to tensor with proper shape"

REFUSED: dict[str, tuple[object, str, Fault]] = {
    "no object": ([], "attempt to get members for non-object", Fault.INTERNAL),
    "id": ({"id": 7}, f"Unable to parse 'id': {STRING}", Fault.INTERNAL),
    "parameter": (
        {"x": None},
        "parameter 'x' has invalid type. It should be either 'int', 'bool', or 'string'.",
        Fault.INVALID_ARG,
    ),
    "parameters": (
        {"parameters": 1},
        "Expected JSON object for keyword: 'parameters': attempt to access JSON non-object as object",
        Fault.INTERNAL,
    ),
    "nested parameter": (
        {"parameters": {"parameters": {}}},
        (
            "Converting keyword: 'parameters': parameter 'parameters' has invalid type. It should be either "
            "'int', 'bool', or 'string'."
        ),
        Fault.INVALID_ARG,
    ),
    "nested input": (
        {"parameters": {"PROMPT": 1}},
        f"Converting keyword: 'parameters': Unable to parse JSON bytes array: {STRING}",
        Fault.INTERNAL,
    ),
    "input twice": (
        {"PROMPT": "a", "parameters": {"PROMPT": "b"}},
        f"Converting keyword: 'parameters': {RID}input 'PROMPT' already exists in request",
        Fault.INVALID_ARG,
    ),
    "number for a string": (
        {"PROMPT": 1},
        f"Unable to parse JSON bytes array: {STRING}",
        Fault.INTERNAL,
    ),
    "string for a number": (
        {"TOKENS": ["1", 2]},
        "Unable to parse 'data': attempt to access JSON non-signed-integer as signed-integer",
        Fault.INTERNAL,
    ),
    "odd number for pairs": ({"TOKENS": [1, 2, 3]}, NO_SHAPE, Fault.INVALID_ARG),
    "two for one": (
        {"STREAM": [[True, False]]},
        "Unable to parse 'data': Shape does not match true shape of 'data' field",
        Fault.INTERNAL,
    ),
    "FP16": (
        {"HALF": 1.5},
        "receiving FP16 data via JSON is not supported. Please use the binary data format for input HALF",
        Fault.INVALID_ARG,
    ),
    "too many parameters": (
        {str(number): number for number in range(MAX_PARAMETERS + 1)},
        "request has 1025 parameters, more than the 1024 that are supported",
        Fault.INVALID_ARG,
    ),
    "too large": (
        {"PROMPT": "x", "TOKENS": [0] * 4998},
        (
            "request size of 5 bytes with input 'TOKENS' of size 19992 bytes exceeds the maximum allowed "
            "input size of 19996. Use --http-max-input-size to increase the limit."
        ),
        Fault.INVALID_ARG,
    ),
    "too long": (
        {"PROMPT": "x" * 20_000},
        (
            "request JSON size of 20013 bytes exceeds the maximum allowed input size of 19996 bytes. Use "
            "--http-max-input-size to increase the limit."
        ),
        Fault.INVALID_ARG,
    ),
}


@pytest.mark.parametrize(("body", "message", "fault"), REFUSED.values(), ids=REFUSED)
def test_a_bad_object_is_refused_in_tritons_words(
    language: Target, body: object, message: str, fault: Fault
) -> None:
    with pytest.raises(InferError) as refusal:
        decode_generate(orjson.dumps(body), language, 19_996)
    assert (refusal.value.message, refusal.value.fault) == (message, fault)


def test_an_empty_body_is_no_object(language: Target) -> None:
    with pytest.raises(InferError, match=r"The document is empty\. at 0"):
        decode_generate(b"", language)


def test_elements_that_fill_no_shape_are_refused(targeted: Callable[[str], Target]) -> None:
    model = targeted('name: "m" input { name: "A" data_type: TYPE_INT8 dims: [2, 2] }')
    with pytest.raises(InferError, match="The schema can not convert input 'A' to tensor with proper shape"):
        decode_generate(b'{"A":[1,2,3,4,5,6,7,8]}', model)


def test_an_input_may_not_be_called_parameters(targeted: Callable[[str], Target]) -> None:
    model = targeted('name: "m" input { name: "parameters" data_type: TYPE_INT8 dims: 1 }')
    with pytest.raises(InferError) as refusal:
        decode_generate(b'{"parameters":1}', model)
    assert refusal.value.message == ("Keyword 'parameters' for nested schema also given as input tensor name")
    assert refusal.value.fault is Fault.INVALID_ARG


def test_an_answer_is_sorted_and_unwraps_single_elements(language: Target) -> None:
    response = Response(
        {
            "text": Tensor.from_numpy(np.array([["hé"]], dtype=np.object_)),
            "Tokens": Tensor.from_numpy(np.array([[1, 2]], dtype=np.int64)),
            "nan": Tensor.from_numpy(np.array([np.nan], dtype=np.float32)),
            "none": Tensor.from_numpy(np.zeros((1, 0))),
            "model_name": Tensor.from_numpy(np.zeros(1)),
        },
        {"logprob": -0.5, "count": 2, "count2": np.inf},
    )
    assert (
        encode_generate(language, Request("m", id="7"), response)
        == (
            '{"Tokens":[1,2],"count":2,"count2":Infinity,"id":"7","logprob":-0.5,"model_name":"m",'
            '"model_version":"3","nan":NaN,"none":[],"text":"hé"}'
        ).encode()
    )


def test_an_answer_without_form_in_json_is_refused(language: Target) -> None:
    half = Tensor.from_numpy(np.zeros(1, dtype=np.float16))
    with pytest.raises(InferError, match="sending FP16 data via JSON is not supported"):
        encode_generate(language, Request("m"), Response({"H": half}))
    with pytest.raises(InferError) as refusal:
        encode_generate(language, Request("m"), Response({}, {"p": "\ud800"}))
    assert refusal.value.fault is Fault.INTERNAL
    with pytest.raises(InferError, match="no"):
        encode_generate(language, Request("m"), Response(error=invalid("no")))


def test_an_event_is_framed() -> None:
    assert event(b"{}") == b"data: {}\n\n"


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.one_of(
    st.sampled_from(["id", "PROMPT", "STREAM", "TOKENS", "HALF", "parameters"]), st.text(max_size=3)
)


@given(st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES, max_size=4), max_size=5))
def test_any_object_is_understood_or_refused(language: Target, members: dict[str, Any]) -> None:
    try:
        request = decode_generate(orjson.dumps(members), language, 200)
        Admission(language.config).check(request)
    except InferError:
        return
    assert "PROMPT" in request.inputs


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ('{"PROMPT": "a", "STREAM": false, "PROMPT": "b"}', "PROMPT"),
        ('{"PROMPT": "a", "STREAM": false, "STREAM": true, "PROMPT": "b"}', "STREAM"),
        ('{"PROMPT": "a", "STREAM": false, "PROMPT": "b", "STREAM": true}', "PROMPT"),
    ],
)
def test_the_first_input_that_is_given_a_second_time_is_refused(
    language: Target, body: str, name: str
) -> None:
    with pytest.raises(InferError) as error:
        decode_generate(body.encode(), language)
    assert error.value.message == f"{RID}input '{name}' already exists in request"


def test_a_parameter_that_looks_like_an_input_is_none(language: Target) -> None:
    request = decode_generate(b'{"PROMPT": "PROMPT", "x": "\\"PROMPT\\"", "y": 1, "y": 2}', language)
    assert request.parameters == {"x": '"PROMPT"', "y": 2}


def test_a_text_with_suspects_that_nests_too_deeply_is_refused(language: Target) -> None:
    deep = b'{"PROMPT": "PROMPT", "x": ' + b"[" * 1000 + b"]" * 1000 + b"}"
    with pytest.raises(InferError):
        decode_generate(deep, language)
