"""Run the bench: stand the servers side by side, load them in turn, round after round, and report.

Taking turns is the point: whatever else the machine does falls on all servers alike, and what is compared is
measured seconds apart.
"""

import contextlib
import json
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import machine
import options
import peers
import report
from load import WAYS, Load, LoadError, measure
from servers import Launch, Server, ServerError, serving

DOORS = Path(__file__).resolve().parent / "doors.py"
SHARED = ("--allow-client-shm=true",)
IN_PROCESS = ("--backend-config=python,in_process=true",)
WARM_UP_CONCURRENCY = 16
WARM_UP_SECONDS = 0.6
OVERHEAD = 0.3  # seconds that perf_analyzer takes beside measuring


def main(arguments: Sequence[str]) -> int:
    """Measure, print the report and write the raw figures; return 1 when a measurement failed."""
    wanted = options.parse(arguments)
    wanted.logs.mkdir(parents=True, exist_ok=True)
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        installed, versions_of_peers = peers.ensure()
        with all_serving(wanted, installed) as servers:
            warm_up(servers, wanted, installed.perf_analyzer())
            measurements, failures = measure_all(servers, wanted, installed.perf_analyzer())
            ready_after = {server.name: round(server.ready_after, 2) for server in servers}
    except (peers.PeersError, ServerError) as error:
        say(f"bench: {error}")
        return 1
    say(f"\n{report.text(measurements)}\n")
    for failure in failures:
        say(f"FAILED {failure}")
    figures = {
        "machine": machine.describe(),
        "versions": {**versions(), **versions_of_peers},
        "rounds": wanted.rounds,
        "seconds": wanted.seconds,
        "dynamic_batching": wanted.dynamic,
        "took_seconds": round(time.monotonic() - began),
        "ready_after_seconds": ready_after,
        "failures": failures,
        **report.data(measurements),
    }
    wanted.out.write_text(json.dumps(figures, indent=2) + "\n")
    say(f"raw figures: {wanted.out}")
    return 1 if failures else 0


@contextlib.contextmanager
def all_serving(wanted: options.Options, installed: peers.Peers) -> Iterator[list[Server]]:
    """Serve one and the same model repository with every wanted server; raises ServerError."""
    launches = {
        report.DEUTERON: Launch((*wanted.deuteron_command, *SHARED)),
        report.INSIDE: Launch((*wanted.deuteron_command, *SHARED, *IN_PROCESS)),
        report.TRITON: installed.triton(),
        report.DOORS: Launch((sys.executable, str(DOORS))),
    }
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        models = folder / "models"
        shutil.copytree(peers.MODELS, models, ignore=shutil.ignore_patterns("__pycache__"))
        if wanted.dynamic:
            for config in models.glob("*/config.pbtxt"):
                config.write_text(f"{config.read_text()}dynamic_batching {{ }}\n")
        servers = []
        for name in wanted.servers:
            server = stack.enter_context(serving(name, launches[name], models, wanted.logs))
            say(f"{name} is ready after {server.ready_after:.1f} s")
            servers.append(server)
        yield servers


def warm_up(servers: Sequence[Server], wanted: options.Options, perf_analyzer: Launch) -> None:
    """Load every server for a moment, so that no first measurement pays for imports and first allocations."""
    for server in servers:
        for way in wanted.ways:
            if can_ask(server, Load(way, WARM_UP_CONCURRENCY)):
                say(f"warming up {server.name} over {way}")
                with contextlib.suppress(LoadError):  # the measurement will meet it again and list it
                    measure(server, Load(way, WARM_UP_CONCURRENCY), perf_analyzer, WARM_UP_SECONDS)


def measure_all(
    servers: Sequence[Server], wanted: options.Options, perf_analyzer: Launch
) -> tuple[list[report.Measurement], list[str]]:
    """Take every measurement of every round in turn; return them and the failures, which stop nothing."""
    turns = list(in_turn(servers, wanted))
    say(f"{len(turns)} measurements, about {len(turns) * (wanted.seconds + OVERHEAD) / 60:.1f} minutes")
    measurements, failures = [], []
    for place, (number, load, server) in enumerate(turns, start=1):
        what = f"[{place:{len(str(len(turns)))}}/{len(turns)}] round {number} {load!s:15} {server.name:8}"
        try:
            figures = measure(server, load, perf_analyzer, wanted.seconds)
        except LoadError as error:
            failures.append(f"round {number} {load} {server.name}: {error}")
            say(f"{what} FAILED: {error}")
            continue
        measurements.append(report.Measurement(server.name, load, number, figures))
        say(f"{what} {figures}")
    return measurements, failures


def in_turn(servers: Sequence[Server], wanted: options.Options) -> Iterator[tuple[int, Load, Server]]:
    """Yield round, load and server; every second round goes backwards, so that a drift favours nobody."""
    loads = [Load(way, number) for way in wanted.ways for number in wanted.concurrencies]
    for number in range(1, wanted.rounds + 1):
        for load in loads:
            for server in servers if number % 2 else reversed(servers):
                if can_ask(server, load):
                    yield number, load, server


def can_ask(server: Server, load: Load) -> bool:
    """Tell whether a server knows this way of asking: the bare doors know the plain ones."""
    return server.name != report.DOORS or WAYS[load.way].bare


def versions() -> Mapping[str, str]:
    """Return the versions of our own side of the measurement."""
    ours = {"python": platform.python_version()}
    for package in ("deuteron", "aiohttp", "grpcio", "protobuf", "uvloop", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            ours[package] = metadata.version(package)
    return ours


def say(text: str) -> None:
    """Print one line of progress at once."""
    print(text, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # either way the servers are stopped
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")
