"""The metrics of a worker's model: kept by the server, beside those of all other models.

What a metric cannot do is refused here, with the rules that the server has itself; what it can is told to the
server without waiting, so counting costs a model next to nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ...model_metrics import Labels, MetricFamily, MetricKind, Series
from .house import RemoteHouse


@dataclass(slots=True)
class RemoteSeries(Series):
    """One metric; the server knows it by its number."""

    number: int = 0


class RemoteFamily:
    """All metrics of one name, as one holder sees them."""

    def __init__(self, house: RemoteHouse, number: int, rules: MetricFamily) -> None:
        self.number = number
        self._house = house
        self._rules = rules

    def hold(self, labels: Labels, bounds: Sequence[float] = ()) -> RemoteSeries:
        """Return the series of these labels, to be released when it is no longer used; raises InferError."""
        number = self._house.call("hold_series", self.number, labels, bounds)
        return RemoteSeries(labels, tuple(bounds), counts=[0] * (len(bounds) + 1), number=number)

    def release(self, series: RemoteSeries) -> None:
        """Let go of a series."""
        self._house.tell("release_series", series.number)

    def increment(self, series: RemoteSeries, amount: float) -> None:
        """Add to a counter or gauge; raises InferError where that is not possible."""
        self._rules.increment(series, amount)
        self._house.tell("increment", series.number, amount)

    def set(self, series: RemoteSeries, value: float) -> None:
        """Set a gauge; raises InferError for other kinds."""
        self._rules.set(series, value)
        self._house.tell("set", series.number, value)

    def observe(self, series: RemoteSeries, value: float) -> None:
        """Count a value into its bucket; raises InferError for what is no histogram."""
        self._rules.observe(series, value)
        self._house.tell("observe", series.number, value)

    def value(self, series: RemoteSeries) -> float:
        """Return what a counter or gauge stands at, all its holders together; raises InferError."""
        self._rules.value(series)
        return float(self._house.call("value", series.number))


class RemoteMetrics:
    """Families by name."""

    def __init__(self, house: RemoteHouse) -> None:
        self._house = house

    def hold(self, name: str, description: str, kind: MetricKind) -> RemoteFamily:
        """Return the family of a name, to be released when it is no longer used; raises InferError."""
        number = self._house.call("hold_family", name, description, kind)
        return RemoteFamily(self._house, number, MetricFamily(name, description, kind))

    def release(self, family: RemoteFamily) -> None:
        """Let go of a family."""
        self._house.tell("release_family", family.number)
