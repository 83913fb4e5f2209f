"""The metrics that the model of one worker holds, by the numbers it knows them under.

They are in the registry of this process, beside those of all other models, and are let go of when the worker
ends, however it does.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...model_metrics import MODEL_METRICS, MetricFamily, MetricKind, Series

Result = Any
"""What msgpack can spell."""


class Holdings:
    """Families and series of one worker; a number that is not known raises KeyError."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._families: dict[int, MetricFamily] = {}
        self._series: dict[int, tuple[MetricFamily, Series]] = {}
        self.calls: Mapping[str, Callable[..., Result]] = {
            "hold_family": self._hold_family,
            "hold_series": self._hold_series,
            "release_family": self._release_family,
            "release_series": self._release_series,
            "increment": lambda number, amount: self._on(number, MetricFamily.increment, amount),
            "set": lambda number, value: self._on(number, MetricFamily.set, value),
            "observe": lambda number, value: self._on(number, MetricFamily.observe, value),
            "value": lambda number: self._on(number, MetricFamily.value),
        }

    def close(self) -> None:
        """Let go of everything."""
        for number in list(self._series):
            self._release_series(number)
        for number in list(self._families):
            self._release_family(number)

    def _hold_family(self, name: str, description: str, kind: int) -> int:
        number = next(self._numbers)
        self._families[number] = MODEL_METRICS.hold(name, description, MetricKind(kind))
        return number

    def _hold_series(self, family: int, labels: Sequence[Sequence[str]], bounds: Sequence[float]) -> int:
        number = next(self._numbers)
        held = self._families[family]
        self._series[number] = (held, held.hold(tuple((name, value) for name, value in labels), bounds))
        return number

    def _release_family(self, number: int) -> None:
        MODEL_METRICS.release(self._families.pop(number))

    def _release_series(self, number: int) -> None:
        family, series = self._series.pop(number)
        family.release(series)

    def _on(self, number: int, operation: Callable[..., Result], *words: float) -> Result:
        family, series = self._series[number]
        return operation(family, series, *words)
