"""Send the same random requests to deuteron and to the real Triton, and compare what they answer.

    python -m tests.differential --seed=7 --http=6000 --grpc=4000

The requests follow from the seed. Status, text of errors, members and their order, datatypes, shapes and data
must agree; times and versions are left out. Where the servers differ on purpose `known` has the reason.
Exits with 1 where less than 99 % agree beside that.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

from .answers import Answer
from .grpc_requests import GrpcRequest, counters, grpc_requests
from .grpc_wire import GrpcWire
from .http_drafts import HttpRequest
from .http_requests import http_requests
from .http_wire import HttpWire
from .known import SILENT, reasons
from .models import write_repository
from .pair import Runner, both
from .tally import Tally

ENOUGH: Final = 0.99
Request = HttpRequest | GrpcRequest


class Wires:
    """The connections to one server, over both protocols."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._connect()

    def _connect(self) -> None:
        self._http = HttpWire(self._runner.server.http)
        self._grpc = GrpcWire(self._runner.server.grpc)

    def ask(self, request: Request) -> Answer:
        """Send a request over its protocol."""
        return self._http.ask(request) if isinstance(request, HttpRequest) else self._grpc.ask(request)

    def close(self) -> None:
        """Hang up."""
        self._http.close()
        self._grpc.close()

    def restart(self) -> None:
        """Start the server anew and connect to it."""
        self.close()
        self._runner.restart()
        self._connect()


def main() -> int:
    """Compare, print the tables, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--http", type=int, default=4000, help="requests over HTTP")
    parser.add_argument("--grpc", type=int, default=2500, help="requests over gRPC")
    asked = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="differential-") as folder:
        repository = write_repository(Path(folder) / "models")
        with both(repository, Path(folder)) as (triton, deuteron):
            theirs, ours = Wires(triton), Wires(deuteron)
            for request in _requests(asked.seed, asked.http, asked.grpc):
                compare(request, theirs, ours, tally)
            theirs.close()
            ours.close()
    report = f"seed {asked.seed}\n{tally.report()}\n"
    sys.stdout.write(report.encode(errors="backslashreplace").decode())
    return 0 if tally.agreement >= ENOUGH else 1


def _requests(seed: int, http: int, grpc: int) -> Iterator[Request]:
    yield from counters(Random(seed))
    yield from http_requests(Random(seed), http)
    # Streams of decoupled models end Triton 2.51 when there were others before.
    yield from sorted(grpc_requests(Random(seed), grpc), key=lambda each: each.kind != "decoupled stream")


def compare(request: Request, theirs: Wires, ours: Wires, tally: Tally) -> None:
    """Ask both servers and count the outcome; start Triton anew where it did not survive."""
    protocol = "HTTP" if isinstance(request, HttpRequest) else "gRPC"
    triton, deuteron = theirs.ask(request), ours.ask(request)
    found = [] if triton == deuteron else reasons(triton, deuteron, repr(request))
    tally.count(f"{protocol}, {request.kind}", repr(request), (triton, deuteron), found)
    if found and SILENT.reason in found:
        theirs.restart()


if __name__ == "__main__":
    sys.exit(main())
