"""The bench's command line."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from load import WAYS
from report import DEUTERON, DOORS, INSIDE, TRITON

SERVERS = (DEUTERON, INSIDE, TRITON, DOORS)
USUAL_WAYS = ("http", "grpc")
OUT = Path(__file__).resolve().parent / "out"
LONGEST = 600  # seconds that one measurement may be asked to take

DESCRIPTION = """\
Measure deuteron against the real Triton and against the bare libraries it builds on, in one run, under the
load of the real perf_analyzer. What is not there yet is installed into .peers/ first. The model is the
identity of FP32[16], one unchanged python-backend model.py on both servers.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure, how long, and where to put it."""

    servers: Sequence[str]
    ways: Sequence[str]
    concurrencies: Sequence[int]
    rounds: int
    seconds: float  # of one measurement
    dynamic: bool  # dynamic batching in the model's configuration
    deuteron_command: Sequence[str]
    out: Path
    logs: Path


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line; exits with a message when it is wrong."""
    parser = argparse.ArgumentParser(prog="bench/run.py", description=DESCRIPTION)
    add = parser.add_argument
    add(
        "--servers",
        type=words(SERVERS),
        default=SERVERS,
        metavar="A,B",
        help=f"of {','.join(SERVERS)} (all); {INSIDE} is deuteron with its Python models in its own process",
    )
    add(
        "--ways",
        type=words(tuple(WAYS)),
        default=USUAL_WAYS,
        metavar="A,B",
        help=f"how to ask, of {','.join(WAYS)} ({','.join(USUAL_WAYS)})",
    )
    add(
        "--concurrencies",
        type=counts,
        default=(1, 16, 64),
        metavar="N,M",
        help="requests in flight (1,16,64)",
    )
    add("--rounds", type=count, default=7, help="repetitions, of which the median counts (7)")
    add("--seconds", type=seconds, default=1.5, help="length of one measurement (1.5)")
    add("--dynamic", action="store_true", help="give the model dynamic batching, on both servers")
    add(
        "--deuteron-command",
        type=shlex.split,
        default=(str(Path(sys.executable).with_name("deuteron")), "serve"),
        metavar="COMMAND",
        help="what to start as deuteron, without flags (deuteron serve, beside the running Python)",
    )
    add(
        "--out",
        type=Path,
        default=OUT / "latest.json",
        metavar="FILE",
        help="raw figures, JSON (%(default)s)",
    )
    add("--logs", type=Path, default=OUT, metavar="FOLDER", help="what the servers print (%(default)s)")
    return Options(**vars(parser.parse_args(arguments)))


def words(allowed: Sequence[str]) -> Callable[[str], Sequence[str]]:
    """Return a parser of comma-separated words that are all among `allowed`."""

    def parse_words(text: str) -> Sequence[str]:
        found = tuple(dict.fromkeys(text.split(",")))
        strange = [word for word in found if word not in allowed]
        if strange:
            raise argparse.ArgumentTypeError(f"{', '.join(strange)} is not among {', '.join(allowed)}")
        return found

    return parse_words


def count(text: str) -> int:
    """Parse an integer above zero."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def counts(text: str) -> Sequence[int]:
    """Parse comma-separated integers above zero."""
    return tuple(dict.fromkeys(count(word) for word in text.split(",")))


def seconds(text: str) -> float:
    """Parse a length of time."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0 and up to {LONGEST}")
    return number
