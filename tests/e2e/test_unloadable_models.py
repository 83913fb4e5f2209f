"""A model that cannot be loaded is reported with its reason in the index and in the log; the others serve."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .clients import LIBRARIES, Client
from .house import LIVE, HouseError, Server, serving
from .wire import ask

INVALID_CONFIG = """\
backend: "identity"
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 0 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -2 ] } ]
"""
UNREADABLE_CONFIG = """\
backend: "identity"
max_batch_size: eight
"""
FAILS = """\
backend: "identity"
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] } ]
parameters { key: "fail_load" value { string_value: "no weights today" } }
"""
ENSEMBLE = """\
platform: "ensemble"
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] } ]
ensemble_scheduling { step [ {
  model_name: "fails" model_version: -1
  input_map { key: "INPUT0" value: "IN" } output_map { key: "OUTPUT0" value: "OUT" }
} ] }
"""
PYTHON = """\
backend: "python"
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""
RAISES_AT_START = """\
class TritonPythonModel:
    def initialize(self, args):
        raise RuntimeError("cannot begin")
"""


@pytest.fixture(scope="module")
def broken(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve one good model among bad ones."""
    root = tmp_path_factory.mktemp("broken")
    models = root / "models"
    shutil.copytree(repository / "echo", models / "echo")
    written = {
        "invalid": INVALID_CONFIG,
        "unreadable": UNREADABLE_CONFIG,
        "fails": FAILS,
        "on_top_of_fails": ENSEMBLE,
        "raises_at_start": PYTHON,
        "without_code": PYTHON,
        "without_backend": "",
    }
    for name, config in written.items():
        (models / name / "1").mkdir(parents=True)
        (models / name / "config.pbtxt").write_text(config)
    (models / "raises_at_start" / "1" / "model.py").write_text(RAISES_AT_START)
    (models / "without_versions").mkdir()
    (models / "without_versions" / "config.pbtxt").write_text(FAILS)
    (models / "without_a_model" / "1").mkdir(parents=True)
    (models / "without_a_model" / "1" / "model.onnx").write_bytes(b"not ONNX")
    with serving(models, root / "server.log", "--exit-on-error=false", until=LIVE) as server:
        yield server


@pytest.fixture(params=LIBRARIES)
def client(request: pytest.FixtureRequest, broken: Server) -> Iterator[Client]:
    with Client(request.param, broken) as client:
        yield client


@pytest.fixture
def reasons(broken: Server) -> dict[str, str]:
    """Read from the index why each model is not served."""
    entries: list[dict[str, Any]] = ask(broken.http, "POST /v2/repository/index").body
    return {each["name"]: each.get("reason", "") for each in entries if each["state"] == "UNAVAILABLE"}


def test_a_good_model_is_served_beside_bad_ones(client: Client) -> None:
    row = np.ones((1, 4), np.float32)
    result = client.infer("echo", client.tensor("INPUT0", row))
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), row)


def test_the_server_lives_and_is_not_ready(client: Client) -> None:
    assert client.call("is_server_live") is True
    assert client.call("is_server_ready") is False


@pytest.mark.parametrize("name", ["fails", "invalid", "unreadable", "on_top_of_fails"])
def test_a_request_for_a_bad_model_is_refused(client: Client, name: str) -> None:
    status, message = client.refusal("infer", name, [client.tensor("INPUT0", np.ones(4, np.float32))])
    assert status in {"404", "503", "StatusCode.NOT_FOUND", "StatusCode.UNAVAILABLE"}
    assert message.startswith(f"Request for unknown model: '{name}' ")


def test_only_the_good_model_is_ready_in_the_index(client: Client) -> None:
    told = client.tell("get_model_repository_index")
    entries = told if client.is_http else told["models"]
    assert [each["name"] for each in entries if each["state"] == "READY"] == ["echo"]
    assert len(entries) == 10


@pytest.mark.parametrize(
    ("name", "place"), [("invalid", "2:55"), ("invalid", "3:57"), ("unreadable", "2:17")]
)
def test_every_mistake_in_a_configuration_is_told_with_file_line_and_column(
    reasons: dict[str, str], broken: Server, name: str, place: str
) -> None:
    assert f"/{name}/config.pbtxt:{place}: " in reasons[name]
    assert f"/{name}/config.pbtxt:{place}: " in broken.logged()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fails", "Internal: no weights today"),
        ("raises_at_start", "Internal: RuntimeError: cannot begin\n\nAt:\n  "),
        ("on_top_of_fails", "no weights today"),
        ("without_versions", "at least one version must be available under the version policy of model"),
        ("without_code", "model.py"),
        ("without_backend", "without_backend"),
        ("without_a_model", "model.onnx"),
    ],
)
def test_the_index_and_the_log_tell_why_a_model_cannot_be_loaded(
    reasons: dict[str, str], broken: Server, name: str, reason: str
) -> None:
    assert reason in reasons[name]
    first_line = reason.partition("\n")[0]
    assert any(f"model={name} " in line and first_line in line for line in broken.logged().splitlines())


def test_a_server_that_is_to_exit_on_errors_does(pick: Callable[..., Path], tmp_path: Path) -> None:
    models = pick("echo")
    (models / "fails" / "1").mkdir(parents=True)
    (models / "fails" / "config.pbtxt").write_text(FAILS)
    with pytest.raises(HouseError) as caught, serving(models, tmp_path / "server.log"):
        pass
    assert "the server ended with 1" in str(caught.value)
    assert "no weights today" in str(caught.value)
    assert "failed to load all models" in str(caught.value)
