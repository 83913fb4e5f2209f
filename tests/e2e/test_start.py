"""Starting: what the command line takes and refuses, what is said when the server cannot come up."""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import deuteron

from .house import COMMAND, HouseError, Server, launch, poll, serving
from .wire import ask

Serve = Callable[..., Server]


def run(*arguments: str) -> tuple[int, str]:
    """Run the command to its end; return its exit status and what it printed."""
    done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"], ["serve", "--help"]])
def test_who_asks_for_help_gets_it(arguments: list[str]) -> None:
    status, said = run(*arguments)
    assert status == 0
    assert "deuteron serve --model-repository" in said


def test_the_version_is_told() -> None:
    assert run("--version") == (0, f"deuteron {deuteron.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve"], "--model-repository must be specified"),
        (["serve", "--model-repository=/nowhere"], "/nowhere"),
        (["serve", "--model-repository=.", "--modle=x"], "--modle"),
        (["serve", "--model-repository=.", "--http-port=eighty"], 'Bad option: "--http-port".'),
        (["serve", "--model-repository=.", "--allow-sagemaker=true"], "allow-sagemaker"),
        (["serve", "--model-repository=.", "extra"], "extra"),
        (["feed"], "feed"),
    ],
)
def test_a_command_line_that_cannot_be_obeyed_is_refused(arguments: list[str], said: str) -> None:
    status, told = run(*arguments)
    assert status == 1
    assert said in told
    assert "Traceback" not in told


@pytest.mark.parametrize("door", ["http", "grpc", "metrics"])
def test_a_port_that_is_taken_is_named(
    house: Server, pick: Callable[..., Path], tmp_path: Path, door: str
) -> None:
    taken = getattr(house, door)
    port = taken.split(":")[1]
    with (
        pytest.raises(HouseError) as caught,
        serving(pick("echo"), tmp_path / "log", f"--{door}-port={port}"),
    ):
        pass
    assert "the server ended with 1" in str(caught.value)
    assert f"Socket '{taken}' already in use " in str(caught.value)


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_a_port_that_is_taken_shows_before_the_models_are_loaded(
    house: Server, pick: Callable[..., Path], tmp_path: Path, door: str
) -> None:
    repository = pick("echo")
    (repository / "never" / "1").mkdir(parents=True)
    hangs = "import threading\nclass TritonPythonModel:\n    def initialize(self, _):\n        "
    (repository / "never" / "1" / "model.py").write_text(f"{hangs}threading.Event().wait()\n")
    port = getattr(house, door).split(":")[1]
    with (
        pytest.raises(HouseError, match="already in use"),
        serving(repository, tmp_path / "log", f"--{door}-port={port}"),
    ):
        pass


def test_nobody_is_answered_before_the_models_are_loaded(tmp_path: Path) -> None:
    """The port is taken meanwhile: a second server cannot have it, and a client is refused."""
    model = tmp_path / "models" / "slow" / "1"
    model.mkdir(parents=True)
    (model.parent / "config.pbtxt").write_text('backend: "python"')
    waits = """
import pathlib, time

class TritonPythonModel:
    def initialize(self, args):
        here = pathlib.Path(args["model_repository"])
        (here / "begun").touch()
        while not (here / "go").exists():
            time.sleep(0.01)

    def execute(self, requests):
        return []
"""
    (model / "model.py").write_text(waits)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flags = (f"--http-port={port}", "--allow-grpc=false", "--allow-metrics=false")
    process = launch(
        tmp_path / "log",
        "serve",
        f"--model-repository={tmp_path / 'models'}",
        "--http-address=127.0.0.1",
        *flags,
    )
    try:
        poll((model.parent / "begun").exists, "the model is being loaded", 30)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port), reuse_port=False).close()
        (model.parent / "go").touch()
        poll(lambda: "Started HTTPService" in (tmp_path / "log").read_text(), "the server listens", 30)
        assert ask(f"127.0.0.1:{port}", "GET /v2/health/ready").status == 200
    finally:
        process.kill()
        process.wait()


def test_without_a_repository_the_server_may_come_up_and_be_neither_live_nor_ready(
    tmp_path: Path, serve: Serve
) -> None:
    """As Triton's with `--exit-on-error=false`."""
    server = serve(tmp_path / "nowhere", "--exit-on-error=false", until="/v2")
    assert ask(server.http, "GET /v2/health/live").status == 400
    assert ask(server.http, "GET /v2/health/ready").status == 400
    assert ask(server.http, "GET /v2").body["name"] == "triton"
    assert "is not a valid directory" in server.logged()


@pytest.mark.parametrize("door", ["grpc", "metrics"])
def test_a_door_that_is_not_wanted_stays_closed(pick: Callable[..., Path], serve: Serve, door: str) -> None:
    server = serve(pick("echo"), f"--allow-{door}=false")
    assert getattr(server, door) == ""
    assert ask(server.http, "GET /v2/models/echo/ready").status == 200


def test_several_repositories_are_served_as_one(
    pick: Callable[..., Path], repository: Path, tmp_path: Path, serve: Serve
) -> None:
    shutil.copytree(repository / "labelled", tmp_path / "more" / "labelled")
    server = serve(pick("echo"), f"--model-repository={tmp_path / 'more'}")
    for model in ("echo", "labelled"):
        assert ask(server.http, f"GET /v2/models/{model}/ready").status == 200


def test_options_may_be_shortened_and_their_values_follow_them(
    pick: Callable[..., Path], serve: Serve
) -> None:
    server = serve(pick("echo", "labelled"), "--model-control", "explicit", "--load-m", "labelled")
    assert ask(server.http, "GET /v2/models/labelled/ready").status == 200
    assert ask(server.http, "GET /v2/models/echo/ready").status == 404


def test_the_name_of_the_server_is_that_of_the_command_line(pick: Callable[..., Path], serve: Serve) -> None:
    server = serve(pick("echo"), "--id=kitchen")
    assert ask(server.http, "GET /v2").body["name"] == "kitchen"


def test_the_log_may_be_for_machines(pick: Callable[..., Path], serve: Serve) -> None:
    server = serve(pick("echo"), "--log-format=json")
    events = [json.loads(line) for line in server.logged().splitlines()]
    assert {"level", "timestamp", "event"} <= set.intersection(*map(set, events))
    (model,) = (event for event in events if event["event"] == "model")
    assert (model["model"], model["version"], model["state"]) == ("echo", 1, "READY")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("default", r"I\d{4} \d\d:\d\d:\d\d\.\d{6} \d+ \w+\.py:\d+\] "),
        ("ISO8601", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ I \d+ \w+\.py:\d+\] "),
    ],
)
def test_the_log_may_have_either_of_tritons_forms(
    pick: Callable[..., Path], serve: Serve, name: str, line: str
) -> None:
    server = serve(pick("echo"), f"--log-format={name}")
    assert re.search(
        rf"^{line}Started HTTPService at {re.escape(server.http)}$", server.logged(), re.MULTILINE
    )
