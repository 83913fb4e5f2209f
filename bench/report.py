"""Turn measurements into medians, tables of ratios and verdicts.

A shared machine changes its speed from one half minute to the next, by more than the servers differ. So two
servers are compared within a round, where their measurements lie seconds apart, and the median of these
comparisons is what counts; the quotient of the medians in the table of figures may differ a little from it.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from load import Figures, Load

DEUTERON, INSIDE, TRITON, DOORS = "deuteron", "inside", "triton", "doors"
NOISY = 0.10  # share of the machine spent by others above which figures deserve a warning


@dataclass(frozen=True, slots=True)
class Measurement:
    """The figures of one server under one load in one round."""

    server: str
    load: Load
    round: int
    figures: Figures


# The figures of a server under a load, by round.
Results = Mapping[tuple[str, Load], Mapping[int, Figures]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One way to hold a form of deuteron's figures against another server's."""

    name: str
    against: str
    compare: Callable[[Figures, Figures], float]  # of deuteron's and the other's figures of one round
    form: str  # how the number is written

    def found(self, results: Results, load: Load, server: str) -> float | None:
        """Return the median over the rounds in which both were measured, or None where there is none."""
        ours, theirs = results.get((server, load), {}), results.get((self.against, load), {})
        each = [self.compare(ours[number], theirs[number]) for number in ours if number in theirs]
        return statistics.median(each) if each else None


THROUGHPUT = Comparison(
    "throughput ÷ Triton", TRITON, lambda ours, its: ours.throughput / its.throughput, ".2f"
)
LATENCY = Comparison("p50 ÷ Triton", TRITON, lambda ours, its: ours.p50 / its.p50, ".2f")
CPU = Comparison("CPU ÷ Triton", TRITON, lambda ours, its: ours.cpu / its.cpu, ".2f")
ADDED_CPU = Comparison("CPU − doors, µs/request", DOORS, lambda ours, its: ours.cpu - its.cpu, "+.0f")
COMPARISONS = (
    THROUGHPUT,
    LATENCY,
    Comparison("p99 ÷ Triton", TRITON, lambda ours, its: ours.p99 / its.p99, ".2f"),
    CPU,
    ADDED_CPU,
)


@dataclass(frozen=True, slots=True)
class Target:
    """What deuteron shall reach under one load."""

    load: Load
    comparison: Comparison
    bound: float
    at_least: bool  # else at most
    server: str = DEUTERON

    def verdict(self, results: Results) -> dict[str, Any] | None:
        """Return what was found and whether it is within the bound, or None where it was not measured."""
        found = self.comparison.found(results, self.load, self.server)
        if found is None:
            return None
        met = found >= self.bound if self.at_least else found <= self.bound
        wanted = f"{'≥' if self.at_least else '≤'} {self.bound:g}"
        return {
            "what": f"{self.load} {self.server}: {self.comparison.name}",
            "found": found,
            "shown": format(found, self.comparison.form),
            "wanted": wanted,
            "met": met,
        }


TARGETS = (
    *(
        Target(Load(way, number), THROUGHPUT, bound, at_least=True, server=server)
        for server, bound in ((DEUTERON, 1.0), (INSIDE, 1.5))
        for way in ("http", "grpc")
        for number in (16, 64)
    ),
    *(Target(Load(way, 1), LATENCY, 1.0, at_least=False, server=INSIDE) for way in ("http", "grpc")),
    *(Target(Load(way, 16), CPU, 0.5, at_least=False, server=INSIDE) for way in ("http", "grpc")),
    *(Target(Load(way, 16), ADDED_CPU, 60, at_least=False, server=INSIDE) for way in ("http", "grpc")),
    *(Target(Load(way, 8), THROUGHPUT, 1.0, at_least=True) for way in ("http-large", "grpc-large")),
)


def by_round(measurements: Iterable[Measurement]) -> Results:
    """Return the figures by server and load, then by round."""
    results: dict[tuple[str, Load], dict[int, Figures]] = {}
    for each in measurements:
        results.setdefault((each.server, each.load), {})[each.round] = each.figures
    return results


def medians(results: Results) -> list[dict[str, Any]]:
    """Return the median of each figure on its own, and how far the rounds' throughputs lie apart."""
    rows = []
    for (server, load), rounds in results.items():
        figures = [asdict(each) for each in rounds.values()]
        middle = {name: statistics.median(each[name] for each in figures) for name in figures[0]}
        throughputs = [each["throughput"] for each in figures]
        spread = (max(throughputs) - min(throughputs)) / middle["throughput"]
        rows.append({"load": str(load), "server": server, **middle, "spread": spread})
    return rows


def figures_table(results: Results) -> str:
    """Return every median as a Markdown table, one line per load and server."""
    head = ("load", "server", "requests/s", "± rounds", "p50 µs", "p99 µs", "CPU µs/request", "others' CPU")
    rows = [
        (
            row["load"],
            row["server"],
            f"{row['throughput']:,.0f}",
            f"{row['spread'] / 2:.0%}",
            f"{row['p50']:,.0f}",
            f"{row['p99']:,.0f}",
            f"{row['cpu']:.0f}",
            f"{row['others']:.0%}",
        )
        for row in medians(results)
    ]
    return table(head, rows)


def comparisons_table(results: Results) -> str:
    """Return both forms of deuteron against the others as a Markdown table, one line per load and form."""
    rows = []
    for server, load in results:
        if server in (DEUTERON, INSIDE):
            found = [(each.found(results, load, server), each.form) for each in COMPARISONS]
            shown = ("–" if number is None else format(number, form) for number, form in found)
            rows.append((str(load), server, *shown))
    return table(("load", "server", *(each.name for each in COMPARISONS)), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns: words to the left, figures to the right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    words = [name in ("load", "server") for name in head]
    columns = list(zip(words, widths, strict=True))
    rule = ["-" * width if word else "-" * (width - 1) + ":" for word, width in columns]

    def written(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if word else cell.rjust(width)
            for cell, (word, width) in zip(cells, columns, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    return "\n".join([written(head), written(rule), *(written(cells) for cells in lines[1:])])


def verdicts(results: Results) -> list[dict[str, Any]]:
    """Return the verdict on every target that was measured."""
    found = (target.verdict(results) for target in TARGETS)
    return [verdict for verdict in found if verdict is not None]


def verdict_line(verdict: Mapping[str, Any]) -> str:
    """Return a verdict for people."""
    word = "met" if verdict["met"] else "MISSED"
    return f"{word:6}  {verdict['what']}: {verdict['shown']} (target {verdict['wanted']})"


def text(measurements: Sequence[Measurement]) -> str:
    """Return the whole report for people: figures, comparisons, verdicts and, if need be, a warning."""
    results = by_round(measurements)
    parts = [figures_table(results)]
    if any(server in (DEUTERON, INSIDE) for server, _ in results):
        parts.append(comparisons_table(results))
        parts.append("\n".join(verdict_line(each) for each in verdicts(results)))
    noisy = sum(each.figures.others > NOISY for each in measurements)
    if noisy:
        parts.append(
            f"In {noisy} of {len(measurements)} measurements other processes spent more than {NOISY:.0%} of "
            "the machine: trust the ratios only, or measure again when it is quiet."
        )
    return "\n\n".join(parts)


def data(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Return raw figures, medians and verdicts as plain data."""
    results = by_round(measurements)
    return {
        "verdicts": verdicts(results),
        "medians": medians(results),
        "measurements": [asdict(each) for each in measurements],
    }
