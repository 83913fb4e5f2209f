"""`MetricFamily` and `Metric`: metrics of its own that model code adds to those of the server.

A metric is gone when the model lets go of it, and so are all metrics of a family when the model lets go of
the family, whether or not it still holds them.
"""

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from ....proto.errors import InferError
from ...model_metrics import MODEL_METRICS, Labels, MetricKind, Series
from .errors import TritonModelException
from .names import EXTENSION_MODULE

T = TypeVar("T")


class Family(Protocol):
    """Metrics of one name, wherever they are kept; a series goes back only to the family it came from."""

    def hold(self, labels: Labels, bounds: Sequence[float] = ()) -> Any:  # noqa: ANN401 - the family's own
        """Return the series of these labels."""

    def release(self, series: Any) -> None:  # noqa: ANN401
        """Let go of a series."""

    def increment(self, series: Any, amount: float) -> None:  # noqa: ANN401
        """Add to a counter or gauge."""

    def set(self, series: Any, value: float) -> None:  # noqa: ANN401
        """Set a gauge."""

    def observe(self, series: Any, value: float) -> None:  # noqa: ANN401
        """Count a value into a histogram."""

    def value(self, series: Any) -> float:  # noqa: ANN401
        """Return what a counter or gauge stands at."""


class Registry(Protocol):
    """Whoever keeps the families."""

    def hold(self, name: str, description: str, kind: MetricKind) -> Any:  # noqa: ANN401 - the registry's own
        """Return the family of a name."""

    def release(self, family: Any) -> None:  # noqa: ANN401
        """Let go of a family."""


_registry: Registry = MODEL_METRICS


def install_metrics(registry: Registry) -> None:
    """Have the metrics of all models of this process kept by a registry from now on."""
    global _registry  # noqa: PLW0603 - model code reaches its metrics by global names
    _registry = registry


class _Holding:
    """What one `MetricFamily` of a model holds; outlives it until its metrics are gone too."""

    __slots__ = ("_lock", "_series", "family", "is_over")

    def __init__(self, family: Family) -> None:
        self.family = family
        self.is_over = False
        self._series: list[Series] = []
        self._lock = threading.Lock()

    def take(self, labels: Labels, bounds: Sequence[float]) -> Series:
        """Hold a series."""
        series: Series = self.family.hold(labels, bounds)
        with self._lock:
            self._series.append(series)
        return series

    def drop(self, series: Series) -> None:
        """Let go of a series, unless all were let go of."""
        with self._lock:
            if self.is_over:
                return
            self._series.remove(series)
        self.family.release(series)

    def end(self) -> None:
        """Let go of everything."""
        with self._lock:
            self.is_over = True
        for series in self._series:
            self.family.release(series)
        _registry.release(self.family)


class Metric:
    """One metric of a family."""

    __module__ = EXTENSION_MODULE
    __slots__ = ("__weakref__", "_holding", "_series")

    def __init__(self, holding: _Holding, series: Series) -> None:
        self._holding = holding
        self._series = series
        weakref.finalize(self, holding.drop, series).atexit = False

    def increment(self, value: float) -> None:
        """Add to a counter or a gauge."""
        self._do("increment metric value", lambda family: family.increment(self._series, value))

    def set(self, value: float) -> None:
        """Set a gauge."""
        self._do("set metric value", lambda family: family.set(self._series, value))

    def observe(self, value: float) -> None:
        """Count a value into a histogram."""
        self._do("observe metric value", lambda family: family.observe(self._series, value))

    def value(self) -> float:
        """Return what a counter or a gauge stands at."""
        return self._do("get metric value", lambda family: family.value(self._series))

    def _do(self, what: str, operation: Callable[[Family], T]) -> T:
        if self._holding.is_over:
            raise TritonModelException(
                f"Failed to {what}: Invalid metric operation as the corresponding 'MetricFamily' has been "
                "deleted. The 'MetricFamily' object should be deleted AFTER its corresponding 'Metric' "
                "objects have been deleted."
            )
        try:
            return operation(self._holding.family)
        except InferError as error:
            raise TritonModelException(f"Failed to {what}: {error.message}") from None


class MetricFamily:
    """Metrics of one name, told apart by their labels."""

    __module__ = EXTENSION_MODULE
    __slots__ = ("__weakref__", "_holding", "_kind")

    COUNTER: Final = MetricKind.COUNTER
    GAUGE: Final = MetricKind.GAUGE
    HISTOGRAM: Final = MetricKind.HISTOGRAM

    def __init__(self, name: str, description: str, kind: MetricKind) -> None:
        if not isinstance(kind, MetricKind):
            raise TypeError("MetricFamily: kind must be MetricFamily.COUNTER, GAUGE or HISTOGRAM")
        try:
            self._holding = _Holding(_registry.hold(name, description, kind))
        except InferError as error:
            raise TritonModelException(f"Error when creating MetricFamily: {error.message}") from None
        self._kind = kind
        weakref.finalize(self, self._holding.end).atexit = False

    def Metric(  # noqa: N802 - the name is Triton's
        self, labels: Mapping[str, str] | None = None, buckets: Sequence[float] | None = None
    ) -> Metric:
        """Return the metric of these labels; a histogram needs the upper bounds of its buckets, ascending."""
        if labels is not None and not isinstance(labels, dict):
            raise _cannot_create("Labels must be a dictionary.")
        if buckets is None and self._kind is MetricKind.HISTOGRAM:
            raise _cannot_create("Missing required buckets.")
        if buckets is not None and not isinstance(buckets, list):
            raise _cannot_create("Buckets must be a list.")
        if buckets is not None and self._kind is not MetricKind.HISTOGRAM:
            raise _cannot_create("Unexpected buckets found.")
        if not all(isinstance(each, str) for pair in (labels or {}).items() for each in pair):
            raise TritonModelException(
                "Error when creating Metric: names and values of labels must be strings"
            )
        try:
            series = self._holding.take(tuple(sorted((labels or {}).items())), buckets or ())
        except InferError as error:
            raise TritonModelException(f"Error when creating Metric: {error.message}") from None
        return Metric(self._holding, series)


def _cannot_create(why: str) -> TritonModelException:
    return TritonModelException(f"Failed to create metric. {why}")
