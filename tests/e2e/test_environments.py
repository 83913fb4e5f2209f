"""Python models with environments of their own, side by side in one server."""

import importlib.util
import shutil
import sys
import tarfile
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton

from ..backends.python.environments.wheels import write_wheel
from .house import LIVE, Server

CONFIG = """
backend: "python"
input [{ name: "MODULE" data_type: TYPE_STRING dims: [ 1 ] }]
output [{ name: "TOLD" data_type: TYPE_STRING dims: [ 1 ] }]
"""

TELL = """
import importlib
import os
import sys

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        name = request.inputs()[0].as_numpy()[0].decode()
        try:
            told = getattr(importlib.import_module(name), "VERSION", "there")
        except ImportError:
            facts = {"prefix": sys.prefix, "variable": os.environ.get("TOLD_BY_ACTIVATION")}
            told = facts.get(name, "not there")
        told = np.array([str(told).encode()], np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("TOLD", told)])
"""

Serve = Callable[..., Server]


@pytest.fixture
def cached(tmp_path: Path) -> str:
    """Return the flag that keeps environments with the test."""
    return f"--backend-config=python,environments-directory={tmp_path / 'environments'}"


def write_model(directory: Path, config: str = "") -> Path:
    """Write a model that tells what it can import."""
    (directory / "1").mkdir(parents=True)
    (directory / "config.pbtxt").write_text(CONFIG + config)
    (directory / "1" / "model.py").write_text(TELL)
    return directory


def require(model: Path, version: str) -> None:
    """Have a model require a version of a library that lies beside it."""
    write_wheel(model / "wheels", version)
    (model / "requirements.txt").write_text(f"--no-index\n--find-links wheels\ntiny=={version}\n")


def told(server: Server, model: str, module: str) -> str:
    """Ask a model what it can import."""
    with triton.InferenceServerClient(server.http) as client:
        tensor = triton.InferInput("MODULE", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([module.encode()], np.object_))
        answer: bytes = client.infer(model, [tensor]).as_numpy("TOLD")[0]
        return answer.decode()


def make_environment(directory: Path) -> Path:
    """Make a Python that has numpy, and nothing else of what the server has."""
    venv.create(directory, symlinks=False)
    packages = directory.parent / "numpy_alone"
    packages.mkdir()
    spec = importlib.util.find_spec("numpy")
    assert spec is not None
    assert spec.origin is not None
    for each in Path(spec.origin).parents[1].glob("numpy*"):
        (packages / each.name).symlink_to(each)
    (site,) = directory.glob("lib/python*/site-packages")
    (site / "numpy_alone.pth").write_text(f"{packages}\n")
    with (directory / "bin" / "activate").open("a") as script:
        script.write("export TOLD_BY_ACTIVATION=hello\n")
    return directory


def test_two_models_have_two_versions_of_one_library_at_once_and_no_index_is_asked_again(
    tmp_path: Path, serve: Serve, cached: str
) -> None:
    repository = tmp_path / "models"
    for name, version in (("old", "1.0"), ("new", "2.0")):
        require(write_model(repository / name), version)
    write_model(repository / "plain")
    expected = {"old": "1.0", "new": "2.0", "plain": "not there"}
    server = serve(repository, cached)
    assert {name: told(server, name, "tiny") for name in expected} == expected
    assert {told(server, name, "msgpack") for name in expected} == {"there"}
    assert "Successfully installed tiny-2.0" in server.logged()
    server.terminate()
    assert server.exit_status() == 0, server.logged()
    for wheels in repository.glob("*/wheels"):
        shutil.rmtree(wheels)
    again = serve(repository, cached)
    assert {name: told(again, name, "tiny") for name in expected} == expected
    assert "installed" not in again.logged()


def test_what_cannot_be_installed_keeps_its_model_from_loading_and_no_other(
    tmp_path: Path, serve: Serve, cached: str
) -> None:
    require(write_model(tmp_path / "models" / "broken"), "1.0")
    shutil.rmtree(tmp_path / "models" / "broken" / "wheels")
    write_model(tmp_path / "models" / "plain")
    server = serve(tmp_path / "models", cached, "--exit-on-error=false", until=LIVE)
    assert told(server, "plain", "msgpack") == "there"
    assert "No matching distribution found for tiny==1.0" in server.logged()


def test_a_model_may_bring_its_python_along_as_a_directory_or_packed(
    tmp_path: Path, serve: Serve, cached: str
) -> None:
    def bring(name: str, file: str) -> Path:
        value = f'value {{ string_value: "$$TRITON_MODEL_DIRECTORY/{file}" }}'
        return write_model(tmp_path / "models" / name, f'parameters {{ key: "EXECUTION_ENV_PATH" {value} }}')

    environment = make_environment(bring("unpacked", "env") / "env")
    with tarfile.open(bring("packed", "env.tar.gz") / "env.tar.gz", "w:gz") as archive:
        archive.add(environment, "")
    server = serve(tmp_path / "models", cached)
    assert told(server, "unpacked", "prefix") == str(environment)
    assert told(server, "packed", "prefix").startswith(str(tmp_path / "environments" / "archive-"))
    for model in ("unpacked", "packed"):
        assert told(server, model, "orjson") == "not there"
        assert told(server, model, "variable") == "hello"
        assert told(server, model, "prefix") != sys.prefix


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"EXECUTION_ENV_PATH": "/not/there"}, "Failed to get the canonical path for /not/there."),
        ({"EXECUTION_ENV_PATH": "$$TRITON_MODEL_DIRECTORY"}, "should contain an interpreter"),
        ({"EXECUTION_ENV_PATH": "/usr", "in_process": "true"}, "exclude each other"),
    ],
)
def test_an_environment_that_cannot_be_used_is_told_of(
    tmp_path: Path, serve: Serve, parameters: dict[str, str], text: str
) -> None:
    written = (
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'
        for key, value in parameters.items()
    )
    write_model(tmp_path / "models" / "model", "".join(written))
    server = serve(tmp_path / "models", "--exit-on-error=false", until=LIVE)
    assert text in server.logged()
