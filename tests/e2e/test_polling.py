"""A server that polls its repositories follows what happens there."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .clients import Client
from .house import Server, poll
from .wire import ask

Serve = Callable[..., Server]

COPY_S = 3.0
"""How long a slow copy takes; the server looks each second."""
PIECES = 60

WARM = """
backend: "identity"
max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] } ]
model_warmup { name: "first" batch_size: 1
  inputs { key: "INPUT0" value { data_type: TYPE_FP32 dims: [ 4 ] input_data_file: "row" } } }
"""


@pytest.fixture
def models(pick: Callable[..., Path]) -> Path:
    return pick("versioned", "echo")


@pytest.fixture
def server(models: Path, serve: Serve) -> Server:
    return serve(models, "--model-control-mode=poll", "--repository-poll-secs=1")


def index(server: Server) -> dict[tuple[str, str], tuple[str, str]]:
    told: Any = ask(server.http, "POST /v2/repository/index").body
    return {
        (each["name"], each.get("version", "")): (each.get("state", ""), each.get("reason", ""))
        for each in told
    }


def is_at(server: Server, model: str, version: str, state: str) -> Callable[[], bool]:
    return lambda: index(server).get((model, version), ("", ""))[0] == state


def test_models_and_versions_come_change_and_go(server: Server, models: Path) -> None:
    config = models / "versioned" / "config.pbtxt"
    with Client("http", server) as client:
        any_row = client.tensor("ANYTHING", np.zeros(1, np.int32))
        assert client.infer("versioned", any_row).as_numpy("VERSION").tolist() == [3]
        shutil.copytree(models / "versioned" / "3", models / "versioned" / "4")
        config.write_text(config.read_text().replace("[ 1, 3 ]", "[ 3, 4 ]"))
        poll(is_at(server, "versioned", "4", "READY"), "the new version is served")
        poll(is_at(server, "versioned", "1", "UNAVAILABLE"), "the old version is not")
        assert client.infer("versioned", any_row).as_numpy("VERSION").tolist() == [4]
        code = models / "versioned" / "4" / "model.py"
        code.write_text(code.read_text().replace('int(args["model_version"])', "44"))
        poll(
            lambda: client.infer("versioned", any_row).as_numpy("VERSION").tolist() == [44],
            "the changed file is served",
        )
    shutil.copytree(models / "echo", models / "echo_again", ignore=shutil.ignore_patterns("config.pbtxt"))
    (models / "echo_again" / "config.pbtxt").write_text((models / "echo" / "config.pbtxt").read_text())
    poll(is_at(server, "echo_again", "1", "READY"), "the new model is served")
    shutil.rmtree(models / "echo_again")
    poll(lambda: ("echo_again", "1") not in index(server), "the index forgets it")
    poll(lambda: server.get("/v2/models/echo_again/ready")[0] == 404, "the model is not served")
    assert server.get("/v2/health/ready")[0] == 200


def test_a_version_that_is_being_copied_is_not_loaded_half(server: Server, models: Path) -> None:
    """It takes longer to copy than from one look to the next, and until the end it is no Python."""
    whole = (models / "versioned" / "3" / "model.py").read_bytes()
    config = models / "versioned" / "config.pbtxt"
    config.write_text(config.read_text().replace("[ 1, 3 ]", "[ 3, 4 ]"))
    (models / "versioned" / "4").mkdir()
    with (models / "versioned" / "4" / "model.py").open("wb", buffering=0) as copy:
        for piece in batched(whole, PIECES):
            copy.write(piece)
            time.sleep(COPY_S / PIECES)
    poll(is_at(server, "versioned", "4", "READY"), "the whole version is served")
    assert "model failed to load" not in server.logged()


def batched(whole: bytes, pieces: int) -> Iterator[bytes]:
    """Yield a text in so many pieces of about one size."""
    for piece in range(pieces):
        yield whole[len(whole) * piece // pieces : len(whole) * (piece + 1) // pieces]


def test_who_polls_takes_no_orders(server: Server) -> None:
    told = ask(server.http, "POST /v2/repository/models/echo/unload")
    assert (told.status, told.body) == (
        503,
        {"error": "explicit model load / unload is not allowed if polling is enabled"},
    )


def test_two_repositories_are_followed_and_a_name_in_both_is_served_from_neither(
    models: Path, tmp_path: Path, serve: Serve
) -> None:
    other = tmp_path / "other"
    shutil.copytree(models / "versioned", other / "versioned_too")
    server = serve(
        models, f"--model-repository={other}", "--model-control-mode=poll", "--repository-poll-secs=1"
    )
    assert {name for name, _ in index(server)} == {"echo", "versioned", "versioned_too"}
    shutil.copytree(models / "echo", other / "echo")
    poll(is_at(server, "echo", "", "UNAVAILABLE"), "nobody can say which is meant")
    assert index(server)["echo", ""][1] == "model appears in two or more repositories"
    poll(lambda: server.get("/v2/models/echo/ready")[0] == 404, "neither is served")
    shutil.rmtree(models / "echo")
    poll(is_at(server, "echo", "1", "READY"), "the one that is left is served")


# --- what is there before a model serves ---


def test_an_instance_is_warmed_up_before_it_is_ready(models: Path, serve: Serve) -> None:
    """A sample from a file; one that is too short keeps the model from serving, and the index tells."""
    (models / "warm" / "1").mkdir(parents=True)
    (models / "warm" / "warmup").mkdir()
    (models / "warm" / "config.pbtxt").write_text(WARM)
    (models / "warm" / "warmup" / "row").write_bytes(bytes(16))
    (models / "cold" / "1").mkdir(parents=True)
    (models / "cold" / "warmup").mkdir()
    (models / "cold" / "config.pbtxt").write_text(WARM)
    (models / "cold" / "warmup" / "row").write_bytes(bytes(15))
    server = serve(models, "--exit-on-error=false", "--strict-readiness=false")
    assert index(server)["warm", "1"] == ("READY", "")
    state, reason = index(server)["cold", "1"]
    assert state == "UNAVAILABLE"
    assert "warmup setting expects 16 bytes, but the data provided from rowonly has 15 bytes" in reason


HANGS = """
import time

class TritonPythonModel:
    def initialize(self, args):
        while True:
            time.sleep(1)

    def execute(self, requests):
        return []
"""


def test_a_model_that_never_comes_up_is_given_up(models: Path, serve: Serve) -> None:
    """The server starts without it, serves the others, and stops when told to."""
    (models / "hangs" / "1").mkdir(parents=True)
    (models / "hangs" / "config.pbtxt").write_text('backend: "python"')
    (models / "hangs" / "1" / "model.py").write_text(HANGS)
    server = serve(models, "--model-load-timeout-secs=1", "--exit-on-error=false", "--strict-readiness=false")
    assert index(server)["hangs", "1"] == (
        "UNAVAILABLE",
        "Unavailable: version 1 of model 'hangs' was not ready within 1 seconds, and its load was given up",
    )
    assert index(server)["echo", "1"] == ("READY", "")
