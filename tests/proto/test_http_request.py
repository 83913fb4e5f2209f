"""Bodies of infer requests, and what they become."""

from typing import Any

import numpy as np
import orjson
import pytest

from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.kserve_http import decode_infer, parse_json_length
from deuteron.proto.message import Correlation
from deuteron.proto.output_forms import BINARY_FORM, JSON_FORM, OutputForm
from deuteron.proto.target import Target

A = {"name": "A", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}


def binary(name: str, size: int, *shape: int) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": size}}


def told(**parameters: object) -> dict[str, Any]:
    return {"inputs": [A], "parameters": parameters}


def test_everything_a_request_may_say_is_understood(target: Target) -> None:
    document = {
        "id": "seven",
        "parameters": {
            "sequence_id": 9,
            "sequence_start": True,
            "sequence_end": False,
            "priority": 2,
            "timeout": 500,
            "binary_data_output": True,
            "text": "x",
            "whole": -3,
            "whole_too_large": 2**63,
            "truth": True,
            "fraction": 0.5,
        },
        "inputs": [
            {"name": "A", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2.5], [3, [4]]]},
            {"name": "B", "shape": [2, 1], "datatype": "BYTES", "data": ["a", "é"], "parameters": 1},
        ],
        "outputs": [
            {"name": "OUT", "parameters": {"classification": 2, "binary_data": True}},
            {"name": "TEXT", "parameters": {"binary_data": True}},
            {"name": "MORE"},
        ],
    }
    request, forms = decode_infer(orjson.dumps(document), None, target)
    assert (request.model_name, request.model_version, request.id) == ("m", 3, "seven")
    assert request.correlation == Correlation(9, start=True, end=False)
    assert (request.priority, request.timeout_us) == (2, 500)
    assert request.parameters == {
        "text": "x",
        "whole": -3,
        "whole_too_large": float(2**63),
        "truth": True,
        "fraction": 0.5,
    }
    assert request.inputs["A"].numpy().tolist() == [[1, 2.5], [3, 4]]
    assert request.inputs["B"].numpy().tolist() == [[b"a"], ["é".encode()]]
    assert request.requested_outputs == ("OUT", "TEXT", "MORE")
    assert forms.of("OUT") == OutputForm(binary=True, classes=2)
    assert forms.of("TEXT") == BINARY_FORM
    assert forms.of("MORE") == JSON_FORM


@pytest.mark.parametrize(
    ("parameters", "correlation"),
    [
        ({}, None),
        ({"sequence_start": False}, None),
        ({"sequence_id": "s"}, Correlation("s")),
        ({"sequence_id": 2**64 - 1, "sequence_end": True}, Correlation(2**64 - 1, end=True)),
        ({"sequence_start": True}, Correlation(0, start=True)),
    ],
)
def test_a_sequence_is_known_by_its_parameters(
    target: Target, parameters: dict[str, object], correlation: Correlation | None
) -> None:
    request, _ = decode_infer(orjson.dumps(told(**parameters)), None, target)
    assert request.correlation == correlation


def test_binary_by_default_holds_for_outputs_that_are_not_named(target: Target) -> None:
    _, forms = decode_infer(orjson.dumps({**told(binary_data_output=True), "outputs": []}), None, target)
    assert forms.of("OUT") == BINARY_FORM


@pytest.mark.parametrize(
    ("datatype", "data", "elements"),
    [
        ("INT8", [127, 128, 300, -129], [127, -128, 44, 127]),
        ("UINT16", [65535, 65536, 70000, 0], [65535, 0, 4464, 0]),
        ("INT64", [-(2**63), 2**63 - 1, 0, 1], [-(2**63), 2**63 - 1, 0, 1]),
        ("UINT64", [2**64 - 1, 0, 1, 2], [2**64 - 1, 0, 1, 2]),
        ("FP32", [1e300, -1e300, 2**64 - 1, 0.1], [np.inf, -np.inf, 2.0**64, float(np.float32(0.1))]),
        ("BOOL", [True, [False], [[True]], False], [True, False, True, False]),
    ],
)
def test_elements_are_read_wide_and_cut_to_their_datatype(
    target: Target, datatype: str, data: list[Any], elements: list[Any]
) -> None:
    document = {"inputs": [{"name": "A", "shape": [4], "datatype": datatype, "data": data}]}
    request, _ = decode_infer(orjson.dumps(document), None, target)
    assert request.inputs["A"].numpy().tolist() == elements


def test_data_may_hold_numbers_that_are_not_finite(target: Target) -> None:
    text = b'{"inputs":[{"name":"A","shape":[3],"datatype":"FP32","data":[NaN,-Infinity,Infinity]}]}'
    request, _ = decode_infer(text, None, target)
    assert str(request.inputs["A"].numpy().tolist()) == "[nan, -inf, inf]"


def test_strings_keep_bytes_that_are_no_unicode(target: Target) -> None:
    text = b'{"inputs":[{"name":"B","shape":[2],"datatype":"BYTES","data":["\xff\xfe","\xc3\xa9"]}]}'
    request, _ = decode_infer(text, None, target)
    assert request.inputs["B"].numpy().tolist() == [b"\xff\xfe", "é".encode()]


def test_half_a_surrogate_pair_is_no_string(target: Target) -> None:
    text = b'{"inputs":[{"name":"B","shape":[1],"datatype":"BYTES","data":["\\ud800"]}]}'
    with pytest.raises(InferError, match="The surrogate pair in string is invalid"):
        decode_infer(text, None, target)


@pytest.mark.parametrize("shape", [[0], [4, 0], [0, 2**62, 2**62]])
def test_the_data_of_a_tensor_without_elements_is_not_looked_at(target: Target, shape: list[int]) -> None:
    document = {"inputs": [{"name": "A", "shape": shape, "datatype": "FP32", "data": "anything"}]}
    request, _ = decode_infer(orjson.dumps(document), None, target)
    assert request.inputs["A"].byte_size == 0


def test_binary_tensors_are_views_on_the_body_in_the_order_of_the_inputs(target: Target) -> None:
    head = orjson.dumps({"inputs": [binary("B", 4, 1), A, binary("E", 0, 0), binary("C", 8, 2)]})
    body = head + np.arange(3, dtype=np.float32).tobytes()
    request, _ = decode_infer(body, len(head), target)
    assert request.inputs["B"].numpy().tolist() == [0]
    assert request.inputs["A"].numpy().tolist() == [[1, 2]]
    assert request.inputs["E"].byte_size == 0
    assert request.inputs["C"].numpy().tolist() == [1, 2]
    for name in "BC":
        raw = request.inputs[name].raw
        assert isinstance(raw, memoryview)
        assert raw.obj is body


def test_a_datatype_nobody_knows_is_left_to_admission_when_binary(target: Target) -> None:
    head = orjson.dumps({"inputs": [{**binary("A", 4, 1), "datatype": "FP31"}]})
    request, _ = decode_infer(head + bytes(4), len(head), target)
    assert request.inputs["A"].datatype is Datatype.INVALID


LENGTHS = {
    "0": 0,
    "100": 100,
    " \t+7": 7,
    "12 and more": 12,
    "": "Unable to parse Inference-Header-Content-Length, got: ",
    "x1": "Unable to parse Inference-Header-Content-Length, got: x1",
    "2147483648": (
        "Unable to parse Inference-Header-Content-Length, value is out of range [ -2147483648, 2147483647 ], "
        "got: 2147483648"
    ),
    "9" * 5000: (
        "Unable to parse Inference-Header-Content-Length, value is out of range [ -2147483648, 2147483647 ], "
        f"got: {'9' * 5000}"
    ),
    "101": "inference header size should be in range (0, 100), got: 101",
    "-1": "inference header size should be in range (0, 100), got: -1",
}


@pytest.mark.parametrize(("text", "outcome"), LENGTHS.items(), ids=[text[:12] for text in LENGTHS])
def test_the_header_with_the_length_of_json_is_read_as_stoi_does(text: str, outcome: int | str) -> None:
    if isinstance(outcome, int):
        assert parse_json_length(text, 100) == outcome
        return
    with pytest.raises(InferError) as refusal:
        parse_json_length(text, 100)
    assert (refusal.value.message, refusal.value.fault) == (outcome, Fault.INVALID_ARG)


def test_without_the_header_the_whole_body_is_json() -> None:
    assert parse_json_length(None, 100) is None
