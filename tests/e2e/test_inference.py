"""Models of every kind answer right, through each of Triton's clients, with all that a request can say."""

import asyncio
from collections.abc import Iterable
from queue import SimpleQueue
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferInput, InferResult

from .clients import LIBRARIES, Client
from .house import Server
from .wire import ask, infer

IN_FLIGHT = 64

ONES = np.ones((1, 4), np.float32)
COUNTING = np.arange(8, dtype=np.float32).reshape(2, 4)
LEFT = np.arange(16, dtype=np.int32).reshape(1, 16)
RIGHT = np.full((1, 16), 3, np.int32)


# --- kinds of models ---


@pytest.mark.parametrize("rows", [1, 3])
def test_a_python_model_answers_with_several_outputs(client: Client, rows: int) -> None:
    left, right = np.repeat(LEFT, rows, axis=0), np.repeat(RIGHT, rows, axis=0)
    result = client.infer("add_sub", client.tensor("INPUT0", left), client.tensor("INPUT1", right))
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), left - right)


def test_an_onnx_model_answers(client: Client) -> None:
    result = client.infer("onnx_add_sub", client.tensor("A", COUNTING), client.tensor("B", COUNTING))
    np.testing.assert_array_equal(result.as_numpy("SUM"), COUNTING * 2)
    np.testing.assert_array_equal(result.as_numpy("DIFFERENCE"), COUNTING * 0)


def test_a_torchscript_model_answers(client: Client) -> None:
    result = client.infer("torch_double", client.tensor("x", COUNTING))
    np.testing.assert_array_equal(result.as_numpy("doubled"), COUNTING * 2)


def test_an_ensemble_answers_with_what_its_models_make_of_it(client: Client) -> None:
    result = client.infer("chain", client.tensor("A", COUNTING), client.tensor("B", ONES.repeat(2, axis=0)))
    np.testing.assert_array_equal(result.as_numpy("OUT"), (COUNTING + 1) * 2)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, (0, False, False)),
        ({"sequence_id": 7, "sequence_start": True}, (7, True, False)),
        ({"sequence_id": 2**63 + 1, "sequence_end": True}, (-(2**63) + 1, False, True)),
        ({"sequence_id": "talk"}, ("talk", False, False)),
    ],
)
def test_an_ensemble_tells_where_in_a_sequence_its_request_was(
    house: Server, asked: dict[str, Any], told: tuple[Any, ...]
) -> None:
    """Triton adds the three parameters to every response of an ensemble; the ID has a sign there."""
    inputs = [{"name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]} for name in "AB"]
    status, answer = infer(house.http, "chain", {"inputs": inputs, "parameters": asked})
    assert status == 200
    names = ("sequence_id", "sequence_start", "sequence_end")
    assert answer["parameters"] == dict(zip(names, told, strict=True))


# --- what a request can say ---


def test_only_the_outputs_that_are_asked_for_come_back(client: Client) -> None:
    result = client.infer(
        "add_sub",
        client.tensor("INPUT0", LEFT),
        client.tensor("INPUT1", RIGHT),
        outputs=[client.output("OUTPUT1")],
    )
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), LEFT - RIGHT)
    assert result.as_numpy("OUTPUT0") is None


@pytest.mark.parametrize("request_id", ["", "7", 'ä request with 語 and "quotes"'])
def test_the_id_of_a_request_comes_back(client: Client, request_id: str) -> None:
    result = client.infer("echo", client.tensor("INPUT0", ONES), request_id=request_id)
    response = result.get_response() if client.is_http else result.get_response(as_json=True)
    assert response.get("id", "") == request_id


def test_a_response_tells_its_model_and_the_parameters_the_model_set(client: Client) -> None:
    result = client.infer("echo", client.tensor("INPUT0", ONES))
    if client.is_http:
        response = result.get_response()
        parameters = response["parameters"]
    else:
        response = result.get_response(as_json=True)
        told = result.get_response().parameters
        parameters = {name: getattr(each, each.WhichOneof("parameter_choice")) for name, each in told.items()}
    assert (response["model_name"], response["model_version"]) == ("echo", "1")
    assert parameters == {
        "param0": "an example string parameter",
        "param1": 42,
        "param2": False,
        "param3": 123.123,
    }


@pytest.mark.parametrize("value", ["text", 12, True])
def test_a_request_takes_parameters_of_its_own(client: Client, value: object) -> None:
    result = client.infer(
        "echo", client.tensor("INPUT0", ONES), parameters={"mine": value}, priority=1, timeout=10**6
    )
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), ONES)


@pytest.mark.parametrize(("asked", "answered"), [("", 3), ("3", 3), ("1", 1)])
def test_a_version_answers_when_it_is_named_and_the_latest_otherwise(
    client: Client, asked: str, answered: int
) -> None:
    result = client.infer("versioned", client.tensor("ANYTHING", np.zeros(1, np.int32)), model_version=asked)
    assert result.as_numpy("VERSION").tolist() == [answered]


def test_classes_come_with_their_labels_likeliest_first(client: Client) -> None:
    scores = np.array([[0.1, 0.6, 0.05, 0.25], [9, -1, 3, 4]], np.float32)
    result = client.infer(
        "labelled", client.tensor("INPUT0", scores), outputs=[client.output("OUTPUT0", class_count=2)]
    )
    assert result.as_numpy("OUTPUT0").astype(bytes).tolist() == [
        [b"0.600000:1:east", b"0.250000:3:west"],
        [b"9.000000:0:north", b"4.000000:3:west"],
    ]


def test_a_request_for_more_classes_than_there_are_gets_all(client: Client) -> None:
    result = client.infer(
        "labelled", client.tensor("INPUT0", ONES), outputs=[client.output("OUTPUT0", class_count=99)]
    )
    assert result.as_numpy("OUTPUT0").shape == (1, 4)


def test_a_body_without_any_json_is_the_data_of_the_only_input(house: Server) -> None:
    answer = ask(
        house.http, "POST /v2/models/echo/infer", ONES.tobytes(), {"Inference-Header-Content-Length": "0"}
    )
    assert answer.status == 200
    assert answer.body.endswith(ONES.tobytes())


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_requests_and_responses_may_be_compressed(client: Client, algorithm: str) -> None:
    zeros = np.zeros((8, 10_000), np.float32)
    options = (
        {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
        if client.is_http
        else {"compression_algorithm": algorithm}
    )
    result = client.infer("echo", client.tensor("INPUT0", zeros), **options)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), zeros)


# --- many at once ---


def numbered(library: ModuleType) -> list[InferInput]:
    """Make inputs that can be told apart."""
    arrays = [np.full((1, 4), index, np.float32) for index in range(IN_FLIGHT)]
    return [library.InferInput("INPUT0", [1, 4], "FP32").set_data_from_numpy(array) for array in arrays]


def numbers(results: Iterable[InferResult]) -> list[int]:
    """Return what tells results apart."""
    return [int(result.as_numpy("OUTPUT0")[0, 0]) for result in results]


def test_the_http_client_has_many_requests_in_flight(house: Server) -> None:
    library = LIBRARIES["http"]
    with library.InferenceServerClient(house.http, concurrency=16) as client:
        waiting = [client.async_infer("echo", [tensor]) for tensor in numbered(library)]
        assert numbers(each.get_result() for each in waiting) == list(range(IN_FLIGHT))


def test_the_grpc_client_has_many_requests_in_flight(house: Server) -> None:
    library = LIBRARIES["grpc"]
    done: SimpleQueue[InferResult] = SimpleQueue()
    with library.InferenceServerClient(house.grpc) as client:
        for tensor in numbered(library):
            client.async_infer("echo", [tensor], lambda result, error: done.put(error or result))
        assert sorted(numbers(done.get(timeout=20) for _ in range(IN_FLIGHT))) == list(range(IN_FLIGHT))


@pytest.mark.parametrize("name", ["http.aio", "grpc.aio"])
async def test_the_asyncio_clients_have_many_requests_in_flight(house: Server, name: str) -> None:
    library = LIBRARIES[name]
    address = house.http if name.startswith("http") else house.grpc
    async with library.InferenceServerClient(address) as client:
        results = await asyncio.gather(*(client.infer("echo", [tensor]) for tensor in numbered(library)))
    assert numbers(results) == list(range(IN_FLIGHT))
