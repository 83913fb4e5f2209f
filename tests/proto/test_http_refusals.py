"""Bodies of infer requests that are refused, in which words and by whose fault."""

import copy
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deuteron.proto.admission import Admission
from deuteron.proto.bounds import MAX_PARAMETERS, MAX_TENSORS
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.kserve_http import decode_infer
from deuteron.proto.target import Target
from deuteron.proto.tensor import Tensor

RID = "[request id: <id_unknown>] "
REGION: dict[str, Any] = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
A = {"name": "A", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}


def without(members: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in members.items() if key != name}


def binary(name: str, size: int, *shape: int) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": size}}


def asked(output: dict[str, Any]) -> dict[str, Any]:
    """Return a request for an output, its parameters given as members beside its name."""
    name = {"name": output["name"]} if "name" in output else {}
    return {"inputs": [A], "outputs": [{**name, "parameters": without(output, "name")}]}


def told(**parameters: object) -> dict[str, Any]:
    return {"inputs": [A], "parameters": parameters}


UNSIGNED = "attempt to access JSON non-unsigned-integer as unsigned-integer"
SIGNED = "attempt to access JSON non-signed-integer as signed-integer"
STRING = "attempt to access JSON non-string as string"
BOOLEAN = "attempt to access JSON non-boolean as boolean"
ARRAY = "attempt to access JSON non-array as array"
SOURCES = (
    "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
    "'shared_memory_region' in 'parameters'. But"
)
NO_REGION = "Unable to find shared memory region: 'r'"
LARGEST = 2**63 - 1

INTERNAL = {
    "inputs missing": ({}, "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"),
    "inputs no array": ({"inputs": 1}, f"Unable to parse 'inputs': {ARRAY}"),
    "document no object": (
        [1],
        "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'",
    ),
    "id no string": ({"id": 1}, f"Unable to parse 'id': {STRING}"),
    "name missing": (
        {"inputs": [without(A, "name")]},
        "Unable to parse 'name': attempt to access non-existing object member 'name'",
    ),
    "name no string": ({"inputs": [{**A, "name": 1}]}, f"Unable to parse 'name': {STRING}"),
    "datatype missing": (
        {"inputs": [without(A, "datatype")]},
        "Unable to parse 'datatype': attempt to access non-existing object member 'datatype'",
    ),
    "datatype no string": ({"inputs": [{**A, "datatype": None}]}, f"Unable to parse 'datatype': {STRING}"),
    "shape missing": (
        {"inputs": [without(A, "shape")]},
        "Unable to parse 'shape': attempt to access non-existing object member 'shape'",
    ),
    "shape no array": ({"inputs": [{**A, "shape": 2}]}, f"Unable to parse 'shape': {ARRAY}"),
    "shape negative": ({"inputs": [{**A, "shape": [-1, 2]}]}, f"Unable to parse 'shape': {UNSIGNED}"),
    "shape fractional": ({"inputs": [{**A, "shape": [1.0, 2]}]}, f"Unable to parse 'shape': {UNSIGNED}"),
    "shape true": ({"inputs": [{**A, "shape": [True, 2]}]}, f"Unable to parse 'shape': {UNSIGNED}"),
    "binary size no integer": (
        {"inputs": [{**without(A, "data"), "parameters": {"binary_data_size": "8"}}]},
        f"Unable to parse 'binary_data_size': {UNSIGNED}",
    ),
    "binary size negative": (
        {"inputs": [{**without(A, "data"), "parameters": {"binary_data_size": -8}}]},
        f"Unable to parse 'binary_data_size': {UNSIGNED}",
    ),
    "data scalar": ({"inputs": [{**A, "data": 1}]}, f"Unable to parse 'data': {ARRAY}"),
    "data null": ({"inputs": [{**A, "data": None}]}, f"Unable to parse 'data': {ARRAY}"),
    "data too long": (
        {"inputs": [{**A, "data": [1, 2, "x"]}]},
        "Unable to parse 'data': Shape does not match true shape of 'data' field",
    ),
    "data too short": (
        {"inputs": [{**A, "data": [[1], []]}]},
        "Failed to parse 'data' field: shape does not match true shape",
    ),
    "data of strings for numbers": (
        {"inputs": [{**A, "data": ["1", 2]}]},
        "Unable to parse 'data': attempt to access JSON non-number as double",
    ),
    "data of truth values for numbers": (
        {"inputs": [{**A, "data": [True, 2]}]},
        "Unable to parse 'data': attempt to access JSON non-number as double",
    ),
    "data of numbers for truth values": (
        {"inputs": [{**A, "datatype": "BOOL"}]},
        f"Unable to parse 'data': {BOOLEAN}",
    ),
    "data of fractions for integers": (
        {"inputs": [{**A, "datatype": "INT8", "data": [1, 2.0]}]},
        f"Unable to parse 'data': {SIGNED}",
    ),
    "data of integers too large": (
        {"inputs": [{**A, "datatype": "INT64", "data": [1, 2**63]}]},
        f"Unable to parse 'data': {SIGNED}",
    ),
    "data of negative integers": (
        {"inputs": [{**A, "datatype": "UINT8", "data": [1, -1]}]},
        f"Unable to parse 'data': {UNSIGNED}",
    ),
    "data of numbers for strings": (
        {"inputs": [{**A, "datatype": "BYTES"}]},
        f"Unable to parse JSON bytes array: {STRING}",
    ),
    "region no string": (
        {"inputs": [{**without(A, "data"), "parameters": {"shared_memory_region": 1}}]},
        f"Unable to parse 'shared_memory_region': {STRING}",
    ),
    "offset no integer": (
        {"inputs": [{**without(A, "data"), "parameters": {**REGION, "shared_memory_offset": -1}}]},
        f"Unable to parse 'shared_memory_offset': {UNSIGNED}",
    ),
    "parameters no object": (
        {"inputs": [A], "parameters": []},
        "failed to get request params.: attempt to get members for non-object",
    ),
    "sequence id": (told(sequence_id=-1), f"Unable to parse 'sequence_id': {STRING}"),
    "sequence start": (told(sequence_start=1), f"Unable to parse 'sequence_start': {BOOLEAN}"),
    "sequence end": (told(sequence_end="true"), f"Unable to parse 'sequence_end': {BOOLEAN}"),
    "priority": (told(priority=-1), f"Unable to parse 'priority': {UNSIGNED}"),
    "timeout": (told(timeout=1.5), f"Unable to parse 'timeout': {UNSIGNED}"),
    "binary output": (told(binary_data_output=1), f"Unable to parse 'binary_data_output': {BOOLEAN}"),
    "outputs no array": ({"inputs": [A], "outputs": {}}, f"Unable to parse 'outputs': {ARRAY}"),
    "output no object": (
        {"inputs": [A], "outputs": ["OUT"]},
        "Unable to parse 'name': attempt to access non-existing object member 'name'",
    ),
    "output form": (asked({"name": "OUT", "binary_data": 1}), f"Unable to parse 'binary_data': {BOOLEAN}"),
    "output classes": (
        asked({"name": "OUT", "classification": -1}),
        f"Unable to set 'classification': {UNSIGNED}",
    ),
    "output region and form": (
        asked({"name": "OUT", **REGION, "binary_data": 1}),
        f"Unable to set 'binary_data': {BOOLEAN}",
    ),
}

INVALID = {
    "no source": ({"inputs": [without(A, "data")]}, f"{SOURCES} no field is set"),
    "input no object": ({"inputs": [1]}, f"{SOURCES} no field is set"),
    "two sources": (
        {"inputs": [{**A, "parameters": {"binary_data_size": 8}}]},
        f"{SOURCES} set 'data' 'binary_data_size'",
    ),
    "three sources": (
        {"inputs": [{**A, "parameters": REGION | {"binary_data_size": 8}}]},
        f"{SOURCES} set 'data' 'binary_data_size' 'shared_memory_region'",
    ),
    "input twice": ({"id": "7", "inputs": [A, A]}, "[request id: 7] input 'A' already exists in request"),
    "output twice": (
        {"inputs": [A], "outputs": [{"name": "OUT"}, {"name": "OUT"}]},
        f"{RID}output 'OUT' already exists in request",
    ),
    "FP16 in JSON": (
        {"inputs": [{**A, "datatype": "FP16"}]},
        "receiving FP16 data via JSON is not supported. Please use the binary data format for input A",
    ),
    "BF16 in JSON": (
        {"inputs": [{**A, "datatype": "BF16"}]},
        "receiving BF16 data via JSON is not supported. Please use the binary data format for input A",
    ),
    "unknown datatype": ({"inputs": [{**A, "datatype": "FP31"}]}, "invalid datatype for input A"),
    "elements beyond counting": (
        {"inputs": [{**A, "shape": [2**62, 2]}]},
        (
            "invalid shape for input 'A': shape [4611686018427387904,2] causes total element count to exceed "
            f"maximum size of {LARGEST}"
        ),
    ),
    "bytes beyond counting": (
        {"inputs": [{**A, "shape": [2**61, 2]}]},
        (
            "byte size overflow for input 'A': element count (4611686018427387904) * data type size (4) "
            f"exceeds maximum allowed size ({LARGEST})"
        ),
    ),
    "dimension beyond counting": (
        {"inputs": [{**A, "shape": [2**63, 2]}]},
        "invalid shape for input 'A': shape [-9223372036854775808,2] contains one or more invalid dimensions",
    ),
    "tensor too large": (
        {"inputs": [{**A, "shape": [1000, 1000]}]},
        (
            "JSON input 'A' has a byte_size (4000000 bytes) that exceeds the maximum allowed value of 100000 "
            "bytes. Use --http-max-input-size to increase the limit."
        ),
    ),
    "strings too large": (
        {"inputs": [{**A, "datatype": "BYTES", "data": [""] * 30_000}]},
        (
            "JSON input 'A' has a byte_size (120000 bytes) that exceeds the maximum allowed value of 100000 "
            "bytes. Use --http-max-input-size to increase the limit."
        ),
    ),
    "JSON too large": (
        {"id": "x" * 100_000},
        (
            "request JSON size of 100009 bytes exceeds the maximum allowed input size of 100000 bytes. Use "
            "--http-max-input-size to increase the limit."
        ),
    ),
    "too many dimensions": (
        {"inputs": [{**A, "shape": [1] * 33}]},
        "request has 33 dimensions in input 'A', more than the 32 that are supported",
    ),
    "too many inputs": (
        {"inputs": [1] * (MAX_TENSORS + 1)},
        "request has 4097 inputs, more than the 4096 that are supported",
    ),
    "too many outputs": (
        {"inputs": [A], "outputs": [1] * (MAX_TENSORS + 1)},
        "request has 4097 outputs, more than the 4096 that are supported",
    ),
    "too many parameters": (
        told(**{str(i): i for i in range(MAX_PARAMETERS + 1)}),
        "request has 1025 parameters, more than the 1024 that are supported",
    ),
    "reserved parameter": (
        told(triton_x=1),
        "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.",
    ),
    "parameter of no type": (
        told(x=None),
        "parameter 'x' has invalid type. It should be either 'int', 'bool', or 'string'.",
    ),
    "parameter of many": (
        told(x=[1]),
        "parameter 'x' has invalid type. It should be either 'int', 'bool', or 'string'.",
    ),
    "region and classes": (
        asked({"name": "OUT", **REGION, "classification": 1}),
        "Output can't set both 'shared_memory_region' and 'classification'",
    ),
    "region and form": (
        asked({"name": "OUT", **REGION, "binary_data": True}),
        "Output can't set both 'shared_memory_region' and 'binary_data'",
    ),
    "binary too long": (
        {"inputs": [binary("A", 8, 1, 2)]},
        "unexpected size for input 'A', expecting 8 additional bytes for model 'm'",
    ),
    "binary beyond counting": (
        {"inputs": [binary("A", 2**64 - 1, 1, 2)]},
        "unexpected size for input 'A', expecting 18446744073709551615 additional bytes for model 'm'",
    ),
}

OTHER = {
    "input in a region": (
        {"inputs": [{**without(A, "data"), "parameters": REGION}]},
        NO_REGION,
        Fault.NOT_FOUND,
    ),
    "output in a region": (
        asked({"name": "OUT", **REGION, "binary_data": False}),
        NO_REGION,
        Fault.NOT_FOUND,
    ),
    "a long correlation id": (
        told(sequence_id="é" * 65),
        "string correlation ID cannot be longer than 128 characters",
        Fault.UNSUPPORTED,
    ),
}

REFUSED = [
    *(pytest.param(*case, Fault.INTERNAL, id=f"internal: {name}") for name, case in INTERNAL.items()),
    *(pytest.param(*case, Fault.INVALID_ARG, id=f"invalid: {name}") for name, case in INVALID.items()),
    *(pytest.param(*case, id=name) for name, case in OTHER.items()),
]


@pytest.mark.parametrize(("document", "message", "fault"), REFUSED)
def test_a_bad_request_is_refused_in_tritons_words(
    target: Target, document: object, message: str, fault: Fault
) -> None:
    with pytest.raises(InferError) as refusal:
        decode_infer(orjson.dumps(document), None, target, 100_000)
    assert (refusal.value.message, refusal.value.fault) == (message, fault)


BINARY_REFUSED = {
    "bytes missing": (
        {"inputs": [binary("A", 8, 1, 2), binary("B", 8, 1, 2)]},
        12,
        "unexpected size for input 'B', expecting 4 additional bytes for model 'm'",
    ),
    "bytes left over": (
        {"inputs": [binary("A", 8, 1, 2)]},
        9,
        "unexpected additional input data for model 'm'",
    ),
    "bytes nobody asked for": ({"inputs": [A]}, 1, "unexpected additional input data for model 'm'"),
    "bytes left over before a bad output": (
        {"inputs": [A], "outputs": 1},
        1,
        "unexpected additional input data for model 'm'",
    ),
}


@pytest.mark.parametrize(("document", "size", "message"), BINARY_REFUSED.values(), ids=BINARY_REFUSED)
def test_the_binary_tail_must_be_as_long_as_the_head_says(
    target: Target, document: object, size: int, message: str
) -> None:
    head = orjson.dumps(document)
    with pytest.raises(InferError) as refusal:
        decode_infer(head + bytes(size), len(head), target)
    assert (refusal.value.message, refusal.value.fault) == (message, Fault.INVALID_ARG)


def test_a_head_longer_than_the_body_is_refused(target: Target) -> None:
    with pytest.raises(InferError, match="unexpected size for request JSON, expecting 3 more bytes"):
        decode_infer(b"{}", 5, target)


@pytest.mark.parametrize(("datatype", "depth"), [("FP32", 100), ("BYTES", 100), ("FP32", 900)])
def test_data_is_nested_less_than_a_hundred_deep(target: Target, datatype: str, depth: int) -> None:
    element = '"a"' if datatype == "BYTES" else "1"

    def nested(levels: int) -> bytes:
        data = "[" * levels + element + "]" * levels
        return f'{{"inputs":[{{"name":"A","shape":[1],"datatype":"{datatype}","data":{data}}}]}}'.encode()

    request, _ = decode_infer(nested(99), None, target)
    assert request.inputs["A"].element_count == 1
    with pytest.raises(InferError) as refusal:
        decode_infer(nested(depth), None, target)
    prefix = "" if datatype == "BYTES" else "Unable to parse 'data': "
    assert refusal.value.message == f"{prefix}JSON nesting depth exceeds maximum allowed limit (100)"
    assert refusal.value.fault is Fault.INVALID_ARG


WHOLE = {
    "id": "7",
    "parameters": {"sequence_id": 1, "priority": 1, "binary_data_output": True, "x": "y"},
    "inputs": [{"name": "A", "shape": [1, 2], "datatype": "FP32", "data": [[1.5, 2]]}, binary("B", 8, 2)],
    "outputs": [{"name": "OUT", "parameters": {"classification": 1, "binary_data": True}}],
}

ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.just([]),
    st.just({}),
    st.sampled_from([-1, 2**31, 2**63, 2**64, 1e400, "FP32", "BYTES", [[[]]], [2**40] * 3, {"A": 1}]),
)


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to everything in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, each in inner for found in places(each, (*path, key)))]


@given(st.data())
def test_a_mutated_request_is_understood_or_refused(target: Target, data: st.DataObject) -> None:
    """Values swapped for odd ones, bytes changed, lengths that lie: a request or an InferError."""
    document = json.loads(json.dumps(WHOLE))
    for path in data.draw(st.lists(st.sampled_from(places(WHOLE)[1:]), max_size=2)):
        holder = document
        try:
            for key in path[:-1]:
                holder = holder[key]
            holder[path[-1]] = copy.deepcopy(data.draw(ODD_VALUES))
        except (LookupError, TypeError):
            continue
    head = bytearray(json.dumps(document).encode())
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(head) - 1))
        head[at : at + 1] = data.draw(st.binary(max_size=2))
    body = bytes(head) + data.draw(st.binary(min_size=7, max_size=9))
    length = data.draw(
        st.sampled_from([len(head), len(head), len(head) - 1, len(body), len(body) + 1, 0, None])
    )
    try:
        request, _ = decode_infer(body, length, target, 10_000)
        Admission(target.config).check(request)
    except InferError:
        return
    assert all(isinstance(tensor, Tensor) for tensor in request.inputs.values())
