"""The example does as its README says: it is built, served, measured, and its commands work when pasted."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .house import Server, serving

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
LEAST_ACCURACY = 97.0
TIMEOUT_S = 100

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")


def run(*command: str | Path) -> str:
    """Run a program of the example to its good end; return what it printed."""
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def paste(line: str) -> str:
    """Run a line in a shell, as if it had been pasted; return what it printed."""
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def command_of_readme(start: str, server: Server) -> str:
    """Return the command of the example's README that starts so, for this server."""
    readme = (EXAMPLE / "README.md").read_text()
    (command,) = re.findall(rf"^({re.escape(start)}.*?)^```", readme, re.MULTILINE | re.DOTALL)
    return str(command).replace("localhost:8000", server.http)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the example repository."""
    repository = tmp_path_factory.mktemp("digits") / "repository"
    run(EXAMPLE / "build.py", "--output", repository)
    return repository


@pytest.fixture(scope="module")
def server(example: Path) -> Iterator[Server]:
    with serving(example, example.with_name("server.log")) as server:
        yield server


def test_the_example_client_counts_enough_right_answers_over_both_protocols(
    server: Server, example: Path
) -> None:
    said = run(
        EXAMPLE / "client.py",
        "--http",
        server.http,
        "--grpc",
        server.grpc,
        "--held-out",
        example / "held_out.npz",
    )
    accuracies = dict(re.findall(r"(HTTP|gRPC) .*accuracy ([0-9.]+)%", said))
    assert set(accuracies) == {"HTTP", "gRPC"}
    assert all(float(accuracy) >= LEAST_ACCURACY for accuracy in accuracies.values())


def test_the_start_shows_every_model_and_every_address(server: Server) -> None:
    logged = server.logged()
    for model in ("digits", "digits_onnx", "digits_torchscript", "digits_preprocess", "identity", "simple"):
        assert re.search(rf"^\| {model} +\| 1 +\| READY +\|$", logged, re.MULTILINE)
    for service, address in (
        ("HTTPService", server.http),
        ("GRPCInferenceService", server.grpc),
        ("Metrics Service", server.metrics),
    ):
        assert re.search(rf"^{service} +{address}$", logged, re.MULTILINE)


@needs_curl
def test_the_command_that_the_start_shows_works_when_pasted(server: Server) -> None:
    (command,) = re.findall(r"^  (curl .*)$", server.logged(), re.MULTILINE)
    assert '"outputs":[{' in paste(command)


@needs_curl
def test_the_drawing_in_the_readme_is_a_three(server: Server) -> None:
    assert ":3:three" in paste(command_of_readme("curl localhost:8000/v2/models/digits_onnx/infer", server))


@needs_curl
def test_a_picture_is_sent_as_the_readme_says(server: Server, example: Path, tmp_path: Path) -> None:
    command = command_of_readme("curl -s localhost:8000/v2/models/digits/infer", server)
    with np.load(example / "held_out.npz") as held_out:
        picture, digit = held_out["pictures"][0], int(held_out["digits"][0])
    Image.fromarray(picture).save(tmp_path / "digit.png")
    answer = paste(command.replace("@digit.png", f"@{tmp_path / 'digit.png'}"))
    probabilities = [float(word) for word in answer.split()]
    assert len(probabilities) == 10
    assert probabilities.index(max(probabilities)) == digit
