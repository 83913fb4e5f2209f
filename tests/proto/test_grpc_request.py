"""`ModelInferRequest` messages: what they become, and the words in which bad ones are refused."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deuteron.proto.admission import Admission
from deuteron.proto.bounds import MAX_PARAMETERS, MAX_TENSORS
from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.kserve_grpc import decode_infer
from deuteron.proto.message import Correlation
from deuteron.proto.output_forms import JSON_FORM, OutputForm
from deuteron.proto.schema import grpc_service_pb2 as pb
from deuteron.proto.target import Target

Value = bool | int | float | str
Parameters = dict[str, pb.InferParameter]

RID = "[request id: <id_unknown>] "


def parameter(**choice: Value) -> pb.InferParameter:
    return pb.InferParameter(**choice)  # type: ignore[arg-type]


def wanted(name: str, **parameters: pb.InferParameter) -> pb.ModelInferRequest.InferRequestedOutputTensor:
    return pb.ModelInferRequest.InferRequestedOutputTensor(name=name, parameters=parameters)


def given_input(
    name: str = "A",
    datatype: str = "FP32",
    shape: Sequence[int] = (1, 2),
    contents: pb.InferTensorContents | None = None,
    parameters: Parameters | None = None,
) -> pb.ModelInferRequest.InferInputTensor:
    return pb.ModelInferRequest.InferInputTensor(
        name=name, datatype=datatype, shape=shape, contents=contents, parameters=parameters
    )


def asking(
    *inputs: pb.ModelInferRequest.InferInputTensor,
    raw: Sequence[bytes] = (),
    id: str = "",  # noqa: A002
) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(model_name="m", id=id, inputs=inputs, raw_input_contents=raw)


def wanting(*outputs: pb.ModelInferRequest.InferRequestedOutputTensor) -> pb.ModelInferRequest:
    message = asking(given_input(), raw=[bytes(8)])
    message.outputs.extend(outputs)
    return message


def told(**parameters: pb.InferParameter) -> pb.ModelInferRequest:
    message = asking(given_input(), raw=[bytes(8)])
    for name, value in parameters.items():
        message.parameters[name].CopyFrom(value)
    return message


def contents(**fields: Any) -> pb.InferTensorContents:  # noqa: ANN401
    return pb.InferTensorContents(**fields)


NUMBER, TEXT, TRUTH = parameter(int64_param=8), parameter(string_param="r"), parameter(bool_param=True)
UNSIGNED, FRACTION = parameter(uint64_param=8), parameter(double_param=0.5)
REGION: Parameters = {"shared_memory_region": TEXT, "shared_memory_byte_size": NUMBER}
EXPLICIT = "unexpected explicit tensor data for input tensor 'A' for model 'm'"

REFUSED = {
    "sequence_id": (
        told(sequence_id=TRUTH),
        "invalid value type for 'sequence_id' parameter, expected int64_param or string_param.",
    ),
    "sequence_id without a value": (
        told(sequence_id=pb.InferParameter()),
        "invalid value type for 'sequence_id' parameter, expected int64_param or string_param.",
    ),
    "sequence_start": (
        told(sequence_start=NUMBER),
        "invalid value type for 'sequence_start' parameter, expected bool_param.",
    ),
    "sequence_end": (
        told(sequence_end=TEXT),
        "invalid value type for 'sequence_end' parameter, expected bool_param.",
    ),
    "priority below zero": (
        told(priority=parameter(int64_param=-1)),
        "invalid value for 'priority', expected value >= 0.",
    ),
    "priority": (
        told(priority=TRUTH),
        "invalid value type for 'priority' parameter, expected int64_param or uint64_param.",
    ),
    "timeout": (
        told(timeout=UNSIGNED),
        "invalid value type for 'timeout' parameter, expected int64_param.",
    ),
    "reserved prefix": (
        told(triton_x=TRUTH),
        (
            "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following keys "
            "starting with 'triton_' are allowed: triton_enable_empty_final_response"
        ),
    ),
    "empty final": (
        told(triton_enable_empty_final_response=NUMBER),
        "invalid value type for 'triton_enable_empty_final_response' parameter, expected bool_param.",
    ),
    "unsigned parameter": (
        told(x=UNSIGNED),
        "invalid value type for 'x' parameter, expected int64_param, bool_param, or string_param.",
    ),
    "too many parameters": (
        told(**{str(number): TRUTH for number in range(MAX_PARAMETERS + 1)}),
        "request has 1025 parameters, more than the 1024 that are supported",
    ),
    "too many inputs": (
        asking(*[given_input()] * (MAX_TENSORS + 1)),
        "request has 4097 inputs, more than the 4096 that are supported",
    ),
    "too many outputs": (
        wanting(*[wanted("OUT")] * (MAX_TENSORS + 1)),
        "request has 4097 outputs, more than the 4096 that are supported",
    ),
    "too many dimensions": (
        asking(given_input(shape=[1] * 33), raw=[b""]),
        "request has 33 dimensions in input 'A', more than the 32 that are supported",
    ),
    "input twice": (
        asking(given_input(), given_input(), raw=[b"", b""], id="7"),
        "[request id: 7] input 'A' already exists in request",
    ),
    "output twice": (
        wanting(wanted("OUT"), wanted("OUT")),
        f"{RID}output 'OUT' already exists in request",
    ),
    "no data": (
        asking(given_input("A"), given_input("B"), raw=[bytes(8)]),
        "unable to find data for input tensor 'B' for model 'm' in request.",
    ),
    "typed and raw contents": (
        asking(given_input("B"), given_input("A", contents=contents(fp32_contents=[1, 2])), raw=[bytes(8)]),
        "contents field must not be specified when using raw_input_contents for 'A' for model 'm'",
    ),
    "two kinds of contents": (
        asking(given_input(contents=contents(fp32_contents=[1.0], bytes_contents=[b"x"]))),
        f"{EXPLICIT}, binary data was already supplied.",
    ),
    "region of no text": (
        asking(given_input(parameters={"shared_memory_region": NUMBER})),
        "invalid value type for 'shared_memory_region' parameter for tensor 'A', expected string_param.",
    ),
    "offset without region": (
        asking(given_input(parameters={"shared_memory_offset": NUMBER})),
        "'shared_memory_offset' can not be specified without 'shared_memory_region' parameter for tensor 'A'",
    ),
    "offset of no number": (
        asking(given_input(parameters=REGION | {"shared_memory_offset": UNSIGNED})),
        "invalid value type for 'shared_memory_offset' parameter for tensor 'A', expected int64_param.",
    ),
    "size without region": (
        asking(given_input(parameters={"shared_memory_byte_size": NUMBER})),
        (
            "'shared_memory_byte_size' can not be specified without 'shared_memory_region' parameter for "
            "tensor 'A'"
        ),
    ),
    "size of no number": (
        asking(given_input(parameters=REGION | {"shared_memory_byte_size": TEXT})),
        "invalid value type for 'shared_memory_byte_size' parameter for tensor 'A', expected int64_param.",
    ),
    "region without size": (
        asking(given_input(parameters={"shared_memory_region": TEXT})),
        (
            "'shared_memory_byte_size' must be specified along with 'shared_memory_region' parameter for "
            "tensor 'A'"
        ),
    ),
    "region and contents": (
        asking(given_input(contents=contents(), parameters=REGION)),
        "unexpected 'content' provided when using shared memory for input tensor 'A' for model 'm'",
    ),
    "classes of no number": (
        wanting(wanted("OUT", classification=UNSIGNED)),
        "invalid value type for 'classification' parameter, expected int64_param",
    ),
    "no classes": (
        wanting(wanted("OUT", classification=parameter(int64_param=0))),
        "invalid value for 'classification' parameter, expected >= 0",
    ),
    "region and classes": (
        wanting(wanted("OUT", classification=NUMBER, **REGION)),
        "output can't set both 'shared_memory_region' and 'classification'",
    ),
}


@pytest.mark.parametrize(("message", "complaint"), REFUSED.values(), ids=REFUSED)
def test_a_bad_request_is_refused_in_tritons_words(
    target: Target, message: pb.ModelInferRequest, complaint: str
) -> None:
    with pytest.raises(InferError) as refusal:
        decode_infer(message, target)
    assert (refusal.value.message, refusal.value.fault) == (complaint, Fault.INVALID_ARG)


@pytest.mark.parametrize(
    "message", [asking(given_input(parameters=REGION)), wanting(wanted("OUT", **REGION))]
)
def test_no_region_of_shared_memory_is_known(target: Target, message: pb.ModelInferRequest) -> None:
    with pytest.raises(InferError) as refusal:
        decode_infer(message, target)
    assert refusal.value.message == "Unable to find shared memory region: 'r'"
    assert refusal.value.fault is Fault.NOT_FOUND


def test_a_correlation_id_has_at_most_128_bytes(target: Target) -> None:
    with pytest.raises(InferError) as refusal:
        decode_infer(told(sequence_id=parameter(string_param="é" * 65)), target)
    assert refusal.value.message == "string correlation ID cannot be longer than 128 characters"
    assert refusal.value.fault is Fault.UNSUPPORTED


CARRIED: dict[str, tuple[Datatype, list[Any]]] = {
    "bool_contents": (Datatype.BOOL, [True, False]),
    "int_contents": (Datatype.INT32, [1, -1]),
    "int64_contents": (Datatype.INT64, [1, -1]),
    "uint_contents": (Datatype.UINT32, [1, 2]),
    "uint64_contents": (Datatype.UINT64, [1, 2]),
    "fp32_contents": (Datatype.FP32, [1.5, 2]),
    "fp64_contents": (Datatype.FP64, [1.5, 2]),
    "bytes_contents": (Datatype.BYTES, [b"a", b""]),
}


@pytest.mark.parametrize("field", CARRIED)
@pytest.mark.parametrize("declared", list(Datatype))
def test_typed_contents_must_be_of_the_declared_datatype(
    target: Target, field: str, declared: Datatype
) -> None:
    """Narrow integers travel in the fields of wider ones; FP16 and BF16 have no field."""
    carried, elements = CARRIED[field]
    narrow = {Datatype.INT32: ("INT8", "INT16", "INT32"), Datatype.UINT32: ("UINT8", "UINT16", "UINT32")}
    name = "unknown" if declared is Datatype.INVALID else declared.wire_name
    message = asking(given_input("A", name, (2,), contents(**{field: elements})))
    if declared.wire_name in narrow.get(carried, (carried.wire_name,)):
        request, _ = decode_infer(message, target)
        expected = np.array(elements, dtype=np.object_ if declared is Datatype.BYTES else declared.numpy_type)
        assert request.inputs["A"].numpy().tolist() == expected.tolist()
        return
    with pytest.raises(InferError) as refusal:
        decode_infer(message, target)
    assert refusal.value.message == (
        f"{EXPLICIT} of type '{carried.wire_name}', expected datatype '{declared.wire_name}'"
    )


@pytest.mark.parametrize(
    ("datatype", "field", "elements", "read"),
    [
        ("INT8", "int_contents", [127, 128, -129, 2**31 - 1], [127, -128, 127, -1]),
        ("INT16", "int_contents", [2**15], [-(2**15)]),
        ("UINT8", "uint_contents", [255, 256, 300], [255, 0, 44]),
        ("UINT16", "uint_contents", [2**32 - 1], [65535]),
    ],
)
def test_integers_are_cut_to_their_datatype(
    target: Target, datatype: str, field: str, elements: list[Value], read: list[int]
) -> None:
    message = asking(given_input("A", datatype, (len(read),), contents(**{field: elements})))
    request, _ = decode_infer(message, target)
    assert request.inputs["A"].numpy().tolist() == read


def test_contents_that_are_there_but_empty_are_no_bytes(target: Target) -> None:
    request, _ = decode_infer(asking(given_input(shape=(0,), contents=contents())), target)
    assert request.inputs["A"].byte_size == 0


def test_raw_contents_are_given_out_in_the_order_of_the_inputs(target: Target) -> None:
    """Entries that are left over are nobody's."""
    message = asking(given_input("A"), given_input("B", "INVALID", (-1,)), raw=[b"12345678", b"xy", b"z"])
    request, forms = decode_infer(message, target)
    assert request.inputs["A"].raw == b"12345678"
    assert request.inputs["B"].raw == b"xy"
    assert (request.inputs["B"].datatype, request.inputs["B"].shape) == (Datatype.INVALID, (-1,))
    assert forms.of("any") == JSON_FORM
    assert not forms.empty_final


def test_everything_a_request_may_say_is_understood(target: Target) -> None:
    message = told(
        sequence_id=parameter(int64_param=-1),
        sequence_end=TRUTH,
        priority=parameter(uint64_param=2**63),
        timeout=NUMBER,
        triton_enable_empty_final_response=TRUTH,
        text=TEXT,
        fraction=FRACTION,
        truth=TRUTH,
        number=NUMBER,
    )
    message.id = "seven"
    message.outputs.extend([wanted("OUT", classification=NUMBER, other=TEXT), wanted("TEXT")])
    request, forms = decode_infer(message, target)
    assert (request.model_name, request.model_version, request.id) == ("m", 3, "seven")
    assert request.correlation == Correlation(2**64 - 1, end=True)
    assert (request.priority, request.timeout_us) == (2**63, 8)
    assert request.parameters == {"text": "r", "fraction": 0.5, "truth": True, "number": 8}
    assert request.requested_outputs == ("OUT", "TEXT")
    assert forms.of("OUT") == OutputForm(classes=8)
    assert forms.of("TEXT") == JSON_FORM
    assert forms.empty_final


@given(st.binary(max_size=40), st.data())
def test_a_mutated_message_is_understood_or_refused(
    target: Target, noise: bytes, data: st.DataObject
) -> None:
    """Whatever protobuf still takes for a message: a request or an InferError, nothing else."""
    seed = data.draw(
        st.sampled_from([message for message, _ in REFUSED.values() if message.ByteSize() < 500])
    )
    body = bytearray(seed.SerializeToString())
    at = data.draw(st.integers(0, len(body)))
    body[at : at + data.draw(st.integers(0, 3))] = noise
    try:
        message = pb.ModelInferRequest.FromString(bytes(body))
    except Exception:  # noqa: BLE001 - protobuf refused it
        return
    try:
        request, _ = decode_infer(message, target)
        Admission(target.config).check(request)
    except InferError:
        return
