"""Send a server mutated requests over both protocols, and see that it stays as it was.

    python -m tests.fuzz --requests=1000000 --frames=1000000 --seed=7

The requests are those of the differential test with one to four bytes, numbers or tokens changed; the frames
are of HTTP/2, and make calls of the same kind. At the end
the process must be alive, its memory as it was after the first tenth, no request may have met an error that
the server was not made for, and good requests must be served.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final

from ..differential.models import write_repository
from ..e2e.house import Server, serving
from ..e2e.wire import infer
from .frame_fuzz import FrameFuzz
from .grpc_fuzz import GrpcFuzz
from .http_fuzz import HttpFuzz
from .tally import Tally

ROUNDS: Final = 10
OVER_HTTP: Final = 0.6
"""The part of the requests that goes over HTTP."""
GROWTH: Final = 64 << 20
"""Bytes that the server may hold more at the end than after the first round: caches that were filled late."""
GOOD: Final = {
    "inputs": [{"name": "INPUT0", "datatype": "INT32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}]
}


@contextmanager
def house() -> Iterator[Server]:
    """Serve the models of the differential test, with everything on that clients may reach."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        home = Path(folder)
        flags = ("--allow-client-shm=true", f"--access-log-file={home / 'access.log'}")
        with serving(write_repository(home / "models"), home / "server.log", *flags, until="/v2") as server:
            yield server


async def fuzz(server: Server, rng: Random, requests: int, frames: int, tally: Tally) -> None:
    """Send so many requests over both protocols, and so many frames, at the same time."""
    over_http = int(requests * OVER_HTTP)
    async with asyncio.TaskGroup() as group:
        group.create_task(FrameFuzz(server.grpc, rng, frames, tally).run())
        group.create_task(HttpFuzz(server.http, rng, over_http, tally).run())
        group.create_task(GrpcFuzz(server.grpc, rng, requests - over_http, tally).run())


def main() -> int:
    """Fuzz in rounds, print what came of it, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    tally = Tally()
    sizes: list[int] = []
    began = time.monotonic()
    with house() as server:
        for number in range(ROUNDS):
            rng = Random(f"{asked.seed}-{number}")
            asyncio.run(fuzz(server, rng, asked.requests // ROUNDS, asked.frames // ROUNDS, tally))
            sizes.append(server.resident_bytes())
            good = infer(server.http, "fixed", GOOD)[0] == 200
            sys.stdout.write(
                f"{tally.requests:10,} requests and frames, {sizes[-1] >> 20:,} MiB, "
                f"{time.monotonic() - began:,.0f} s, "
                f"{'a good request is served' if good else 'A GOOD REQUEST IS NOT SERVED'}\n"
            )
            sys.stdout.flush()
            if not good:
                return 1
    grown = sizes[-1] - sizes[0]
    sys.stdout.write(f"seed {asked.seed}\n{tally.report()}\ngrown by {grown / 1024:,.0f} KiB\n")
    return 1 if tally.faults or grown > GROWTH else 0


if __name__ == "__main__":
    sys.exit(main())
