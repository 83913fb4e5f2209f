"""What only gRPC can get wrong: messages that are none, typed contents, parameters of the wrong kind."""

from collections.abc import Callable, Sequence

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from .house import Server
from .wire import call, call_infer

pytestmark = pytest.mark.usefixtures("all_is_well")

INVALID = grpc.StatusCode.INVALID_ARGUMENT

Edit = Callable[[pb.ModelInferRequest], object]


def row(values: Sequence[float] | None = (1, 2), raw: bytes | None = None) -> pb.ModelInferRequest:
    """Ask for one row of two numbers, in typed contents or raw."""
    message = pb.ModelInferRequest(model_name="echo")
    tensor = message.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 2])
    if values is not None:
        tensor.contents.fp32_contents.extend(values)
    if raw is not None:
        message.raw_input_contents.append(raw)
    return message


def parameter(name: str, **value: object) -> Edit:
    """Give a request a parameter."""
    return lambda message: message.parameters[name].CopyFrom(pb.InferParameter(**value))


# --- messages ---


@pytest.mark.parametrize("method", ["ModelInfer", "ModelMetadata", "RepositoryIndex"])
@pytest.mark.parametrize("message", [b"\xff\xff\xff\xff", b"\x0a\x10short"])
def test_a_message_that_cannot_be_parsed_is_refused(house: Server, method: str, message: bytes) -> None:
    assert call(house.grpc, method, message) == (grpc.StatusCode.INTERNAL, "Unable to parse request")


def test_a_method_that_does_not_exist_is_unimplemented(house: Server) -> None:
    assert call(house.grpc, "ModelDream", b"")[0] == grpc.StatusCode.UNIMPLEMENTED


def test_an_empty_request_asks_for_a_model_without_a_name(house: Server) -> None:
    told = "Request for unknown model: '' is not found"
    assert call(house.grpc, "ModelInfer", b"") == (grpc.StatusCode.NOT_FOUND, told)


BAD_VERSIONS = {
    "new": "failed to get model version from specified version string 'new' (details: stol),",
    "-2": "invalid model version specified '-2' ,",
}


@pytest.mark.parametrize("version", BAD_VERSIONS)
def test_a_version_is_a_number(house: Server, version: str) -> None:
    asked = row()
    asked.model_version = version
    told = f"{BAD_VERSIONS[version]} version should be an integral value > 0"
    assert call_infer(house.grpc, asked) == (INVALID, told)


# --- data ---


def test_typed_contents_are_data(house: Server) -> None:
    assert call_infer(house.grpc, row()) == (grpc.StatusCode.OK, "")


def both_typed(message: pb.ModelInferRequest) -> None:
    """Fill two fields of the contents."""
    message.inputs[0].contents.bytes_contents.append(b"1")


def other_typed(message: pb.ModelInferRequest) -> None:
    """Fill a field that is not that of the datatype."""
    message.inputs[0].ClearField("contents")
    message.inputs[0].contents.int_contents.extend([1, 2])


MISMATCH = (
    "[request id: <id_unknown>] input byte size mismatch for input 'INPUT0' for model 'echo'. Expected 8, "
)
BAD_DATA = {
    "no data": (
        row(values=None),
        "unable to find data for input tensor 'INPUT0' for model 'echo' in request.",
    ),
    "typed and raw data": (
        row(raw=bytes(8)),
        "contents field must not be specified when using raw_input_contents for 'INPUT0' for model 'echo'",
    ),
    "too few typed elements": (
        row(values=[1]),
        MISMATCH + "got 4",
    ),
    "too few raw bytes": (
        row(values=None, raw=bytes(7)),
        MISMATCH + "got 7",
    ),
}


@pytest.mark.parametrize(("message", "told"), BAD_DATA.values(), ids=BAD_DATA)
def test_data_that_does_not_fit_is_refused(house: Server, message: pb.ModelInferRequest, told: str) -> None:
    assert call_infer(house.grpc, message) == (INVALID, told)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (both_typed, ", binary data was already supplied."),
        (other_typed, " of type 'INT32', expected datatype 'FP32'"),
    ],
)
def test_typed_contents_are_those_of_the_datatype(house: Server, edit: Edit, told: str) -> None:
    message = row()
    edit(message)
    told = f"unexpected explicit tensor data for input tensor 'INPUT0' for model 'echo'{told}"
    assert call_infer(house.grpc, message) == (INVALID, told)


def test_a_negative_dimension_is_refused(house: Server) -> None:
    message = row(values=None, raw=b"")
    message.inputs[0].shape[:] = [1, -1]
    status, told = call_infer(house.grpc, message)
    assert status == INVALID
    assert told.startswith(
        "[request id: <id_unknown>] All input dimensions should be specified for input 'INPUT0'"
    )


def test_a_shape_beyond_all_bounds_is_refused(house: Server) -> None:
    message = row(values=None, raw=bytes(8))
    message.inputs[0].shape[:] = [1, 2**62]
    status, told = call_infer(house.grpc, message)
    assert status == INVALID
    assert "exceeds maximum size of 9223372036854775807" in told


# --- parameters ---

RESERVED = (
    "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following keys starting "
    "with 'triton_' are allowed: triton_enable_empty_final_response"
)
BAD_PARAMETERS = {
    "a priority that is a text": (
        parameter("priority", string_param="high"),
        "invalid value type for 'priority' parameter, expected int64_param or uint64_param.",
    ),
    "a negative priority": (
        parameter("priority", int64_param=-1),
        "invalid value for 'priority', expected value >= 0.",
    ),
    "a timeout that is a truth value": (
        parameter("timeout", bool_param=True),
        "invalid value type for 'timeout' parameter, expected int64_param.",
    ),
    "a sequence flag that is a number": (
        parameter("sequence_start", int64_param=1),
        "invalid value type for 'sequence_start' parameter, expected bool_param.",
    ),
    "a reserved name": (
        parameter("triton_magic", bool_param=True),
        RESERVED,
    ),
    "an unsigned parameter of one's own": (
        parameter("mine", uint64_param=1),
        "invalid value type for 'mine' parameter, expected int64_param, bool_param, or string_param.",
    ),
}


@pytest.mark.parametrize(("edit", "told"), BAD_PARAMETERS.values(), ids=BAD_PARAMETERS)
def test_parameters_are_of_their_kind(house: Server, edit: Edit, told: str) -> None:
    message = row()
    edit(message)
    assert call_infer(house.grpc, message) == (INVALID, told)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"string_param": "3"}, "invalid value type for 'classification' parameter, expected int64_param"),
        ({"int64_param": 0}, "invalid value for 'classification' parameter, expected >= 0"),
    ],
)
def test_a_number_of_classes_is_a_number(house: Server, value: dict[str, object], told: str) -> None:
    message = row()
    message.outputs.add(name="OUTPUT0").parameters["classification"].CopyFrom(pb.InferParameter(**value))
    assert call_infer(house.grpc, message) == (INVALID, told)


# --- classification, over both protocols, for datatypes that have no order ---


@pytest.mark.parametrize("datatype", ["BOOL", "FP16", "BF16", "BYTES"])
def test_what_has_no_order_is_not_classified(house: Server, datatype: str) -> None:
    message = pb.ModelInferRequest(model_name="everything")
    size = {"BOOL": 1, "BYTES": 4}.get(datatype, 2)
    message.inputs.add(name=f"INPUT_{datatype}", datatype=datatype, shape=[1, 1])
    message.raw_input_contents.append(bytes(size))
    message.outputs.add(name=f"OUTPUT_{datatype}").parameters["classification"].int64_param = 1
    told = f"class result not available for output due to unsupported type '{datatype}'"
    assert call_infer(house.grpc, message) == (INVALID, told)
