"""How requests speak of shared memory: what a codec reads, whom it asks, and where outputs go."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deuteron.proto import kserve_grpc, kserve_http
from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import Response
from deuteron.proto.output_forms import OutputForms
from deuteron.proto.schema import grpc_service_pb2 as pb
from deuteron.proto.shared_memory import (
    MAX_NAME,
    NO_REGIONS,
    RegionPart,
    check_region_name,
    read_tensor,
    segment_name,
    unknown_region,
    write_tensor,
)
from deuteron.proto.target import Target
from deuteron.proto.tensor import Raw, Tensor

LARGEST = 2**64 - 1
A_ROW = np.array([[1.5, 2.5]], np.float32)


Decode = Callable[..., tuple[Any, OutputForms]]
Encode = Callable[..., object]


class Part:
    """A part of a region of bytes."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.byte_size = len(view)

    def write(self, raw: Raw) -> None:
        self.view[: len(raw)] = raw


class Keeper:
    """One region `r` of 64 bytes, in the memory of the test."""

    def __init__(self) -> None:
        self.memory = bytearray(64)
        self.asked: list[RegionPart] = []

    def read(self, part: RegionPart) -> bytes:
        return bytes(self._view(part))

    def destination(self, part: RegionPart) -> Part:
        return Part(self._view(part))

    def _view(self, part: RegionPart) -> memoryview:
        self.asked.append(part)
        if part.region != "r":
            raise unknown_region(part.region)
        part.check_within(len(self.memory))
        return memoryview(self.memory)[part.offset : part.offset + part.byte_size]


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


def placed(**members: int) -> dict[str, Any]:
    return {"shared_memory_region": "r"} | {f"shared_memory_{name}": value for name, value in members.items()}


def over_http(
    target: Target, keeper: Keeper, source: dict[str, Any], **wanted: int
) -> tuple[Any, OutputForms]:
    document: dict[str, Any] = {
        "inputs": [{"name": "A", "shape": [1, 2], "datatype": "FP32", "parameters": source}]
    }
    if wanted:
        document["outputs"] = [{"name": "OUT", "parameters": placed(**wanted)}, {"name": "TEXT"}]
    body = orjson.dumps(document)
    return kserve_http.decode_infer(body, None, target, regions=keeper)


def over_grpc(
    target: Target, keeper: Keeper, source: dict[str, Any], **wanted: int
) -> tuple[Any, OutputForms]:
    message = pb.ModelInferRequest(model_name="m")
    _place(message.inputs.add(name="A", shape=[1, 2], datatype="FP32"), source)
    if wanted:
        _place(message.outputs.add(name="OUT"), placed(**wanted))
        message.outputs.add(name="TEXT")
    return kserve_grpc.decode_infer(message, target, keeper)


def _place(tensor: Any, source: dict[str, Any]) -> None:  # noqa: ANN401 - two messages have it
    for name, value in source.items():
        if isinstance(value, str):
            tensor.parameters[name].string_param = value
        else:
            tensor.parameters[name].int64_param = value


WIRES = pytest.mark.parametrize("decode", [over_http, over_grpc])


@WIRES
def test_an_input_is_read_from_its_region(target: Target, keeper: Keeper, decode: Decode) -> None:
    keeper.memory[8:16] = A_ROW.tobytes()
    request, _ = decode(target, keeper, placed(offset=8, byte_size=8))
    array = request.inputs["A"].numpy()
    assert array.tolist() == A_ROW.tolist()
    assert not array.flags.writeable
    assert keeper.asked == [RegionPart("r", 8, 8)]


@WIRES
def test_the_offset_is_0_where_none_is_given(target: Target, keeper: Keeper, decode: Decode) -> None:
    decode(target, keeper, placed(byte_size=8))
    assert keeper.asked == [RegionPart("r", 0, 8)]


def test_a_part_without_a_size_is_empty_over_http(target: Target, keeper: Keeper) -> None:
    request, _ = over_http(target, keeper, placed())
    assert request.inputs["A"].byte_size == 0


@pytest.mark.parametrize("datatype", [Datatype.BYTES, Datatype.UINT8])
def test_what_was_read_stays_what_it_was(keeper: Keeper, datatype: Datatype) -> None:
    keeper.memory[:6] = b"\2\0\0\0ab"
    shape = (1,) if datatype is Datatype.BYTES else (6,)
    tensor = read_tensor(keeper, RegionPart("r", 0, 6), datatype, shape)
    keeper.memory[:6] = b"\xff" * 6
    assert bytes(tensor.raw) == b"\2\0\0\0ab"


@WIRES
def test_an_output_may_be_wanted_in_a_region(target: Target, keeper: Keeper, decode: Decode) -> None:
    _, forms = decode(target, keeper, placed(byte_size=8), offset=16, byte_size=12)
    destination = forms.of("OUT").destination
    assert destination is not None
    assert destination.byte_size == 12
    assert forms.of("TEXT").destination is None
    assert keeper.asked[1] == RegionPart("r", 16, 12)


OUT = Tensor.from_numpy(np.arange(3, dtype=np.float32).reshape(1, 3))
TEXT = Tensor(Datatype.BYTES, (1, 1), b"\1\0\0\0x")


def test_http_tells_name_datatype_and_shape_of_an_output_in_a_region(target: Target, keeper: Keeper) -> None:
    request, forms = over_http(target, keeper, placed(byte_size=8), offset=16, byte_size=20)
    answer = kserve_http.encode_infer(target, request, Response({"OUT": OUT, "TEXT": TEXT}), forms)
    assert orjson.loads(answer.head)["outputs"] == [
        {"name": "OUT", "datatype": "FP32", "shape": [1, 3]},
        {"name": "TEXT", "datatype": "BYTES", "shape": [1, 1], "data": ["x"]},
    ]
    assert (answer.blobs, answer.json_length) == ([], None)
    assert keeper.memory[16:28] == OUT.raw
    assert not any(keeper.memory[28:])


def test_grpc_leaves_the_raw_entry_of_an_output_in_a_region_empty(target: Target, keeper: Keeper) -> None:
    request, forms = over_grpc(target, keeper, placed(byte_size=8), offset=16, byte_size=20)
    encoded = kserve_grpc.encode_infer(target, request, Response({"OUT": OUT, "TEXT": TEXT}), forms)
    answer = pb.ModelInferResponse.FromString(b"".join(encoded.pieces()))
    assert [(each.name, each.datatype, list(each.shape)) for each in answer.outputs] == [
        ("OUT", "FP32", [1, 3]),
        ("TEXT", "BYTES", [1, 1]),
    ]
    assert not answer.outputs[0].parameters
    assert list(answer.raw_output_contents) == [b"", TEXT.raw]
    assert keeper.memory[16:28] == OUT.raw


@pytest.mark.parametrize(
    ("decode", "encode"),
    [(over_http, kserve_http.encode_infer), (over_grpc, kserve_grpc.encode_infer)],
)
def test_an_output_too_large_for_its_part_is_told_in_tritons_words(
    target: Target, keeper: Keeper, decode: Decode, encode: Encode
) -> None:
    request, forms = decode(target, keeper, placed(byte_size=8), byte_size=11)
    with pytest.raises(InferError) as refusal:
        encode(target, request, Response({"OUT": OUT}), forms)
    assert refusal.value.fault is Fault.INTERNAL
    assert refusal.value.message == (
        "shared memory size specified with the request for output 'OUT' (11 bytes) should be at least 12 "
        "bytes to hold the results"
    )
    assert not any(keeper.memory)


def test_an_empty_output_writes_nothing() -> None:
    write_tensor("OUT", Tensor(Datatype.FP32, (0,), b""), Part(memoryview(b"")))


BEYOND = {
    "offset at the end": (64, 0, "Invalid offset for shared memory region: 'r'"),
    "offset around 2^63": (2**63 - 1, 1, "Invalid offset for shared memory region: 'r'"),
    "one byte too many": (0, 65, "Invalid offset + byte size for shared memory region: 'r'"),
    "offset near the end": (63, 2, "Invalid offset + byte size for shared memory region: 'r'"),
    "end around 2^63": (1, 2**63 - 1, "Invalid offset + byte size for shared memory region: 'r'"),
}


@WIRES
@pytest.mark.parametrize(("offset", "byte_size", "complaint"), BEYOND.values(), ids=BEYOND)
def test_a_part_beyond_its_region_is_refused(
    target: Target, decode: Decode, offset: int, byte_size: int, complaint: str
) -> None:
    beyond = {"offset": offset, "byte_size": byte_size}
    for source, wanted in ((placed(**beyond), {}), (placed(byte_size=8), beyond)):
        with pytest.raises(InferError) as refusal:
            decode(target, Keeper(), source, **wanted)
        assert (refusal.value.fault, refusal.value.message) == (Fault.INVALID_ARG, complaint)


def test_negative_numbers_over_grpc_are_as_large_as_triton_takes_them(target: Target, keeper: Keeper) -> None:
    with pytest.raises(InferError, match=r"^Invalid offset for"):
        over_grpc(target, keeper, placed(offset=-8, byte_size=8))
    with pytest.raises(
        InferError, match=r"^Integer overflow detected: byte_size \(18446744073709551608\) \+"
    ):
        over_grpc(target, keeper, placed(offset=8, byte_size=-8))
    assert keeper.asked == [RegionPart("r", 2**64 - 8, 8), RegionPart("r", 8, 2**64 - 8)]


@given(st.integers(0, LARGEST), st.integers(0, LARGEST), st.integers(1, 2**63))
def test_a_part_passes_exactly_when_it_lies_inside(offset: int, byte_size: int, region_size: int) -> None:
    inside = offset < region_size and offset + byte_size <= region_size
    with nullcontext() if inside else pytest.raises(InferError):
        RegionPart("r", offset, byte_size).check_within(region_size)


def test_who_keeps_no_regions_knows_none() -> None:
    for ask in (NO_REGIONS.read, NO_REGIONS.destination):
        with pytest.raises(InferError) as refusal:
            ask(RegionPart("r", 0, 1))
        assert refusal.value.fault is Fault.NOT_FOUND
        assert refusal.value.message == "Unable to find shared memory region: 'r'"


def test_slashes_before_a_key_say_nothing() -> None:
    assert segment_name("r", "///input0_data") == segment_name("r", "input0_data") == "input0_data"


@pytest.mark.parametrize("key", ["", "/", "////", "k" * (MAX_NAME + 1), "\udc80"])
def test_a_key_that_names_nothing_is_refused(key: str) -> None:
    with pytest.raises(InferError, match=r"^cannot register shared memory region 'r' - invalid shm key '"):
        segment_name("r", key)


@pytest.mark.parametrize("prefix", ["triton_python_backend_shm_region_", "deuteron_", "sem."])
@pytest.mark.parametrize("slashes", ["", "/", "//"])
def test_a_key_of_a_server_is_refused(prefix: str, slashes: str) -> None:
    with pytest.raises(InferError) as refusal:
        segment_name("r", f"{slashes}{prefix}7")
    assert refusal.value.message == (
        f"cannot register shared memory region 'r' with key '{slashes}{prefix}7' as the key contains the "
        f"reserved prefix '{prefix}'"
    )


@pytest.mark.parametrize("name", ["n" * (MAX_NAME + 1), "\ud800"])
def test_a_name_that_cannot_be_listed_is_refused(name: str) -> None:
    with pytest.raises(InferError, match="invalid name"):
        check_region_name(name)
