"""The real perf_analyzer, as it was published, measures this server over every protocol it knows."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from .house import Server

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "bench" / "peers.py"
TIMEOUT_S = 60
WINDOWS = ("-p", "250", "-r", "3", "-s", "999")
"""Three windows of a third of a second, whatever they show: what counts is that all is answered."""

pytestmark = pytest.mark.skipif(
    not (ROOT / ".peers" / "versions.json").exists(),
    reason="perf_analyzer is not installed: `make test` does so, on x86-64 Linux, and so does bench/peers.py",
)


def measure(server: Server, protocol: str, model: str, flags: Sequence[str]) -> str:
    """Load a model; return what perf_analyzer printed."""
    address = server.http if protocol == "http" else server.grpc
    asked = ["-m", model, "-i", protocol, "-u", address, *WINDOWS, *flags]
    done = subprocess.run(
        [sys.executable, PEERS, "perf", *asked],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


LOADS = {
    "http": ("http", "add_sub", "--concurrency-range 4 --sync"),
    "http, asynchronous": ("http", "add_sub", "--concurrency-range 8 --async"),
    "http in JSON": ("http", "add_sub", "--input-tensor-format json --output-tensor-format json"),
    "http, batches": ("http", "onnx_add_sub", "-b 4 --concurrency-range 2"),
    "http at a rate": ("http", "torch_double", "--request-rate-range 100"),
    "grpc": ("grpc", "add_sub", "--concurrency-range 4 --sync"),
    "grpc, asynchronous": ("grpc", "add_sub", "--concurrency-range 8 --async"),
    "grpc, a shape": ("grpc", "echo", "--shape INPUT0:100"),
    "grpc, an ensemble": ("grpc", "chain", "--concurrency-range 2"),
    "grpc, compressed": ("grpc", "add_sub", "--grpc-compression-algorithm gzip"),
    "grpc streams": ("grpc", "add_sub", "--streaming --concurrency-range 4"),
    "grpc streams, a decoupled model": ("grpc", "repeat", "--streaming --shape IN:3 --input-data zero"),
}


COUNTS = ("Request count", "Successful request count")
"""What the client has measured, and what the server has counted meanwhile."""


@pytest.mark.parametrize(("protocol", "model", "flags"), LOADS.values(), ids=LOADS)
def test_perf_analyzer_measures(house: Server, protocol: str, model: str, flags: str) -> None:
    failures = house.read_metric("nv_inference_request_failure")
    said = measure(house, protocol, model, flags.split())
    measured, answered = (int(re.findall(rf"^ +{what}: (\d+)", said, re.MULTILINE)[0]) for what in COUNTS)
    assert measured > 0
    assert answered > 0.9 * measured  # the two windows differ by a request or two
    assert house.read_metric("nv_inference_request_failure") == failures
