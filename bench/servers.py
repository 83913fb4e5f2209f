"""Start a server, wait until it is ready, ask it what it has done and spent, and stop it.

Every server of the bench (deuteron, the real Triton, the bare doors) takes tritonserver's flags, so one way
to start them serves all. CPU time is counted over the whole process tree: Triton's python backend answers
from a stub process, and deuteron may put models into workers.
"""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine

ADDRESS = "127.0.0.1"
READY_WITHIN = 60.0  # seconds from start to ready
STOPPED_WITHIN = 15.0  # seconds from SIGTERM to gone


class ServerError(Exception):
    """A server did not start or does not answer."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A command and what it needs in its environment beside ours."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def full_environment(self) -> dict[str, str]:
        """Return our environment with the launch's own variables over it."""
        return {**os.environ, **self.environment}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs: its name, its process and its doors."""

    name: str
    process: subprocess.Popen[bytes]
    http: str
    grpc: str
    ready_after: float  # seconds

    def get_json(self, path: str) -> dict[str, Any]:
        """Return the JSON that a GET of `path` on the HTTP door answers; raises ServerError."""
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=10) as response:
                answer: dict[str, Any] = json.load(response)
        except (OSError, ValueError) as error:
            raise ServerError(f"{self.name}: GET {path}: {error}") from error
        return answer

    def completed(self, model: str) -> int:
        """Return how many requests to `model` the server's own statistics count as answered."""
        versions = self.get_json(f"/v2/models/{model}/stats")["model_stats"]
        return sum(int(version["inference_stats"]["success"]["count"]) for version in versions)

    def cpu_seconds(self) -> float:
        """Return the CPU time that the server and all its processes have spent so far."""
        return machine.tree_seconds(self.process.pid)


def free_ports(count: int) -> list[int]:
    """Return distinct ports that are free now."""
    sockets = [socket.create_server((ADDRESS, 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def serving(name: str, launch: Launch, models: Path, logs: Path) -> Iterator[Server]:
    """Serve the repository `models` on free local ports for the length of the block; raises ServerError.

    What the server prints goes to `logs/<name>.log`; its end is quoted when the server does not become ready.
    """
    http, grpc, metrics = free_ports(3)
    flags = (
        f"--model-repository={models}",
        f"--http-address={ADDRESS}",
        f"--http-port={http}",
        f"--grpc-address={ADDRESS}",
        f"--grpc-port={grpc}",
        f"--metrics-port={metrics}",
    )
    log = logs / f"{name}.log"
    began = time.monotonic()
    try:
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [*launch.command, *flags],
                env=launch.full_environment(),
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt at the terminal is ours; we stop the server ourselves
            )
    except OSError as error:
        raise ServerError(f"{name} cannot be started: {error}") from error
    try:
        await_ready(name, process, http, log)
        ready_after = time.monotonic() - began
        yield Server(name, process, f"{ADDRESS}:{http}", f"{ADDRESS}:{grpc}", ready_after)
    finally:
        stop(process)


def await_ready(name: str, process: subprocess.Popen[bytes], http: int, log: Path) -> None:
    """Return when the readiness probe answers 200; raises ServerError when the server ends or is late."""
    deadline = time.monotonic() + READY_WITHIN
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{ADDRESS}:{http}/v2/health/ready", timeout=2):
                return
        except OSError:
            time.sleep(0.05)
    what = (
        f"is not ready after {READY_WITHIN:.0f} s"
        if process.poll() is None
        else f"ended with {process.returncode}"
    )
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise ServerError(f"{name} {what}; the end of its log:\n{tail}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server politely, then for good, with every process of its session."""
    process.terminate()
    try:
        process.wait(STOPPED_WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
