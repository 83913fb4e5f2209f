"""Metrics that model code keeps: what they are called and what they stand at.

There is one registry a process, since model code reaches its metrics by global names. Whoever exposes the
metrics of the server takes a snapshot of it. Families of one name are one family; series of one family with
the same labels are one series; each stays as long as somebody holds it.
"""

import re
import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise
from typing import Final

from ..proto.errors import Fault, InferError, invalid

Labels = tuple[tuple[str, str], ...]
"""Names and values, sorted by name."""

_METRIC_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


class MetricKind(IntEnum):
    """What a metric can do, under Triton's numbers."""

    COUNTER = 0
    GAUGE = 1
    HISTOGRAM = 2


@dataclass(slots=True)
class Series:
    """One metric of a family; changed by its family only."""

    labels: Labels
    bounds: tuple[float, ...] = ()
    """The upper bounds of a histogram's buckets, ascending, without infinity."""
    value: float = 0.0
    """Of a counter or gauge, and the sum of all that a histogram observed."""
    counts: list[int] = field(default_factory=list)
    """How many observations fell into each bucket, the one without bound last; not cumulative."""
    holders: int = 0


class MetricFamily:
    """All metrics of one name; used from any thread."""

    __slots__ = ("_lock", "_series", "description", "holders", "kind", "name")

    def __init__(self, name: str, description: str, kind: MetricKind) -> None:
        self.name = name
        self.description = description
        self.kind = kind
        self.holders = 0
        self._series: dict[Labels, Series] = {}
        self._lock = threading.Lock()

    def hold(self, labels: Labels, bounds: Sequence[float] = ()) -> Series:
        """Return the series of these labels, to be released when it is no longer used; raises InferError."""
        for name, _ in labels:
            if not _LABEL_NAME.fullmatch(name):
                raise invalid(f"Invalid label name '{name}'")
        if any(upper <= lower for lower, upper in pairwise(bounds)):
            raise invalid("Bucket Boundaries must be strictly sorted")
        with self._lock:
            series = self._series.get(labels)
            if series is None:
                series = Series(labels, tuple(bounds), counts=[0] * (len(bounds) + 1))
                self._series[labels] = series
            series.holders += 1
            return series

    def release(self, series: Series) -> None:
        """Let go of a series; the last one to do so takes it out of the family."""
        with self._lock:
            series.holders -= 1
            if not series.holders:
                self._series.pop(series.labels, None)

    def increment(self, series: Series, amount: float) -> None:
        """Add to a counter or gauge; raises InferError where that is not possible."""
        if self.kind is MetricKind.HISTOGRAM:
            raise self._unsupported("Increment")
        if self.kind is MetricKind.COUNTER and amount < 0:
            raise invalid(
                "TRITONSERVER_METRIC_KIND_COUNTER can only be incremented monotonically by "
                "non-negative values."
            )
        with self._lock:
            series.value += amount

    def set(self, series: Series, value: float) -> None:
        """Set a gauge; raises InferError for other kinds."""
        if self.kind is not MetricKind.GAUGE:
            raise self._unsupported("Set")
        series.value = value

    def observe(self, series: Series, value: float) -> None:
        """Count a value into its bucket; raises InferError for what is no histogram."""
        if self.kind is not MetricKind.HISTOGRAM:
            raise self._unsupported("Observe")
        with self._lock:
            series.value += value
            series.counts[bisect_left(series.bounds, value)] += 1

    def value(self, series: Series) -> float:
        """Return what a counter or gauge stands at; raises InferError for a histogram."""
        if self.kind is MetricKind.HISTOGRAM:
            raise self._unsupported("Value")
        return series.value

    def snapshot(self) -> list[Series]:
        """Return copies of all series."""
        with self._lock:
            return [
                Series(each.labels, each.bounds, each.value, each.counts.copy())
                for each in self._series.values()
            ]

    def _unsupported(self, operation: str) -> InferError:
        return InferError(
            Fault.UNSUPPORTED, f"TRITONSERVER_METRIC_KIND_{self.kind.name} does not support {operation}"
        )


class MetricRegistry:
    """Families by name; used from any thread."""

    def __init__(self) -> None:
        self._families: dict[str, MetricFamily] = {}
        self._lock = threading.Lock()

    def hold(self, name: str, description: str, kind: MetricKind) -> MetricFamily:
        """Return the family of a name, to be released when it is no longer used; raises InferError."""
        if not _METRIC_NAME.fullmatch(name):
            raise invalid("Invalid metric name")
        with self._lock:
            family = self._families.get(name)
            if family is None:
                family = self._families[name] = MetricFamily(name, description, kind)
            elif family.kind is not kind:
                raise invalid("Family name already exists with different type")
            family.holders += 1
            return family

    def release(self, family: MetricFamily) -> None:
        """Let go of a family; the last one to do so takes it out of the registry."""
        with self._lock:
            family.holders -= 1
            if not family.holders:
                self._families.pop(family.name, None)

    def families(self) -> list[MetricFamily]:
        """Return all families, in the order they were made."""
        with self._lock:
            return list(self._families.values())


MODEL_METRICS: Final = MetricRegistry()
"""The metrics of all model code of this process."""
