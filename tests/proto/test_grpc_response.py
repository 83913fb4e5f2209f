"""`ModelInferResponse` messages, and what Triton's own client makes of them."""

import math

import numpy as np
import pytest
import tritonclient.grpc as client
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tritonclient.grpc import service_pb2 as published

from deuteron.proto.datatypes import VALID_DATATYPES, Datatype
from deuteron.proto.errors import Fault, InferError, invalid
from deuteron.proto.kserve_grpc import decode_infer
from deuteron.proto.kserve_grpc import encode_infer as encode
from deuteron.proto.message import Request, Response
from deuteron.proto.output_forms import OutputForm, OutputForms
from deuteron.proto.schema import grpc_service_pb2 as pb
from deuteron.proto.target import Target
from deuteron.proto.tensor import Array, Tensor

PLAIN = OutputForms()


def encode_infer(
    target: Target, request: Request, response: Response, forms: OutputForms
) -> pb.ModelInferResponse:
    """Return the message that an answer is on the wire."""
    answer = encode(target, request, response, forms)
    stream = pb.ModelStreamInferResponse.FromString(b"".join(answer.stream_pieces()))
    message = pb.ModelInferResponse.FromString(b"".join(answer.pieces()))
    assert stream.infer_response == message
    return message


TYPED = {
    Datatype.BOOL: "bool_contents",
    Datatype.INT8: "int_contents",
    Datatype.INT16: "int_contents",
    Datatype.INT32: "int_contents",
    Datatype.INT64: "int64_contents",
    Datatype.UINT8: "uint_contents",
    Datatype.UINT16: "uint_contents",
    Datatype.UINT32: "uint_contents",
    Datatype.UINT64: "uint64_contents",
    Datatype.FP32: "fp32_contents",
    Datatype.FP64: "fp64_contents",
    Datatype.BYTES: "bytes_contents",
}


@st.composite
def arrays(draw: st.DrawFn) -> tuple[Datatype, Array]:
    """Draw a datatype and an array of its numpy type."""
    datatype = draw(st.sampled_from(VALID_DATATYPES))
    shape = draw(npst.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    if datatype is not Datatype.BYTES:
        return datatype, draw(npst.arrays(datatype.numpy_type, shape))
    count = math.prod(shape)
    elements = draw(st.lists(st.binary(max_size=6), min_size=count, max_size=count))
    return datatype, np.array(elements, dtype=np.object_).reshape(shape)


def same(one: Array, other: Array) -> bool:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


@given(arrays(), st.booleans())
def test_every_datatype_comes_back_from_typed_and_raw_contents(
    target: Target, drawn: tuple[Datatype, Array], want_typed: bool
) -> None:
    datatype, array = drawn
    tensor = Tensor.from_numpy(array, datatype)
    sent = pb.ModelInferRequest.InferInputTensor(name="A", datatype=datatype.wire_name, shape=array.shape)
    message = pb.ModelInferRequest(inputs=[sent])
    if want_typed and datatype in TYPED:
        message.inputs[0].contents.SetInParent()
        getattr(message.inputs[0].contents, TYPED[datatype]).extend(array.ravel().tolist())
    else:
        message.raw_input_contents.append(bytes(tensor.raw))
    request, _ = decode_infer(pb.ModelInferRequest.FromString(message.SerializeToString()), target)
    read = request.inputs["A"]
    assert (read.datatype, read.shape) == (datatype, array.shape)
    assert same(read.numpy(), array)
    answer = encode_infer(target, request, Response({"OUT": read, "MADE": tensor}), PLAIN)
    assert [output.datatype for output in answer.outputs] == [datatype.wire_name] * 2
    assert [tuple(output.shape) for output in answer.outputs] == [array.shape] * 2
    assert list(answer.raw_output_contents) == [bytes(tensor.raw)] * 2


@given(arrays())
def test_tritons_client_sends_and_understands_every_datatype(
    target: Target, drawn: tuple[Datatype, Array]
) -> None:
    """A whole round: `InferInput` → request → response → `InferResult`."""
    datatype, array = drawn
    sent = client.InferInput("A", array.shape, datatype.wire_name)
    if datatype is Datatype.BF16:
        sent._raw_content = array.tobytes()
    else:
        sent.set_data_from_numpy(array)
    outputs = [client.InferRequestedOutput("OUT")]
    message = client._utils._get_inference_request(
        inputs=[sent],
        model_name="m",
        model_version="",
        request_id="7",
        outputs=outputs,
        sequence_id=0,
        sequence_start=False,
        sequence_end=False,
        priority=0,
        timeout=None,
        parameters=None,
    )
    request, forms = decode_infer(pb.ModelInferRequest.FromString(message.SerializeToString()), target)
    answer = encode_infer(target, request, Response({"OUT": request.inputs["A"]}), forms)
    result = client.InferResult(published.ModelInferResponse.FromString(answer.SerializeToString()))
    assert result.get_response().id == "7"
    found = result.as_numpy("OUT")
    if datatype is Datatype.BF16:
        expected = (array.astype(np.uint32) << 16).view(np.float32)
        assert same(found.astype(np.float32), expected)
    else:
        assert same(found, array)


def test_an_answer_says_who_made_it(target: Target) -> None:
    response = Response(
        {"OUT": Tensor.from_numpy(np.zeros((0,), dtype=np.int8))},
        {"text": "x", "whole": 7, "truth": False, "fraction": 0.5},
    )
    answer = encode_infer(target, Request("m", id="seven"), response, PLAIN)
    assert (answer.id, answer.model_name, answer.model_version) == ("seven", "m", "3")
    assert answer.parameters["text"].string_param == "x"
    assert answer.parameters["whole"].int64_param == 7
    assert answer.parameters["truth"].WhichOneof("parameter_choice") == "bool_param"
    assert answer.parameters["fraction"].double_param == 0.5
    assert list(answer.raw_output_contents) == [b""]


def test_classes_take_the_place_of_values(target: Target) -> None:
    outputs = {
        "TEXT": Tensor.from_numpy(np.array([b"a"], dtype=np.object_)),
        "OUT": Tensor.from_numpy(np.array([[1, 3, 2]], dtype=np.float32)),
    }
    forms = OutputForms(named={"OUT": OutputForm(classes=2)})
    answer = encode_infer(target, Request("m"), Response(outputs), forms)
    result = client.InferResult(published.ModelInferResponse.FromString(answer.SerializeToString()))
    assert result.as_numpy("OUT").tolist() == [[b"3.000000:1", b"2.000000:2:two"]]
    assert result.as_numpy("TEXT").tolist() == [b"a"]


def test_an_answer_too_large_for_grpc_is_refused_before_it_is_made(target: Target) -> None:
    huge = np.broadcast_to(np.int8(0), (2**31,))
    with pytest.raises(InferError) as refusal:
        encode_infer(target, Request("m"), Response({"OUT": Tensor.from_numpy(huge)}), PLAIN)
    assert refusal.value.message == (
        "Response has byte size 2147483680 which exceeds gRPC's byte size limit 2147483647."
    )
    assert refusal.value.fault is Fault.INVALID_ARG


@pytest.mark.parametrize(
    "response",
    [
        Response({}, {"p": 2**63}),
        Response({}, {"p": "\ud800"}),
        Response({"\udcff": Tensor.from_numpy(np.zeros(1))}),
    ],
)
def test_what_protobuf_cannot_hold_is_the_models_fault(target: Target, response: Response) -> None:
    with pytest.raises(InferError, match="response of model 'm' has no protobuf form") as refusal:
        encode_infer(target, Request("m"), response, PLAIN)
    assert refusal.value.fault is Fault.INTERNAL


def test_an_error_is_not_encoded_as_an_answer(target: Target) -> None:
    error = invalid("no")
    with pytest.raises(InferError) as raised:
        encode_infer(target, Request("m"), Response(error=error), PLAIN)
    assert raised.value is error
