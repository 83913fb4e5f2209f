"""A program that has the server for a library, as a process that clients ask and that is told to stop."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

PROGRAM = Path(__file__).parent / "programs" / "add_sub.py"
LIGHT = """
import sys
import deuteron
assert deuteron.__version__
heavy = {"numpy", "asyncio", "aiohttp", "grpc", "structlog", "google.protobuf"} & set(sys.modules)
assert not heavy, heavy
assert "Server" in dir(deuteron)
deuteron.Server(doors=False)
closed = {"aiohttp", "grpc", "torch", "onnxruntime", "tritonclient"} & set(sys.modules)
assert not closed, closed
"""


@pytest.fixture
def program() -> Iterator[subprocess.Popen[str]]:
    """Run the program; it is killed at the end of the test, should it still run."""
    with subprocess.Popen(
        [sys.executable, PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_serves_its_functions_until_it_is_told_to_stop(
    program: subprocess.Popen[str], number: signal.Signals
) -> None:
    assert program.stdout is not None
    addresses = json.loads(program.stdout.readline())
    ones = np.ones((2, 3), np.float32)
    for library, service in ((tritonclient.http, "HTTPService"), (tritonclient.grpc, "GRPCInferenceService")):
        with library.InferenceServerClient(addresses[service]) as client:
            inputs = [library.InferInput(name, [2, 3], "FP32") for name in "ab"]
            for each in inputs:
                each.set_data_from_numpy(ones)
            assert client.infer("AddSub", inputs).as_numpy("add").tolist() == (ones + ones).tolist()
            negated = library.InferInput("INPUT_1", [2, 3], "FP32")
            negated.set_data_from_numpy(ones)
            assert client.infer("Negate", [negated]).as_numpy("OUTPUT_1").tolist() == (-ones).tolist()
    program.send_signal(number)
    _, log = program.communicate(timeout=30)
    assert program.returncode == 0, log
    assert "model is ready model=AddSub version=1" in log
    assert f"Signal ({number.value}) received." in log


def test_the_import_costs_nothing_and_a_server_without_doors_little() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_START"}
    subprocess.run([sys.executable, "-c", LIGHT], env=environment, check=True)
