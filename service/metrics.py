"""Metrics, read from the counters when they are asked for: the hot path pays nothing for them.

Names, types, labels and units are Triton's.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from ..actors.cache import LocalCache, Store
from ..actors.latencies import CACHE_PHASES, FIRST_RESPONSE, PHASES, Histogram, Summary
from ..actors.repository import Repository
from ..actors.rollout import Rollouts
from ..actors.sequence_statistics import SequenceStatistics, Spread
from ..actors.servable import Servable
from ..actors.waking import Waking
from ..backends.model_metrics import MODEL_METRICS, MetricKind, MetricRegistry, Series
from .exposition import Family, Kind, Number, Sample, bucketed, exposition, number
from .machine_metrics import MachineMetrics, pinned_memory_families
from .settings import MetricsSettings


@dataclass(frozen=True, slots=True)
class ModelMetric:
    """A metric that every version of every model has one sample of."""

    name: str
    kind: Kind
    help: str
    read: Callable[[Servable], Number]


_NS_PER_US: Final = 1000

COUNTS: Final = (
    ModelMetric(
        "nv_inference_request_success",
        "counter",
        "Number of requests that were answered",
        lambda model: model.statistics.success.count,
    ),
    ModelMetric(
        "nv_inference_count",
        "counter",
        "Number of inferences: the rows of all requests that were answered",
        lambda model: model.statistics.inference_count,
    ),
    ModelMetric(
        "nv_inference_exec_count",
        "counter",
        "Number of times the model was executed, each time with one batch",
        lambda model: model.statistics.execution_count,
    ),
)

LATENCIES: Final = (
    ModelMetric(
        "nv_inference_request_duration_us",
        "counter",
        "Microseconds from request to answer, added up",
        lambda model: model.statistics.success.ns // _NS_PER_US,
    ),
    ModelMetric(
        "nv_inference_queue_duration_us",
        "counter",
        "Microseconds that requests waited in the queue, added up",
        lambda model: model.statistics.queue.ns // _NS_PER_US,
    ),
    ModelMetric(
        "nv_inference_compute_input_duration_us",
        "counter",
        "Microseconds in which inputs were prepared, added up",
        lambda model: model.statistics.compute_input.ns // _NS_PER_US,
    ),
    ModelMetric(
        "nv_inference_compute_infer_duration_us",
        "counter",
        "Microseconds in which the model ran, added up",
        lambda model: model.statistics.compute_infer.ns // _NS_PER_US,
    ),
    ModelMetric(
        "nv_inference_compute_output_duration_us",
        "counter",
        "Microseconds in which outputs were taken, added up",
        lambda model: model.statistics.compute_output.ns // _NS_PER_US,
    ),
)

CACHED: Final = (
    ModelMetric(
        "nv_cache_num_hits_per_model",
        "counter",
        "Number of requests that were answered from the cache",
        lambda model: model.statistics.cache_hit.count,
    ),
    ModelMetric(
        "nv_cache_hit_duration_per_model",
        "counter",
        "Microseconds in which responses were found in the cache, added up",
        lambda model: model.statistics.cache_hit.ns // _NS_PER_US,
    ),
    ModelMetric(
        "nv_cache_num_misses_per_model",
        "counter",
        "Number of requests whose response was not in the cache, and then put there",
        lambda model: model.statistics.cache_miss.count,
    ),
    ModelMetric(
        "nv_cache_miss_duration_per_model",
        "counter",
        "Microseconds in which responses were not found in the cache, and put there, added up",
        lambda model: model.statistics.cache_miss.ns // _NS_PER_US,
    ),
)
"""Of models whose responses are cached."""

GAUGES: Final = (
    ModelMetric(
        "nv_inference_pending_request_count",
        "gauge",
        "Number of requests that wait for their execution",
        lambda model: model.pending,
    ),
    ModelMetric(
        "nv_model_load_duration_secs",
        "gauge",
        "Seconds it took to load the model",
        lambda model: model.statistics.load_seconds,
    ),
)


SEQUENCE_GAUGES: Final[Sequence[tuple[str, str, Callable[[SequenceStatistics], Number]]]] = (
    ("deuteron_sequence_live", "Number of sequences that have a slot", lambda told: told.live),
    ("deuteron_sequence_backlog", "Number of sequences that wait for a slot", lambda told: told.backlog),
)

SEQUENCE_SPREADS: Final[Sequence[tuple[str, str, Callable[[SequenceStatistics], Spread]]]] = (
    ("deuteron_sequence_length", "Requests of a sequence that is over", lambda told: told.lengths),
    ("deuteron_sequence_age_seconds", "Seconds that a sequence lived", lambda told: told.ages),
)


def model_families(repository: Repository, *, latencies: bool) -> Iterator[Family]:
    """Yield the metrics of all models that are served now."""
    models = _labelled(repository)
    yield Family(
        "nv_inference_request_failure",
        "counter",
        "Number of requests that were accepted and not answered, by reason",
        [
            Sample(count, {**labels, "reason": reason})
            for model, labels in models
            for reason, count in model.statistics.failures.items()
        ],
    )
    for metric in (*COUNTS, *(LATENCIES if latencies else ()), *GAUGES):
        samples = [Sample(metric.read(model), labels) for model, labels in models]
        yield Family(metric.name, metric.kind, metric.help, samples)


def cache_families(cache: Store, repository: Repository, *, latencies: bool) -> Iterator[Family]:
    """Yield the metrics of the response cache, and those of the models that use it."""
    cached = [(model, labels) for model, labels in _labelled(repository) if model.config.response_cache]
    for metric in CACHED if latencies else ():
        samples = [Sample(metric.read(model), labels) for model, labels in cached]
        yield Family(metric.name, metric.kind, metric.help, samples)
    counters = cache.counters
    told: list[tuple[str, str, Number]] = [
        ("num_hits", "Lookups that found a response", counters.hits),
        ("num_misses", "Lookups that found none", counters.misses),
        ("num_lookups", "Lookups", counters.hits + counters.misses),
        ("lookup_duration", "Microseconds of lookups, added up", counters.lookup_ns // _NS_PER_US),
        ("insertion_duration", "Microseconds of insertions, added up", counters.insertion_ns // _NS_PER_US),
    ]
    if isinstance(cache, LocalCache):
        told += [
            ("util", "Part of the cache that is used [0.0 - 1.0]", cache.used / cache.capacity),
            ("num_entries", "Responses in the cache", len(cache)),
            ("num_evictions", "Responses that had to make room for others", counters.evictions),
        ]
    for name, help_text, value in told:
        yield Family(f"nv_cache_{name}", "gauge", f"Response cache: {help_text}", [Sample(value, {})])


def _labelled(repository: Repository) -> list[tuple[Servable, Mapping[str, str]]]:
    """Return all models that are served now, each with its labels: name, version, and its own tags.

    Where repositories tell names apart the repository is a label too.
    """
    return [
        (
            model,
            {
                **{f"_{name}": value for name, value in model.config.message.metric_tags.items()},
                "model": model.name,
                "version": str(model.version),
                **({"namespace": id_.namespace} if id_.namespace else {}),
            },
        )
        for id_, model in repository.identified()
    ]


def latency_families(repository: Repository, quantiles: Sequence[float]) -> Iterator[Family]:
    """Yield how the latencies of all models are spread, as far as that is kept."""
    models = [(model.statistics.latencies, labels) for model, labels in _labelled(repository)]
    yield Family(
        FIRST_RESPONSE,
        "histogram",
        "Milliseconds from request to first response",
        [
            sample
            for latencies, labels in models
            if latencies.first_response is not None
            for sample in _first_response(latencies.first_response, labels)
        ],
    )
    names = {phase: f"nv_inference_{phase}_summary_us" for phase in PHASES}
    names |= {phase: f"nv_{phase}_summary_per_model" for phase in CACHE_PHASES}
    for phase, name in names.items():
        yield Family(
            name,
            "summary",
            f"Microseconds of a request, by quantiles of the last minute: {phase.replace('_', ' ')}",
            [
                sample
                for latencies, labels in models
                if phase in latencies.summaries
                for sample in _summary(latencies.summaries[phase], labels, quantiles)
            ],
        )


def _first_response(histogram: Histogram, labels: Mapping[str, str]) -> Iterator[Sample]:
    return bucketed(labels, histogram.bounds_ms, histogram.counts, histogram.sum_ms)


def _summary(summary: Summary, labels: Mapping[str, str], quantiles: Sequence[float]) -> Iterator[Sample]:
    yield Sample(summary.count, labels, "_count")
    yield Sample(summary.sum // _NS_PER_US, labels, "_sum")
    for quantile, value in zip(quantiles, summary.quantiles(quantiles), strict=True):
        told = value if math.isnan(value) else value // _NS_PER_US
        yield Sample(told, labels, bound=("quantile", number(quantile)))


def sequence_families(repository: Repository) -> Iterator[Family]:
    """Yield what became of the sequences of all models that serve such; Triton tells nothing of them."""
    models = [
        (model.statistics.sequences, labels)
        for model, labels in _labelled(repository)
        if model.statistics.sequences is not None
    ]
    for name, help_text, read in SEQUENCE_GAUGES:
        yield Family(name, "gauge", help_text, [Sample(read(told), labels) for told, labels in models])
    yield Family(
        "deuteron_sequence_ends",
        "counter",
        "Number of sequences that are over, by reason",
        [
            Sample(count, {**labels, "reason": reason})
            for told, labels in models
            for reason, count in told.ends.items()
        ],
    )
    for name, help_text, spread in SEQUENCE_SPREADS:
        samples = [
            sample
            for told, labels in models
            for sample in bucketed(labels, spread(told).bounds, spread(told).counts, spread(told).total)
        ]
        yield Family(name, "histogram", help_text, samples)


def canary_families(rollouts: Rollouts) -> Iterator[Family]:
    """Yield how new versions fare that are tried on a part of the requests; Triton has no such thing."""
    trials = [(trial, {"model": trial.model.name, "version": str(trial.new.version)}) for trial in rollouts]
    shares = [Sample(trial.policy.share, labels) for trial, labels in trials]
    yield Family("deuteron_canary_share", "gauge", "Part of the requests that a new version gets", shares)
    answers = [
        Sample(count, {**labels, "arm": arm, "outcome": outcome})
        for trial, labels in trials
        for arm, counted in (("new", trial.split.new.answers), ("old", trial.split.old.answers))
        for outcome, count in (("good", counted.good), ("error", counted.failed))
    ]
    yield Family(
        "deuteron_canary_answers",
        "gauge",
        "Number of answers of both versions since the trial began",
        answers,
    )
    verdicts = [
        Sample(count, {"model": model.name, "verdict": verdict.value})
        for (model, verdict), count in rollouts.verdicts.items()
    ]
    yield Family(
        "deuteron_canary_verdicts", "counter", "Number of trials that are over, by verdict", verdicts
    )


def on_demand_families(waking: Waking) -> Iterator[Family]:
    """Yield how models come and go that are loaded when they are asked for; Triton has no such thing."""
    for name, kind, help_text, value in (
        ("hits", "counter", "Number of requests that found their model awake", waking.hits),
        ("misses", "counter", "Number of times a model was loaded because it was asked for", waking.misses),
        ("evictions", "counter", "Number of times one was unloaded to make room", waking.evictions),
        ("models", "gauge", "Number of models that are awake", waking.awake),
        ("used_bytes", "gauge", "Bytes that they take, as it was measured", waking.used_bytes),
    ):
        yield Family(f"deuteron_on_demand_{name}", cast("Kind", kind), help_text, [Sample(value, {})])


def model_code_families(registry: MetricRegistry) -> Iterator[Family]:
    """Yield the metrics that model code keeps of its own."""
    for family in registry.families():
        series = family.snapshot()
        kind: Kind = "gauge" if family.kind is MetricKind.GAUGE else "counter"
        samples = [Sample(each.value, dict(each.labels)) for each in series]
        if family.kind is MetricKind.HISTOGRAM:
            kind = "histogram"
            samples = [sample for each in series for sample in _model_histogram(each)]
        yield Family(family.name, kind, family.description, samples)


def _model_histogram(series: Series) -> Iterator[Sample]:
    return bucketed(dict(series.labels), series.bounds, series.counts, series.value)


class Metrics:
    """All metrics of a server, read when they are asked for."""

    def __init__(self, repository: Repository, settings: MetricsSettings, cache: Store | None = None) -> None:
        self._repository = repository
        self._cache = cache
        self._latencies = settings.counter_latencies
        self._quantiles = settings.quantiles
        self._machine = MachineMetrics(settings)

    def text(self) -> bytes:
        """Return all metrics as they are now."""
        return exposition(self._families())

    def _families(self) -> Iterator[Family]:
        yield from model_families(self._repository, latencies=self._latencies)
        if self._cache is not None:
            yield from cache_families(self._cache, self._repository, latencies=self._latencies)
        yield from pinned_memory_families()
        yield from latency_families(self._repository, self._quantiles)
        yield from sequence_families(self._repository)
        yield from canary_families(self._repository.rollouts)
        if self._repository.waking is not None:
            yield from on_demand_families(self._repository.waking)
        yield from self._machine.families()
        yield from model_code_families(MODEL_METRICS)
