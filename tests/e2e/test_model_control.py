"""Models are loaded, loaded anew and unloaded by clients, while others are served."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from .clients import LIBRARIES, Client
from .house import Server, poll, serving
from .wire import ask, call, infer

Serve = Callable[..., Server]

ROW = np.ones((1, 4), np.float32)


@pytest.fixture
def models(pick: Callable[..., Path]) -> Path:
    return pick("echo", "labelled", "versioned")


@pytest.fixture
def server(models: Path, serve: Serve) -> Server:
    """Serve one of three models; the others are for clients to load."""
    return serve(models, "--model-control-mode=explicit", "--load-model=echo")


@pytest.fixture(params=LIBRARIES)
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    with Client(request.param, server) as client:
        yield client


def index(client: Client) -> dict[tuple[str, str], tuple[str, str]]:
    """Return state and reason of each version in the index."""
    told = client.tell("get_model_repository_index")
    return {
        (each["name"], each.get("version", "")): (each.get("state", ""), each.get("reason", ""))
        for each in (told if client.is_http else told["models"])
    }


def classify(client: Client) -> list[bytes]:
    """Ask `labelled` for the likeliest class."""
    scores = client.tensor("INPUT0", np.array([[1, 4, 2, 3]], np.float32))
    result = client.infer("labelled", scores, outputs=[client.output("OUTPUT0", class_count=1)])
    return list(result.as_numpy("OUTPUT0")[0].astype(bytes))


def test_only_what_was_asked_for_is_loaded_at_the_start(client: Client) -> None:
    assert client.call("is_server_ready")
    assert index(client) == {
        ("echo", "1"): ("READY", ""),
        ("labelled", ""): ("", ""),
        ("versioned", ""): ("", ""),
    }


def test_a_model_is_loaded_served_and_unloaded(client: Client) -> None:
    client.call("load_model", "labelled")
    assert classify(client) == [b"4.000000:1:east"]
    client.call("unload_model", "labelled")
    poll(lambda: index(client)[("labelled", "1")] == ("UNAVAILABLE", "unloaded"), "the model is unloaded")
    status, message = client.refusal("infer", "labelled", [client.tensor("INPUT0", ROW)])
    assert status == ("404" if client.is_http else "StatusCode.NOT_FOUND")
    assert message == "Request for unknown model: 'labelled' has no available versions"
    assert client.call("is_server_ready")


def test_a_model_that_is_loaded_anew_is_as_its_files_are_now(client: Client, models: Path) -> None:
    client.call("load_model", "labelled")
    (models / "labelled" / "labels.txt").write_text("one\ntwo\nthree\nfour\n")
    assert classify(client) == [b"4.000000:1:east"]
    client.call("load_model", "labelled")
    assert classify(client) == [b"4.000000:1:two"]


def test_a_model_that_cannot_be_loaded_anew_goes_on_as_it_was(client: Client, models: Path) -> None:
    client.call("load_model", "labelled")
    config = models / "labelled" / "config.pbtxt"
    config.write_text(config.read_text() + 'parameters { key: "fail_load" value { string_value: "no" } }')
    status, message = client.refusal("load_model", "labelled")
    assert status == ("400" if client.is_http else "StatusCode.INVALID_ARGUMENT")
    assert message == ("load failed for model 'labelled': version 1 is at UNAVAILABLE state: Internal: no;\n")
    assert classify(client) == [b"4.000000:1:east"]


def test_versions_come_and_go_with_the_policy(client: Client, models: Path) -> None:
    client.call("load_model", "versioned")
    assert {key[1] for key in index(client) if key[0] == "versioned"} == {"1", "3"}
    config = models / "versioned" / "config.pbtxt"
    config.write_text(config.read_text().replace("versions: [ 1, 3 ]", "versions: [ 2 ]"))
    client.call("load_model", "versioned")
    result = client.infer("versioned", client.tensor("ANYTHING", np.zeros(1, np.int32)))
    assert result.as_numpy("VERSION").tolist() == [2]
    poll(lambda: index(client)[("versioned", "3")][0] == "UNAVAILABLE", "version 3 is unloaded")


def test_unloading_what_was_never_loaded_is_no_mistake(client: Client) -> None:
    client.call("unload_model", "labelled")
    client.call("unload_model", "nobody")


def test_only_what_lies_in_the_repository_can_be_loaded(client: Client) -> None:
    status, message = client.refusal("load_model", "nobody")
    assert status == ("500" if client.is_http else "StatusCode.INTERNAL")
    assert message == "failed to load 'nobody', failed to poll from model repository"


PATHS = "invalid model name '{}', model name must not contain path traversal characters"
BAD_NAMES = {
    "..": PATHS.format(".."),
    "../models/labelled": PATHS.format("../models/labelled"),
    "/etc": PATHS.format("/etc"),
    "  ": "Model name cannot be empty. Please enter a valid name to deploy.",
}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_is_not_a_path(server: Server, name: str) -> None:
    asked = pb.RepositoryModelLoadRequest(model_name=name)
    assert call(server.grpc, "RepositoryModelLoad", asked.SerializeToString()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        BAD_NAMES[name],
    )


def test_a_name_in_a_url_is_not_a_path(server: Server) -> None:
    answer = ask(server.http, "POST /v2/repository/models/../load")
    assert (answer.status, answer.body) == (400, {"error": BAD_NAMES[".."]})


# --- while models are asked ---


@contextmanager
def asked(server: Server, model: str, body: dict[str, Any]) -> Iterator[list[int]]:
    """Have four clients ask a model again and again for the length of the block; yields their statuses."""
    statuses: list[int] = []
    done = threading.Event()

    def ask_on() -> None:
        while not done.is_set():
            statuses.append(infer(server.http, model, body)[0])

    askers = [threading.Thread(target=ask_on) for _ in range(4)]
    for asker in askers:
        asker.start()
    try:
        yield statuses
    finally:
        done.set()
        for asker in askers:
            asker.join()


def change(model: Path, number: int) -> None:
    """Change the files of a model, so that there is something to load anew."""
    (model / "1" / "weights").write_text(str(number))


def one_row(name: str, datatype: str, width: int) -> dict[str, Any]:
    """Return a request of one row."""
    return {"inputs": [{"name": name, "datatype": datatype, "shape": [1, width], "data": [1] * width}]}


def test_who_asks_a_model_while_it_is_loaded_anew_is_served(server: Server, models: Path) -> None:
    with asked(server, "echo", one_row("INPUT0", "FP32", 1)) as statuses, Client("grpc", server) as client:
        for number in range(100):
            change(models / "echo", number)
            client.call("load_model", "echo")
    assert len(statuses) > 100
    assert set(statuses) == {200}


TWICE_SLOW = """
platform: "ensemble"
max_batch_size: 8
input [ { name: "IN" data_type: TYPE_INT32 dims: [ 2 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 2 ] } ]
ensemble_scheduling { step [
  { model_name: "slow" model_version: -1
    input_map { key: "INPUT0" value: "IN" } output_map { key: "OUTPUT0" value: "between" } },
  { model_name: "slow" model_version: -1
    input_map { key: "INPUT0" value: "between" } output_map { key: "OUTPUT0" value: "OUT" } }
] }
"""


def test_who_asks_an_ensemble_while_its_models_are_loaded_anew_is_served(
    pick: Callable[..., Path], serve: Serve
) -> None:
    models = pick("slow")
    (models / "twice_slow" / "1").mkdir(parents=True)
    (models / "twice_slow" / "config.pbtxt").write_text(TWICE_SLOW)
    server = serve(models, "--model-control-mode=explicit", "--load-model=*")
    with asked(server, "twice_slow", one_row("IN", "INT32", 2)) as statuses, Client("grpc", server) as client:
        for number in range(30):
            change(models / "slow", number)
            client.call("load_model", "slow")
        poll(lambda: len(statuses) > 20, "requests are answered")
    assert set(statuses) == {200}


# --- where it is not allowed ---


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("method", ["load_model", "unload_model"])
def test_nothing_is_loaded_or_unloaded_unless_that_was_allowed(house: Server, name: str, method: str) -> None:
    with Client(name, house) as client:
        status, message = client.refusal(method, "echo")
    assert status == ("503" if client.is_http else "StatusCode.UNAVAILABLE")
    assert message == "explicit model load / unload is not allowed if polling is enabled"


def test_a_server_may_start_with_nothing(models: Path, tmp_path: Path) -> None:
    with serving(models, tmp_path / "server.log", "--model-control-mode=explicit") as server:
        assert infer(server.http, "echo", {})[0] == 404
