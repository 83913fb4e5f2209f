"""What clients send along with a load, and what they ask of an unload."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from .clients import LIBRARIES, Client
from .house import Server, poll
from .wire import ask, call

Serve = Callable[..., Server]

CONFIG = {
    "backend": "python",
    "input": [{"name": "ANYTHING", "data_type": "TYPE_INT32", "dims": [1]}],
    "output": [{"name": "VERSION", "data_type": "TYPE_INT32", "dims": [1]}],
}
ANSWERS_42 = b"""
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answer = pb_utils.Tensor("VERSION", np.array([42], np.int32))
        return [pb_utils.InferenceResponse([answer]) for _ in requests]
"""


@pytest.fixture
def server(pick: Callable[..., Path], serve: Serve) -> Server:
    models = pick("versioned", "echo")
    (models / "twice_echo" / "1").mkdir(parents=True)
    (models / "twice_echo" / "config.pbtxt").write_text(TWICE)
    return serve(models, "--model-control-mode=explicit")


@pytest.fixture(params=LIBRARIES)
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    with Client(request.param, server) as client:
        yield client


def config(**changes: object) -> str:
    return json.dumps({**CONFIG, **changes})


def answer(client: Client, model: str = "versioned") -> list[int]:
    result = client.infer(model, client.tensor("ANYTHING", np.zeros(1, np.int32)))
    return [int(each) for each in result.as_numpy("VERSION")]


def states(client: Client) -> dict[str, dict[str, str]]:
    """Return the states of the versions of each model in the index."""
    told: Any = client.tell("get_model_repository_index")
    found: dict[str, dict[str, str]] = {}
    for each in told if client.is_http else told["models"]:
        found.setdefault(each["name"], {})[each.get("version", "")] = each.get("state", "")
    return found


def test_a_configuration_holds_until_the_next_load_without_one(client: Client) -> None:
    client.call("load_model", "versioned", config=config(version_policy={"specific": {"versions": [2]}}))
    assert answer(client) == [2]
    client.call("load_model", "versioned")
    assert answer(client) == [3]


def test_files_make_the_whole_model_until_the_next_load_without_them(client: Client) -> None:
    client.call("load_model", "versioned", config=config(), files={"file:7/model.py": ANSWERS_42})
    assert answer(client) == [42]
    assert states(client)["versioned"] == {"7": "READY"}
    client.call("load_model", "versioned")
    assert answer(client) == [3]
    poll(lambda: states(client)["versioned"]["7"] == "UNAVAILABLE", "version 7 is unloaded")


def test_a_model_of_files_alone_needs_no_repository(client: Client) -> None:
    client.call("load_model", "sent", config=config(), files={"file:1/model.py": ANSWERS_42})
    assert answer(client, "sent") == [42]
    assert "sent" not in states(client)
    client.call("unload_model", "sent")


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("versioned", {"file:../../escape.py": ANSWERS_42}),
        ("versioned", {"file:/../escape.py": ANSWERS_42}),
        ("nobody", {}),
    ],
)
def test_what_cannot_be_polled_is_refused(client: Client, name: str, files: dict[str, bytes]) -> None:
    status, message = client.refusal("load_model", name, config=config(), files=files)
    assert status == ("500" if client.is_http else "StatusCode.INTERNAL")
    assert message == f"failed to load '{name}', failed to poll from model repository"


def test_a_file_that_breaks_is_told_and_the_model_serves_on(client: Client) -> None:
    client.call("load_model", "versioned")
    files = {"file:1/model.py": b"raise ValueError('broken on purpose')"}
    status, message = client.refusal("load_model", "versioned", config=config(), files=files)
    assert status == ("400" if client.is_http else "StatusCode.INVALID_ARGUMENT")
    assert message.startswith(
        "load failed for model 'versioned': version 1 is at UNAVAILABLE state: Internal: "
    )
    assert "broken on purpose" in message
    assert answer(client) == [3]


TWICE = """
platform: "ensemble"
max_batch_size: 8
input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
ensemble_scheduling { step [
  { model_name: "echo" model_version: -1
    input_map { key: "INPUT0" value: "IN" } output_map { key: "OUTPUT0" value: "between" } },
  { model_name: "echo" model_version: -1
    input_map { key: "INPUT0" value: "between" } output_map { key: "OUTPUT0" value: "OUT" } }
] }
"""


def test_the_models_of_an_ensemble_are_unloaded_with_it_on_demand(client: Client) -> None:
    client.call("load_model", "twice_echo")
    client.call("unload_model", "twice_echo")
    poll(lambda: states(client)["twice_echo"]["1"] == "UNAVAILABLE", "the ensemble is unloaded")
    assert states(client)["echo"] == {"1": "READY"}
    client.call("load_model", "twice_echo")
    client.call("unload_model", "twice_echo", unload_dependents=True)
    poll(lambda: states(client)["echo"]["1"] == "UNAVAILABLE", "its model is unloaded")


def test_an_ensemble_leaves_with_its_model_and_comes_back_with_it(client: Client) -> None:
    client.call("load_model", "twice_echo")
    client.call("unload_model", "echo")
    row = client.tensor("IN", np.ones((1, 4), np.float32))
    status, message = client.refusal("infer", "twice_echo", [row])
    assert status == ("404" if client.is_http else "StatusCode.NOT_FOUND")
    assert message == "Request for unknown model: 'twice_echo' has no available versions"
    client.call("load_model", "echo")
    assert client.infer("twice_echo", row).as_numpy("OUT").tolist() == [[1, 1, 1, 1]]


# --- what no client library sends ---


@pytest.mark.parametrize(
    ("parameters", "status", "error"),
    [
        ({"else": "x"}, 500, "unexpected error on creating Triton parameter"),
        ({"config": 1}, 500, "Unable to parse 'config': attempt to access JSON non-string as string"),
        (
            {"config": "{}", "file:1/a": "YQ"},
            400,
            "load parameter 'file:1/a' is not base64: Incorrect padding",
        ),
        ({"file:1/a": "YQ=="}, 500, "failed to load 'versioned', failed to poll from model repository"),
    ],
)
def test_bad_parameters_are_refused_over_http(
    server: Server, parameters: dict[str, object], status: int, error: str
) -> None:
    told = ask(server.http, "POST /v2/repository/models/versioned/load", {"parameters": parameters})
    assert (told.status, told.body) == (status, {"error": error})


def test_bad_parameters_are_refused_over_grpc(server: Server) -> None:
    parameters = {
        "else": pb.ModelRepositoryParameter(string_param="x"),
        "config": pb.ModelRepositoryParameter(bytes_param=b"{}"),
        "file:1/a": pb.ModelRepositoryParameter(string_param="YQ=="),
    }
    said = {
        "else": "unrecognized load parameter 'else'.",
        "config": "invalid value type for load parameter 'config', expected string_param.",
        "file:1/a": "invalid value type for load parameter 'file:1/a', expected bytes_param.",
    }
    for name, value in parameters.items():
        asked = pb.RepositoryModelLoadRequest(model_name="versioned", parameters={name: value})
        assert call(server.grpc, "RepositoryModelLoad", asked.SerializeToString()) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            said[name],
        )


def test_files_over_http_may_be_large(server: Server) -> None:
    weights = base64.b64encode(bytes(8 << 20)).decode()
    model = base64.b64encode(ANSWERS_42).decode()
    parameters = {"config": config(), "file:1/model.py": model, "file:1/weights": weights}
    told = ask(server.http, "POST /v2/repository/models/versioned/load", {"parameters": parameters})
    assert told.status == 200
