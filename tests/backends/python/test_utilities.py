"""The rest of `triton_python_backend_utils`: requests, responses, errors, helpers, the logger."""

import json
import logging
import struct
from typing import Any

import numpy as np
import pytest

from deuteron.backends.python.api import log
from deuteron.backends.python.api import triton_python_backend_utils as pb_utils
from deuteron.backends.python.arrived import ArrivedRequest, Terms
from deuteron.proto.datatypes import VALID_DATATYPES, Datatype
from deuteron.proto.message import Correlation, Request
from deuteron.proto.tensor import Tensor

TERMS = Terms(decoupled=False, outputs=("A", "B"))


def arrived(request: Request) -> ArrivedRequest:
    return ArrivedRequest(request, 0, lambda _row, _response: None, TERMS)


def made(**changes: Any) -> pb_utils.InferenceRequest:  # noqa: ANN401 - what is wrong differs in type
    required = {"inputs": [], "requested_output_names": ["O"], "model_name": "m"}
    return pb_utils.InferenceRequest(**{**required, **changes})


def test_a_request_tells_what_the_client_said() -> None:
    tensors = {name: Tensor.from_numpy(np.zeros((1, 1))) for name in ("X", "Y")}
    request = arrived(
        Request("m", 1, "id7", tensors, ("B", "A", "B"), {"b": 1.5, "a": 'x"/é', "z": True}, timeout_us=77)
    )
    assert [each.name() for each in request.inputs()] == ["X", "Y"]
    assert request.inputs()[0] is request.inputs()[0]
    assert pb_utils.get_input_tensor_by_name(request, "Y") is request.inputs()[1]
    assert pb_utils.get_input_tensor_by_name(request, "Z") is None
    assert request.request_id() == "id7"
    assert request.requested_output_names() == ["A", "B"]
    assert request.parameters() == '{"b":1.5,"a":"x\\"/é","z":true}'
    assert request.timeout() == 77
    assert request.trace().get_context() is None
    assert isinstance(request, pb_utils.InferenceRequest)


def test_a_request_that_says_little_has_defaults() -> None:
    request = arrived(Request("m"))
    assert request.request_id() == ""
    assert request.requested_output_names() == ["A", "B"]
    assert request.parameters() == "{}"
    assert (request.correlation_id(), request.flags(), request.timeout()) == (0, 0, 0)


@pytest.mark.parametrize(
    ("correlation", "flags"),
    [
        (Correlation(5), 0),
        (Correlation(2**64 - 1, start=True), 1),
        (Correlation("se'q", end=True), 2),
        (Correlation("both", start=True, end=True), 3),
    ],
)
def test_a_request_tells_its_place_in_a_sequence(correlation: Correlation, flags: int) -> None:
    request = arrived(Request("m", correlation=correlation))
    assert (request.correlation_id(), request.flags()) == (correlation.id, flags)
    request.set_flags(0)
    assert request.flags() == 0


def test_a_request_can_be_made() -> None:
    tensor = pb_utils.Tensor("X", np.zeros(1))
    request = made(
        inputs=[tensor],
        requested_output_names=["B", "A", "B"],
        request_id="r",
        correlation_id="s",
        flags=1,
        timeout=9,
        parameters={"a": 1},
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
        trace=pb_utils.InferenceTrace(),
    )
    assert request.inputs() == [tensor]
    assert request.requested_output_names() == ["A", "B"]
    assert (request.request_id(), request.correlation_id(), request.flags()) == ("r", "s", 1)
    assert (request.timeout(), json.loads(request.parameters())) == (9, {"a": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": [None]}, "Input tensor for request with id '' and model name 'm' should not be empty."),
        (
            {"requested_output_names": [""], "request_id": "q"},
            "Requested output name for request with id 'q' and model name 'm' should not be empty.",
        ),
        ({"correlation_id": 1.5}, "Correlation ID must be integer or string"),
        ({"parameters": {1: 2}}, "Expect parameters keys to have type str, found type <class 'int'>"),
        (
            {"parameters": {"a": 1.5}},
            "Expect parameters values to have type bool/int/str, found type <class 'float'>",
        ),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(pb_utils.TritonModelException) as caught:
        made(**changes)
    assert str(caught.value) == message


def test_a_response_tells_what_it_holds() -> None:
    tensor = pb_utils.Tensor("O", np.zeros(1))
    response = pb_utils.InferenceResponse((tensor,), parameters={"a": 1, "b": "é"})
    assert response.output_tensors() == [tensor]
    assert pb_utils.get_output_tensor_by_name(response, "O") is tensor
    assert pb_utils.get_output_tensor_by_name(response, "P") is None
    assert (response.has_error(), response.error()) == (False, None)
    assert json.loads(response.parameters()) == {"a": 1, "b": "é"}
    assert pb_utils.InferenceResponse().parameters() == "{}"


def test_a_response_may_be_an_error() -> None:
    error = pb_utils.TritonError("no", pb_utils.TritonError.NOT_FOUND)
    response = pb_utils.InferenceResponse(error=error)
    assert response.has_error()
    assert response.error() is error
    assert (error.message(), error.code()) == ("no", pb_utils.TritonError.NOT_FOUND)
    assert pb_utils.TritonError("x").code() == pb_utils.TritonError.INTERNAL


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (
            {"output_tensors": [None]},
            pb_utils.TritonModelException,
            "Output tensor for inference response should not be empty.",
        ),
        ({"output_tensors": [3]}, TypeError, "expected Tensor objects"),
        ({"error": "boo"}, TypeError, "error must be a TritonError"),
        ({"parameters": [1]}, TypeError, "parameters must be a dict"),
        ({"parameters": {"a": None}}, pb_utils.TritonModelException, "Expect parameters values"),
    ],
)
def test_a_response_that_makes_no_sense_is_refused(
    arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        pb_utils.InferenceResponse(**arguments)


def test_errors_are_made_of_text_and_a_code() -> None:
    with pytest.raises(TypeError):
        pb_utils.TritonError(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        pb_utils.TritonError("text", 17)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        pb_utils.PreferredMemory(17)  # type: ignore[arg-type]


def test_the_constants_have_the_numbers_of_the_public_api() -> None:
    assert pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START == 1
    assert pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END == 2
    assert pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL == 1
    assert pb_utils.TRITONSERVER_REQUEST_RELEASE_ALL == 1
    assert pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE == 2


def test_datatypes_translate_between_numbers_names_and_numpy() -> None:
    for datatype in VALID_DATATYPES:
        number, name = datatype.value, datatype.config_name
        if datatype is Datatype.BF16:
            assert pb_utils.triton_to_numpy_type(number) is None
            with pytest.raises(KeyError):
                pb_utils.triton_string_to_numpy(name)
        else:
            numpy_type = pb_utils.triton_to_numpy_type(number)
            assert numpy_type is not None
            assert pb_utils.numpy_to_triton_type(numpy_type) == number
            assert np.dtype(pb_utils.triton_string_to_numpy(name)) == np.dtype(numpy_type)
    assert pb_utils.triton_to_numpy_type(99) is None
    assert pb_utils.numpy_to_triton_type(np.complex64) is None
    assert pb_utils.numpy_to_triton_type(np.bytes_) == Datatype.BYTES.value


def test_byte_tensors_are_serialised_and_back() -> None:
    spelt = pb_utils.serialize_byte_tensor(np.array(["x", b"yz", 3], object))
    assert spelt == b"\x01\0\0\0x\x02\0\0\0yz\x01\0\0\x003"
    assert pb_utils.deserialize_bytes_tensor(spelt).tolist() == [b"x", b"yz", b"3"]
    assert pb_utils.deserialize_bytes_tensor(b"").tolist() == []
    assert pb_utils.serialize_byte_tensor(np.array([], object)) == ()
    assert pb_utils.serialize_byte_tensor(np.array([1.0])) is None
    with pytest.raises(struct.error):
        pb_utils.deserialize_bytes_tensor(b"\x05\0\0\0x")


def test_configurations_are_looked_into() -> None:
    config = {
        "input": [{"name": "I"}],
        "output": [{"name": "O"}],
        "model_transaction_policy": {"decoupled": True},
    }
    assert pb_utils.get_input_config_by_name(config, "I") == {"name": "I"}
    assert pb_utils.get_output_config_by_name(config, "O") == {"name": "O"}
    assert pb_utils.get_input_config_by_name(config, "O") is None
    assert pb_utils.get_output_config_by_name({}, "O") is None
    assert pb_utils.using_decoupled_model_transaction_policy(config)
    assert not pb_utils.using_decoupled_model_transaction_policy({})


LEVELS = {
    "log_info": logging.INFO,
    "log_warn": logging.WARNING,
    "log_error": logging.ERROR,
    "log_verbose": logging.DEBUG,
}


@pytest.mark.parametrize(("method", "level"), LEVELS.items())
def test_the_logger_writes_with_the_place_of_its_caller(
    caplog: pytest.LogCaptureFixture, method: str, level: int
) -> None:
    caplog.set_level(logging.DEBUG, log.LOGGER_NAME)
    getattr(pb_utils.Logger, method)("a % message")
    (record,) = caplog.records
    assert (record.name, record.levelno, record.getMessage()) == ("deuteron.model", level, "a % message")
    assert record.pathname == __file__


def test_the_logger_takes_a_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, log.LOGGER_NAME)
    pb_utils.Logger.log("default")
    pb_utils.Logger.log("warned", pb_utils.Logger.WARNING)
    pb_utils.Logger.log("dropped", pb_utils.Logger.VERBOSE)
    assert [each.levelno for each in caplog.records] == [logging.INFO, logging.WARNING]
    with pytest.raises(TypeError):
        pb_utils.Logger.log(3)  # type: ignore[arg-type]


def test_whoever_runs_models_decides_where_they_log() -> None:
    taken: list[tuple[Any, ...]] = []
    log.install_log_sink(lambda *record: taken.append(record))
    try:
        pb_utils.Logger.log_error("here")
    finally:
        log.install_log_sink(log.to_standard_logging)
    ((level, message, file, line),) = taken
    assert (level, message, file) == (log.LogLevel.ERROR, "here", __file__)
    assert line > 0


def test_everything_that_is_offered_is_there() -> None:
    assert all(hasattr(pb_utils, name) for name in pb_utils.__all__)
