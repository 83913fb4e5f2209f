"""Marks for the dynamic batcher, as a table: `python -m tests.simulation.marks`.

Four patterns of arrival, each served by deuteron's batcher and by a model of Triton's, and a model with slow
instances beside fast ones. All of it in virtual time and by a seed: whoever runs it sees the same numbers.
The model takes 2 ms for a batch and 0.2 ms for each of its rows, at most 32: 3,810 requests a second at best.
"""

import random
from collections.abc import Callable, Sequence
from typing import Final

from deuteron.actors.batching import DynamicBatcher
from deuteron.actors.pacing import FastestFirst
from deuteron.proto.config.model_config import DynamicBatching

from .ahead import AheadBatcher
from .arena import Arena, Cost, Marks, affine, bursts, diurnal, poisson

SEED: Final = 20_260
LIMIT: Final = 32
FAST: Final = affine(2, 0.2)
SLOW: Final = affine(20, 2)
SECONDS: Final = 8

Contest = Callable[[Arena], Marks]

PATTERNS: Final[dict[str, Contest]] = {
    "Poisson, 3,000 a second": lambda arena: arena.open_loop(poisson(random.Random(SEED), 3000, SECONDS)),
    "bursts of 40, 2,000 a second": lambda arena: arena.open_loop(bursts(random.Random(SEED), 2000, SECONDS)),
    "day and night, 2,200 a second": lambda arena: arena.open_loop(
        diurnal(random.Random(SEED), 2200, SECONDS)
    ),
    "64 clients that wait": lambda arena: arena.closed_loop(64, SECONDS),
}

TEAMS: Final[dict[str, Contest]] = {
    "8 clients that wait": lambda arena: arena.closed_loop(8, SECONDS),
    "64 clients that wait": lambda arena: arena.closed_loop(64, SECONDS),
    "256 clients that wait": lambda arena: arena.closed_loop(256, SECONDS),
    "Poisson, 3,000 a second": lambda arena: arena.open_loop(poisson(random.Random(SEED), 3000, SECONDS)),
    "Poisson, 8,000 a second": lambda arena: arena.open_loop(poisson(random.Random(SEED), 8000, SECONDS)),
}
"""What instances of two speeds are asked; 8,000 a second are more than the two fast ones can do."""


def late(costs: Sequence[Cost] = (FAST,)) -> Arena:
    """Return deuteron's batcher before instances of equal speed, as far as it knows."""
    return Arena(DynamicBatcher(DynamicBatching(), LIMIT, None), costs, LIMIT)


def ahead(costs: Sequence[Cost] = (FAST,)) -> Arena:
    """Return the model of Triton's batcher."""
    return Arena(AheadBatcher(LIMIT, len(costs)), costs, LIMIT)


def paced(costs: Sequence[Cost]) -> Arena:
    """Return deuteron's batcher where it measures the speed of instances."""
    schedule = FastestFirst(DynamicBatcher(DynamicBatching(), LIMIT, None), LIMIT, ordered=False)
    return Arena(schedule, costs, LIMIT, schedule.finished)


def table() -> list[str]:
    """Return the lines of the table."""
    width = 46
    lines = [f"{'one instance':{width}} {Marks.HEAD}"]
    for name, contest in PATTERNS.items():
        lines += [
            f"{f'{name}: deuteron':{width}} {contest(late())}",
            f"{'  Triton (model)':{width}} {contest(ahead())}",
        ]
    lines += ["", f"{'two fast instances, and two ten times slower':{width}} {Marks.HEAD}"]
    for name, contest in TEAMS.items():
        lines += [
            f"{f'{name}: the fast alone':{width}} {contest(late((FAST, FAST)))}",
            f"{'  with the slow: deuteron':{width}} {contest(paced((FAST, FAST, SLOW, SLOW)))}",
            f"{'  with the slow: Triton (model)':{width}} {contest(ahead((FAST, FAST, SLOW, SLOW)))}",
        ]
    return lines


if __name__ == "__main__":
    print("\n".join(table()))  # noqa: T201 - it is what this module is for
