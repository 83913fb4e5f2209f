"""How metrics are spelt: Prometheus' text form, as Triton writes it.

Labels are in alphabetical order, and whole numbers have no decimal point; prometheus_client's own exposition
writes both otherwise.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "summary"]
Number = int | float


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric, and the labels that tell whose it is."""

    value: Number
    labels: Mapping[str, str]
    suffix: str = ""
    """What is put behind the name of the family, as for the parts of a histogram."""
    bound: tuple[str, str] | None = None
    """The label that comes last: `le` with the bound of a bucket, `quantile` with a quantile."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its samples."""

    name: str
    kind: Kind
    help: str
    samples: Iterable[Sample]


def bucketed(
    labels: Mapping[str, str], bounds: Sequence[float], counts: Sequence[int], total: float
) -> Iterator[Sample]:
    """Yield the samples of one histogram; counts are those of each bucket alone, one more than bounds."""
    yield Sample(sum(counts), labels, "_count")
    yield Sample(total, labels, "_sum")
    for bound, count in zip((*map(number, bounds), "+Inf"), accumulate(counts), strict=True):
        yield Sample(count, labels, "_bucket", ("le", bound))


def exposition(families: Iterable[Family]) -> bytes:
    """Return the text of metrics without families that have no samples, or a name that was there before."""
    lines: list[str] = []
    names: set[str] = set()
    for family in families:
        samples = [
            f"{family.name}{each.suffix}{_labels(each)} {number(each.value)}" for each in family.samples
        ]
        if samples and family.name not in names:
            names.add(family.name)
            told = family.help.replace("\\", r"\\").replace("\n", r"\n")
            lines += (f"# HELP {family.name} {told}", f"# TYPE {family.name} {family.kind}", *samples)
    lines.append("")
    return "\n".join(lines).encode(errors="replace")


def _labels(sample: Sample) -> str:
    labels = [f'{name}="{_escaped(sample.labels[name])}"' for name in sorted(sample.labels)]
    if sample.bound is not None:
        labels.append('{}="{}"'.format(*sample.bound))
    return "{" + ",".join(labels) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def number(value: Number) -> str:
    """Return a number as it is spelt."""
    if math.isfinite(value):
        return str(int(value)) if value == int(value) else repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
