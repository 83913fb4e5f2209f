"""A server as a process: started, waited for, asked what it has logged, and never left behind."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

COMMAND = Path(sys.executable).parent / "deuteron"
ADDRESS = "127.0.0.1"
STARTS_WITHIN = 60.0
"""Seconds until a server must be ready, on a machine that has much else to do."""
STOPS_WITHIN = 20.0
"""Seconds from SIGTERM until a server must be gone."""
POLL_EVERY = 0.02

SERVICES = ("HTTPService", "GRPCInferenceService", "Metrics")
"""What the log calls the doors."""
CLOSED = ("--allow-http", "--allow-grpc", "--allow-metrics")
"""How the flags begin by which a test closes a door."""

READY = "/v2/health/ready"
LIVE = "/v2/health/live"
"""What to wait for where a model is broken on purpose, so that the server never is ready."""

# Whoever ends the tests ends their servers too: fixtures come to their end as they do after an interrupt.
signal.signal(signal.SIGTERM, signal.default_int_handler)


class HouseError(Exception):
    """A server did not start, or did not do in time what it was waited for."""


def poll(condition: Callable[[], bool], what: str, within: float = 10.0) -> None:
    """Return as soon as a condition holds; raises HouseError if it does not in so many seconds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise HouseError(f"{what}: not within {within:g} s")
        time.sleep(POLL_EVERY)


@dataclass(frozen=True, slots=True)
class Server:
    """A process that runs `deuteron serve`: its log, and its doors as `address:port`."""

    process: subprocess.Popen[bytes]
    log: Path
    http: str = ""
    grpc: str = ""
    metrics: str = ""

    def logged(self) -> str:
        """Return all that the server has printed so far."""
        return self.log.read_text(errors="replace")

    def get(self, path: str) -> tuple[int, bytes]:
        """GET a path of the HTTP door; return status and body, and status 0 where nobody answers."""
        return _get(self.http, path)

    def get_metrics(self) -> str:
        """Return all metrics, as they are told."""
        return _get(self.metrics, "/metrics")[1].decode()

    def read_metric(self, name: str, **labels: str) -> float:
        """Return the value of a metric, summed over all its lines with these labels."""
        lines = re.findall(rf"^{name}{{(.*)}} (\S+)$", self.get_metrics(), re.MULTILINE)
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(value) for told, value in lines if all(each in told for each in wanted))

    def resident_bytes(self) -> int:
        """Return the memory that the process holds."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def terminate(self) -> None:
        """Ask the server to stop."""
        self.process.send_signal(signal.SIGTERM)

    def exit_status(self) -> int:
        """Wait until the server is gone and return its exit status."""
        return self.process.wait(STOPS_WITHIN)


def launch(log: Path, *arguments: str | Path) -> subprocess.Popen[bytes]:
    """Run the command `deuteron`; what it prints goes to `log`."""
    with log.open("wb") as sink:
        return subprocess.Popen(
            [COMMAND, *arguments],
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # an interrupt at the terminal is for the tests, which stop their servers
        )


@contextmanager
def serving(repository: Path, log: Path, *flags: str, until: str = READY) -> Iterator[Server]:
    """Serve a repository on free local ports for the length of the block; see the server exit with 0.

    Raises:
        HouseError: when it does not become ready, with its log.
    """
    process = launch(log, "serve", f"--model-repository={repository}", *_local(), *flags)
    try:
        server = _find(process, log, 3 - sum(flag.startswith(CLOSED) for flag in flags))
        poll(lambda: server.get(until)[0] == 200, f"the server answers {until} with 200", STARTS_WITHIN)
        yield server
        if process.poll() is None:
            server.terminate()
            assert server.exit_status() == 0, server.logged()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _local() -> list[str]:
    """Return the flags of all servers; DEUTERON_TEST_FLAGS adds to them, a --grpc-engine for instance."""
    doors = [f"--{door}-address={ADDRESS}" for door in ("http", "grpc", "metrics")]
    ports = [f"--{door}-port=0" for door in ("http", "grpc", "metrics")]
    return [*doors, *ports, *os.environ.get("DEUTERON_TEST_FLAGS", "").split()]


def _find(process: subprocess.Popen[bytes], log: Path, doors: int) -> Server:
    """Read from the log of a starting server where it listens: at so many doors."""
    addresses: dict[str, str] = {}

    def tells_all() -> bool:
        text = log.read_text(errors="replace")
        if process.poll() is not None:
            raise HouseError(f"the server ended with {process.returncode}")
        addresses.update(re.findall(r"Started (\w+)(?: Service)? at ([\d.:]+)", text))
        return len(addresses) == doors

    try:
        poll(tells_all, "the server listens", STARTS_WITHIN)
    except HouseError as error:
        raise HouseError(f"{error}\n{log.read_text(errors='replace')}") from None
    return Server(process, log, *(addresses.get(name, "") for name in SERVICES))


def _get(address: str, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 0, b""
