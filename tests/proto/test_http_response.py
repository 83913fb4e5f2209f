"""Answers to infer requests: their heads to the byte, and the binary tensors behind."""

import math

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import Fault, InferError, invalid
from deuteron.proto.kserve_http import HTTP_STATUS, Answer, encode_error, encode_infer
from deuteron.proto.message import Request, Response
from deuteron.proto.output_forms import BINARY_FORM, JSON_FORM, OutputForm, OutputForms
from deuteron.proto.target import Target
from deuteron.proto.tensor import Array, Raw, Tensor

JSON, BINARY = OutputForms(JSON_FORM), OutputForms(BINARY_FORM)


def strings(*elements: bytes) -> Tensor:
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return Tensor.from_numpy(array)


def data_of(target: Target, tensor: Tensor) -> bytes:
    """Return the `data` of an output as it stands in the answer."""
    answer = encode_infer(target, Request("m"), Response({"O": tensor}), JSON)
    head, _, data = answer.head.partition(b'"data":')
    assert head.startswith(b'{"model_name":"m","model_version":"3","outputs":[{"name":"O","datatype":')
    assert data.endswith(b"}]}")
    assert answer.json_length is None
    return data.removesuffix(b"}]}")


def test_the_members_of_an_answer_stand_in_tritons_order(target: Target) -> None:
    response = Response(
        {"TEXT": strings(b"a"), "OUT": Tensor.from_numpy(np.array([[1.5, 2]], dtype=np.float32))},
        {"text": "x", "whole": 7, "truth": False, "fraction": 0.5, "none": math.nan},
    )
    forms = OutputForms(JSON_FORM, {"OUT": BINARY_FORM})
    answer = encode_infer(target, Request("m", 3, "seven"), response, forms)
    assert answer.head == (
        b'{"id":"seven","model_name":"m","model_version":"3",'
        b'"parameters":{"text":"x","whole":7,"truth":false,"fraction":0.5,"none":NaN},'
        b'"outputs":[{"name":"TEXT","datatype":"BYTES","shape":[1],"data":["a"]},'
        b'{"name":"OUT","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}]}'
    )
    assert b"".join(answer.blobs) == np.array([1.5, 2], dtype=np.float32).tobytes()
    assert answer.json_length == len(answer.head)
    assert answer.content_type == "application/octet-stream"


def test_an_answer_without_bytes_behind_it_is_plain_json(target: Target) -> None:
    """Binary outputs that are empty leave nothing to separate."""
    response = Response({"OUT": Tensor.from_numpy(np.zeros((1, 0), dtype=np.int8))})
    answer = encode_infer(target, Request("m"), response, BINARY)
    assert answer == Answer(
        b'{"model_name":"m","model_version":"3","outputs":[{"name":"OUT","datatype":"INT8","shape":[1,0],'
        b'"parameters":{"binary_data_size":0}}]}',
        [],
        None,
    )
    assert answer.content_type == "application/json"


def test_binary_outputs_are_handed_on_untouched(target: Target) -> None:
    """What a model produced is viewed, what a client sent is the same object: nothing large is copied."""
    array = np.arange(60_000, dtype=np.int64).reshape(2, 30_000)
    raw: Raw = memoryview(b"12345678")
    outputs = {"MADE": Tensor.from_numpy(array), "SENT": Tensor(Datatype.FP64, (1,), raw)}
    made, sent = encode_infer(target, Request("m"), Response(outputs), BINARY).blobs
    assert np.shares_memory(np.frombuffer(made, dtype=np.int64), array)
    assert sent is raw


WRITTEN = {
    "floats as doubles": (
        np.array([0.1, 1, -(2.0**-20)], dtype=np.float32),
        b"[0.10000000149011612,1.0,-9.5367431640625e-7]",
    ),
    "doubles": (np.array([0.1, 100.0]), b"[0.1,100.0]"),
    "what is not finite": (
        np.array([np.nan, np.inf, -np.inf, 1], dtype=np.float32),
        b"[NaN,Infinity,-Infinity,1.0]",
    ),
    "integers": (np.array([[1, 2], [3, -4]], dtype=np.int8), b"[1,2,3,-4]"),
    "the largest integer": (np.array([2**64 - 1], dtype=np.uint64), b"[18446744073709551615]"),
    "truth": (np.array([True, False]), b"[true,false]"),
    "columns first": (np.asfortranarray(np.array([[1, 2], [3, 4]], dtype=np.float32)), b"[1.0,2.0,3.0,4.0]"),
    "every other": (np.arange(6, dtype=np.int32)[::2], b"[0,2,4]"),
    "a scalar": (np.array(7, dtype=np.uint16), b"[7]"),
    "nothing": (np.zeros((2, 0)), b"[]"),
}


@pytest.mark.parametrize(("array", "data"), WRITTEN.values(), ids=WRITTEN)
def test_data_is_written_flat_as_triton_does(target: Target, array: Array, data: bytes) -> None:
    assert data_of(target, Tensor.from_numpy(array)) == data


def test_any_byte_but_zero_is_true(target: Target) -> None:
    assert data_of(target, Tensor(Datatype.BOOL, (3,), b"\x00\x01\x02")) == b"[false,true,true]"


def test_strings_are_written_as_strings(target: Target) -> None:
    assert data_of(target, strings(b"", b'"\\\n', "é".encode())) == '["","\\"\\\\\\n","é"]'.encode()


def test_bytes_that_are_no_unicode_go_into_their_string_as_they_are(target: Target) -> None:
    assert (
        data_of(target, strings(b"\xff\x00\xfe", b'"', "é".encode()))
        == b'["\xff\\u0000\xfe","\\"","\xc3\xa9"]'
    )


def test_an_output_may_be_classes_in_either_form(target: Target) -> None:
    response = Response({"OUT": Tensor.from_numpy(np.array([[1, 3, 2]], dtype=np.float32))})
    answer = encode_infer(
        target, Request("m"), response, OutputForms(JSON_FORM, {"OUT": OutputForm(classes=2)})
    )
    assert answer.head.endswith(
        b'{"name":"OUT","datatype":"BYTES","shape":[1,2],"data":["3.000000:1","2.000000:2:two"]}]}'
    )
    answer = encode_infer(target, Request("m"), response, OutputForms(OutputForm(binary=True, classes=1)))
    assert b'"datatype":"BYTES","shape":[1,1],"parameters":{"binary_data_size":14}' in answer.head
    assert b"".join(answer.blobs) == b"\x0a\0\0\x003.000000:1"


REFUSED = {
    "FP16": (
        Tensor(Datatype.FP16, (1,), bytes(2)),
        "sending FP16 data via JSON is not supported. Please use the binary data format for output",
        Fault.INVALID_ARG,
    ),
    "BF16": (
        Tensor(Datatype.BF16, (1,), bytes(2)),
        "sending BF16 data via JSON is not supported. Please use the binary data format for output",
        Fault.INVALID_ARG,
    ),
    "no datatype": (
        Tensor(Datatype.INVALID, (1,), b""),
        "Invalid data type for output tensor",
        Fault.INVALID_ARG,
    ),
    "too few bytes": (
        Tensor(Datatype.FP32, (2,), bytes(4)),
        "Failed to write 'data' field: output tensor shape does not match size of output for 'O'",
        Fault.INTERNAL,
    ),
    "too few strings": (
        Tensor(Datatype.BYTES, (2,), bytes(4)),
        "output tensor shape does not match size of output for 'O'",
        Fault.INTERNAL,
    ),
    "half a string": (
        Tensor(Datatype.BYTES, (1,), b"\x09\0\0\0abc"),
        "output tensor shape does not match size of output for 'O'",
        Fault.INTERNAL,
    ),
}


@pytest.mark.parametrize(("tensor", "message", "fault"), REFUSED.values(), ids=REFUSED)
def test_what_json_has_no_form_for_is_refused(
    target: Target, tensor: Tensor, message: str, fault: Fault
) -> None:
    with pytest.raises(InferError) as refusal:
        data_of(target, tensor)
    assert (refusal.value.message, refusal.value.fault) == (message, fault)


@pytest.mark.parametrize("value", ["\ud800", 2**64])
def test_a_parameter_that_json_cannot_hold_is_the_models_fault(target: Target, value: str | int) -> None:
    with pytest.raises(InferError) as refusal:
        encode_infer(target, Request("m"), Response({}, {"p": value}), JSON)
    assert refusal.value.fault is Fault.INTERNAL


def test_an_error_is_not_encoded_as_an_answer(target: Target) -> None:
    error = invalid("no")
    with pytest.raises(InferError) as raised:
        encode_infer(target, Request("m"), Response(error=error), JSON)
    assert raised.value is error


@given(st.text() | st.binary().map(lambda b: b.decode("utf-8", "surrogateescape")))
def test_every_message_fits_into_an_error_body(message: str) -> None:
    body = orjson.loads(encode_error(message))
    assert body == {"error": message.encode(errors="replace").decode()}


def test_every_fault_has_a_status() -> None:
    assert HTTP_STATUS.keys() == set(Fault)
