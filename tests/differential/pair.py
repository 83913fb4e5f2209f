"""The two servers, started on one repository, and the connections to both."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ..e2e.house import ADDRESS, COMMAND, READY, HouseError, Server, poll

PEERS: Final = Path(__file__).parents[2] / "bench" / "peers.py"
STARTS_WITHIN: Final = 120.0
STOPS_WITHIN: Final = 30.0


class Runner:
    """One of the servers: started again by `restart`, wherever it was before."""

    def __init__(self, command: list[str | Path], log: Path) -> None:
        self._command = command
        self._log = log
        self.server = self._start()

    def _start(self) -> Server:
        ports = _free_ports(3)
        names = ("http", "grpc", "metrics")
        flags = [f"--{name}-address={ADDRESS}" for name in names]
        flags += [f"--{name}-port={port}" for name, port in zip(names, ports, strict=True)]
        with self._log.open("ab") as sink:
            process = subprocess.Popen(
                [*self._command, *flags], stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
            )
        server = Server(process, self._log, *(f"{ADDRESS}:{port}" for port in ports))

        def is_ready() -> bool:
            if process.poll() is not None:
                raise HouseError(
                    f"{self._command[0]} ended with {process.returncode}: {server.logged()[-2000:]}"
                )
            return server.get(READY)[0] == 200

        try:
            poll(is_ready, f"{self._command[0]} is ready", STARTS_WITHIN)
        except HouseError:
            process.kill()
            raise
        return server

    def stop(self) -> None:
        """End the server and whatever it has started."""
        process = self.server.process
        process.terminate()
        try:
            process.wait(STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # A server that came to a bad end leaves the processes of its models behind, in its own group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def restart(self) -> Server:
        """Start the server anew, on other ports."""
        self.stop()
        self.server = self._start()
        return self.server


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((ADDRESS, 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def both(repository: Path, logs: Path) -> Iterator[tuple[Runner, Runner]]:
    """Serve a repository with the real Triton and with deuteron for the length of the block."""
    flag = f"--model-repository={repository}"
    triton = Runner([sys.executable, PEERS, "triton", flag], logs / "triton.log")
    try:
        deuteron = Runner([COMMAND, "serve", flag], logs / "deuteron.log")
        try:
            yield triton, deuteron
        finally:
            deuteron.stop()
    finally:
        triton.stop()
