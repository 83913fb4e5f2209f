"""How latencies are spread: a histogram of first responses, and summaries of the phases of requests.

Both are fed once for each request on the loop, in nanoseconds, and read when somebody collects metrics. A
histogram only ever counts. A summary tells quantiles of the recent past, so it keeps the observations
themselves: those of the last minute, and no more than `MOST_KEPT` of them.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..proto.config import ModelConfig
from .clock import MILLISECOND, SECOND, Clock, Instant, Nanoseconds, now

FIRST_RESPONSE: Final = "nv_inference_first_response_histogram_ms"
"""The name by which a configuration chooses the buckets of the histogram."""
DEFAULT_BUCKETS_MS: Final = (100.0, 500.0, 2000.0, 5000.0)

WINDOW: Final[Nanoseconds] = 60 * SECOND
MOST_KEPT: Final = 16_384
"""Observations that a summary remembers, however many there were within its window."""


@dataclass(frozen=True, slots=True)
class LatencyOptions:
    """Which spreads of latencies the operator wants to see."""

    histograms: bool = True
    summaries: bool = False


class Histogram:
    """How many observations stayed below each of some bounds, in whole milliseconds as Triton's do."""

    __slots__ = ("_bounds", "counts", "sum_ms")

    def __init__(self, bounds_ms: Sequence[float]) -> None:
        self._bounds = tuple(bounds_ms)
        self.counts = [0] * (len(bounds_ms) + 1)
        """By bucket, the one without bound last; not cumulative."""
        self.sum_ms = 0

    @property
    def bounds_ms(self) -> Sequence[float]:
        """The upper bounds of the buckets, ascending; each belongs to its bucket."""
        return self._bounds

    def observe(self, elapsed: Nanoseconds) -> None:
        """Count one more."""
        elapsed_ms = elapsed // MILLISECOND
        self.counts[bisect_left(self._bounds, elapsed_ms)] += 1
        self.sum_ms += elapsed_ms


class Summary:
    """How the observations of the last minute are spread, and how many there ever were."""

    __slots__ = ("_clock", "_recent", "count", "sum")

    def __init__(self, clock: Clock = now) -> None:
        self.count = 0
        self.sum: Nanoseconds = 0
        self._clock = clock
        self._recent: deque[tuple[Instant, Nanoseconds]] = deque(maxlen=MOST_KEPT)

    def observe(self, moment: Instant, elapsed: Nanoseconds) -> None:
        """Count one more, seen at a moment."""
        self.count += 1
        self.sum += elapsed
        self._recent.append((moment, elapsed))

    def quantiles(self, wanted: Sequence[float]) -> list[float]:
        """Return for each quantile the observation at its rank, NaN when there is none to be had."""
        recent = self._recent
        since = self._clock() - WINDOW
        while recent and recent[0][0] < since:
            recent.popleft()
        if not recent:
            return [math.nan] * len(wanted)
        ordered = sorted(elapsed for _, elapsed in recent)
        last = len(ordered) - 1
        return [ordered[min(last, max(0, math.ceil(each * len(ordered)) - 1))] for each in wanted]


PHASES: Final = ("request", "queue", "compute_input", "compute_infer", "compute_output")
"""What summaries are kept of."""
CACHE_PHASES: Final = ("cache_hit", "cache_miss")
"""What they are kept of besides, for a model whose responses are cached."""


class Latencies:
    """The spreads of one model version, as far as they are wanted."""

    __slots__ = ("first_response", "summaries")

    def __init__(self, first_response: Histogram | None, summaries: Mapping[str, Summary]) -> None:
        self.first_response = first_response
        self.summaries = summaries
        """By the names in `PHASES` and `CACHE_PHASES`, or empty."""

    def observe(self, phases: Mapping[str, Nanoseconds]) -> None:
        """Take how long phases of one request took, by name; those that nobody wants to see are left out."""
        moment = now()
        for name, elapsed in phases.items():
            if name in self.summaries:
                self.summaries[name].observe(moment, elapsed)


def latencies_of(config: ModelConfig, options: LatencyOptions, *, cached: bool = False) -> Latencies:
    """Return the spreads to keep of a model, with the buckets that its configuration asks for."""
    # The whole time of a request says little where some are answered from the cache: Triton does not tell it.
    phases = (*PHASES[1:], *CACHE_PHASES) if cached else PHASES
    histogram = None
    if options.histograms:
        histogram = Histogram(_buckets(config))
    return Latencies(histogram, {name: Summary() for name in phases} if options.summaries else {})


def _buckets(config: ModelConfig) -> Sequence[float]:
    for control in config.message.model_metrics.metric_control:
        if control.metric_identifier.family == FIRST_RESPONSE:
            return sorted({bound for bound in control.histogram_options.buckets if math.isfinite(bound)})
    return DEFAULT_BUCKETS_MS
