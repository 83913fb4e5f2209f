"""Every example of functions as models: its server serves, its client is content, and both end well."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "functions"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/server.py"))

LOGGING = "import logging, runpy, sys; logging.basicConfig(level=logging.INFO); runpy.run_path(sys.argv[1])"
"""Runs a server that tells where it listens."""

LOCAL = {
    f"DEUTERON_{door}_{what}": value
    for door in ("HTTP", "GRPC", "METRICS")
    for what, value in (("ADDRESS", "127.0.0.1"), ("PORT", "0"))
}


@pytest.mark.parametrize("name", NAMES)
def test_an_example_serves_and_its_client_is_content(name: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOGGING, EXAMPLES / name / "server.py"],
        stderr=subprocess.PIPE,
        env={**os.environ, **LOCAL},
        text=True,
    ) as server:
        try:
            http, grpc = addresses(server)
            for url in (f"grpc://{grpc}",) if name == "streaming" else (f"http://{http}", f"grpc://{grpc}"):
                client = subprocess.run(
                    [sys.executable, "-W", "error", EXAMPLES / name / "client.py", url],
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )
                assert client.returncode == 0, client.stderr
                assert client.stdout
            server.send_signal(signal.SIGTERM)
            _, log = server.communicate(timeout=60)
            assert server.returncode == 0, log
        finally:
            server.kill()


def addresses(server: "subprocess.Popen[str]") -> tuple[str, str]:
    """Read where a server listens for HTTP and for gRPC."""
    assert server.stderr is not None
    found: dict[str, str] = {}
    while {"HTTPService", "GRPCInferenceService"} - found.keys():
        line = server.stderr.readline()
        assert line, "the server has ended"
        found.update(re.findall(r"Started (\w+) at ([\d.:]+)", line))
    return found["HTTPService"], found["GRPCInferenceService"]


def test_the_page_names_every_example() -> None:
    page = (EXAMPLES / "README.md").read_text()
    assert sorted(re.findall(r"^\| \[`(\w+)`\]", page, re.MULTILINE)) == NAMES
