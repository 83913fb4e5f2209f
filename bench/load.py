"""One measurement: the real perf_analyzer loads one server over one protocol at one concurrency.

perf_analyzer measures in windows until three of them agree. Where client and server share a machine they
seldom do, and a bench that waits for luck takes as long as luck likes; so it is told to accept its first
three windows, and how steady the figures are is judged from the repeated rounds instead. By default it keeps
one thread for each request in flight; beyond a few threads to a core these keep its measuring thread from the
locks it needs, for seconds at a time, so larger loads use its asynchronous form.

Throughput and latency are the client's, over those windows. CPU per request is the server's over the whole
load, warm-up included, divided by the requests that the server's own statistics count in the same time. What
the machine spent beside server and client is noted too: a figure from a busy machine is worth little.
"""

import csv
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import machine
from servers import Launch, Server, ServerError

WINDOWS = 3
WINDOW_STRETCH = 4 / 3  # perf_analyzer's windows last a third longer than --measurement-interval says
MOST_THREADS = 16  # requests in flight above which perf_analyzer works asynchronously
ASYNCHRONOUS = "--async --max-threads 4"
ANY_SPREAD = 999  # per cent: every three windows count as stable
GIVE_UP_AFTER = 60.0  # seconds beyond the measured ones
PLAUSIBLE_SURPLUS = 3.0  # times the measured requests that a server may claim to have answered


class LoadError(Exception):
    """A measurement could not be taken."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to ask: a protocol, a model, and what perf_analyzer is to be told besides."""

    protocol: str  # "http" or "grpc"
    model: str = "identity"
    flags: str = ""
    streaming: bool = False
    bare: bool = False  # whether the bare doors can be asked this way


WAYS = {
    "http": Way("http", bare=True),
    "grpc": Way("grpc", bare=True),
    "json": Way("http", flags="--input-tensor-format json --output-tensor-format json"),
    "stream": Way("grpc", flags="--streaming", streaming=True),
    "shm": Way("http", flags="--shared-memory system --output-shared-memory-size 64"),
    "http-large": Way("http", "picture"),
    "grpc-large": Way("grpc", "picture"),
}


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a server."""

    way: str
    concurrency: int

    def __str__(self) -> str:
        """Name the load as the tables do."""
        return f"{self.way} c={self.concurrency}"


@dataclass(frozen=True, slots=True)
class Figures:
    """What one measurement found."""

    throughput: float  # requests/s
    p50: float  # µs
    p99: float  # µs
    cpu: float  # µs of the server's CPU time per request, over all its processes
    requests: int  # measured by the client
    others: float  # share of the machine's CPU time that neither this server nor the client spent

    def __str__(self) -> str:
        """Return the line of progress."""
        return (
            f"{self.throughput:8,.0f} requests/s  p50 {self.p50:7,.0f} µs  p99 {self.p99:7,.0f} µs  "
            f"CPU {self.cpu:4.0f} µs/request  others {self.others:4.0%}"
        )


def measure(server: Server, load: Load, perf_analyzer: Launch, seconds: float) -> Figures:
    """Load `server` for about `seconds`; raises LoadError with what perf_analyzer or the server said."""
    try:
        model = WAYS[load.way].model
        answered, before = server.completed(model), Spent.so_far(server)
        throughput, p50, p99, requests = run_perf_analyzer(server, load, perf_analyzer, seconds)
        after, answered = Spent.so_far(server), server.completed(model) - answered
    except ServerError as error:
        raise LoadError(str(error)) from error
    # The CPU figure rests on the server's own count: it must fit what the client saw.
    if not 0.9 * requests <= answered <= PLAUSIBLE_SURPLUS * requests:
        raise LoadError(f"{server.name} counts {answered} answers where the client measured {requests}")
    cpu = (after.server - before.server) / answered
    others = (after.others - before.others) / (after.clock - before.clock) / machine.cores()
    return Figures(throughput, p50, p99, cpu * 1e6, requests, max(0.0, others))


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU time spent up to one moment, in seconds."""

    clock: float
    server: float
    others: float  # all but the server and the clients that have ended

    @classmethod
    def so_far(cls, server: Server) -> "Spent":
        """Read all clocks."""
        own = server.cpu_seconds()
        return cls(time.monotonic(), own, machine.busy_seconds() - machine.waited_for_seconds() - own)


def run_perf_analyzer(
    server: Server, load: Load, perf_analyzer: Launch, seconds: float
) -> tuple[float, float, float, int]:
    """Return throughput, p50 and p99 in µs, and the measured requests; raises LoadError."""
    way = WAYS[load.way]
    is_asynchronous = way.streaming or load.concurrency > MOST_THREADS
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        table = Path(folder) / "figures.csv"
        flags = (
            f"-m {way.model} -i {way.protocol} -u {server.http if way.protocol == 'http' else server.grpc} "
            f"--concurrency-range {load.concurrency} -p {round(seconds * 1000 / WINDOWS / WINDOW_STRETCH)} "
            f"-r {WINDOWS} -s {ANY_SPREAD} -f {table} "
            f"{ASYNCHRONOUS if is_asynchronous else '--sync'} {way.flags}"
        ).split()
        try:
            answer = subprocess.run(
                [*perf_analyzer.command, *flags],
                env=perf_analyzer.full_environment(),
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds + GIVE_UP_AFTER,
            )
        except subprocess.TimeoutExpired as error:
            raise LoadError(f"perf_analyzer did not finish in {error.timeout:.0f} s") from error
        said = answer.stdout + answer.stderr
        if answer.returncode or not table.exists():
            raise LoadError(f"perf_analyzer ended with {answer.returncode}: {complaint(said)}")
        with table.open(newline="") as lines:
            row = next(csv.DictReader(lines), None)
    count = re.search(r"Request count: (\d+)", said)
    if row is None or count is None or not int(count[1]):
        raise LoadError(f"perf_analyzer measured no request: {complaint(said)}")
    return (
        float(row["Inferences/Second"]),
        float(row["p50 latency"]),
        float(row["p99 latency"]),
        int(count[1]),
    )


def complaint(said: str) -> str:
    """Return in one line what perf_analyzer said after repeating its settings."""
    _, _, result = said.rpartition("Request concurrency:")
    return " · ".join(line.strip() for line in result.splitlines() if line.strip())
