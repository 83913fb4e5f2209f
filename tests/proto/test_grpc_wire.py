"""Large tensors pass protobuf by: they are cut out of requests and laid behind responses, byte for byte."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from deuteron.proto.kserve_grpc import read_infer, wire
from deuteron.proto.schema import grpc_service_pb2 as pb

NAMES = st.text(max_size=200)
BLOBS = st.lists(st.binary(max_size=300), max_size=5)


@st.composite
def requests(draw: st.DrawFn) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name=draw(NAMES), id=draw(NAMES))
    for name in draw(st.lists(NAMES, max_size=3)):
        message.inputs.add(
            name=name, datatype="FP32", shape=draw(st.lists(st.integers(-1, 2**40), max_size=3))
        )
    for name in draw(st.lists(NAMES, max_size=3)):
        message.parameters[name].int64_param = 7
        message.outputs.add(name=name)
    message.raw_input_contents.extend(draw(BLOBS))
    return message


@given(requests())
def test_a_request_is_the_same_with_its_tensors_cut_out(message: pb.ModelInferRequest) -> None:
    body = message.SerializeToString()
    parts = wire.split(body)
    assert parts is not None
    rest, raw = parts
    assert [bytes(each) for each in raw] == list(message.raw_input_contents)
    assert all(each.obj is body for each in raw)
    message.ClearField("raw_input_contents")
    assert pb.ModelInferRequest.FromString(rest) == message


@given(NAMES, BLOBS)
def test_a_response_is_the_same_with_its_tensors_laid_behind_it(name: str, raw: list[bytes]) -> None:
    message = pb.ModelInferResponse(model_name=name)
    pieces = wire.with_raw_outputs(message.SerializeToString(), raw)
    message.raw_output_contents.extend(raw)
    assert b"".join(pieces) == message.SerializeToString()
    stream = pb.ModelStreamInferResponse(infer_response=message)
    assert b"".join(wire.as_stream_response(pieces)) == stream.SerializeToString()


@given(st.integers(0, 2**35))
def test_numbers_are_spelt_as_protobuf_does(number: int) -> None:
    spelt = pb.InferParameter(uint64_param=number).SerializeToString()[1:]
    assert wire.spelt(number) == spelt


@given(st.binary(max_size=60))
def test_whatever_comes_is_cut_as_protobuf_reads_it_or_left_to_protobuf(body: bytes) -> None:
    parts = wire.split(body)
    if parts is None:
        return
    try:
        whole = pb.ModelInferRequest.FromString(body)
    except DecodeError:
        with pytest.raises(DecodeError):
            pb.ModelInferRequest.FromString(parts[0])
        return
    assert [bytes(each) for each in parts[1]] == list(whole.raw_input_contents)
    whole.ClearField("raw_input_contents")
    assert pb.ModelInferRequest.FromString(parts[0]) == whole


def test_many_small_fields_are_left_to_protobuf() -> None:
    body = b"\x3a\x00" * (wire.MOST_FIELDS + 1)
    assert wire.split(body) is None
    assert wire.split(body[: 2 * wire.MOST_FIELDS - 2]) is not None


def test_large_contents_are_views_and_small_ones_are_not() -> None:
    for size, expected in ((10, bytes), (wire.LARGE, memoryview)):
        body = pb.ModelInferRequest(raw_input_contents=[b"x" * size]).SerializeToString()
        message, raw = read_infer(memoryview(body))
        assert isinstance(raw[0], expected)
        assert bytes(raw[0]) == b"x" * size
        assert not message.inputs
    with pytest.raises(DecodeError):
        read_infer(b"\x3a\xff\xff\xff\x7f" + bytes(wire.LARGE))
