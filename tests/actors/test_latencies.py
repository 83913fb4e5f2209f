"""Histograms count for ever, summaries tell of the last minute, and both cost next to nothing."""

import math

import pytest

from deuteron.actors.clock import MILLISECOND, SECOND
from deuteron.actors.latencies import (
    MOST_KEPT,
    PHASES,
    WINDOW,
    Histogram,
    LatencyOptions,
    Summary,
    latencies_of,
)
from deuteron.actors.statistics import MOST_RESPONSES, Execution, Statistics
from deuteron.proto.config import ModelConfig, read_config, validated


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.moment = 1000 * SECOND

    def __call__(self) -> int:
        return self.moment


def config(buckets: str = "") -> ModelConfig:
    """Return a model with these buckets of the histogram of first responses."""
    chosen = (
        "model_metrics { metric_control: [{ "
        'metric_identifier: { family: "nv_inference_first_response_histogram_ms" } '
        f"histogram_options: {{ buckets: [ {buckets} ] }} }}] }}"
    )
    text = f"""
        name: "m" backend: "identity" {chosen if buckets else ""}
        input [{{ name: "I" data_type: TYPE_FP32 dims: [ 1 ] }}]
        output [{{ name: "O" data_type: TYPE_FP32 dims: [ 1 ] }}]
    """
    return validated(read_config(text.encode(), "config.pbtxt", "m", None))


def test_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((10, 20))
    for elapsed_ms in (0, 10.9, 11, 20, 21, 1000):
        histogram.observe(int(elapsed_ms * MILLISECOND))
    assert histogram.counts == [2, 2, 2]
    assert histogram.sum_ms == 1062


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [("", (100, 500, 2000, 5000)), ("1, 2.5", (1, 2.5)), ("4, 1, 4, inf", (1, 4))],
)
def test_a_configuration_chooses_the_buckets(buckets: str, expected: tuple[float, ...]) -> None:
    histogram = latencies_of(config(buckets), LatencyOptions()).first_response
    assert histogram is not None
    assert tuple(histogram.bounds_ms) == expected


def test_a_quantile_is_the_observation_at_its_rank() -> None:
    clock = Clock()
    summary = Summary(clock)
    for elapsed in range(1, 101):
        summary.observe(clock(), elapsed)
    assert summary.quantiles([0, 0.5, 0.9, 0.99, 0.999, 1]) == [1, 50, 90, 99, 100, 100]
    assert (summary.count, summary.sum) == (100, 5050)


def test_a_summary_forgets_after_a_minute_and_goes_on_counting() -> None:
    clock = Clock()
    summary = Summary(clock)
    summary.observe(clock(), 1)
    clock.moment += WINDOW
    assert summary.quantiles([0.5]) == [1]
    summary.observe(clock(), 9)
    clock.moment += 1
    assert summary.quantiles([0.5]) == [9]
    clock.moment += WINDOW
    assert math.isnan(summary.quantiles([0.5])[0])
    assert (summary.count, summary.sum) == (2, 10)


def test_a_summary_has_a_bound() -> None:
    clock = Clock()
    summary = Summary(clock)
    for elapsed in range(2 * MOST_KEPT):
        summary.observe(clock(), elapsed)
    assert summary.quantiles([0]) == [MOST_KEPT]


def test_nothing_is_kept_that_nobody_wants() -> None:
    latencies = latencies_of(config(), LatencyOptions(histograms=False))
    assert latencies.first_response is None
    assert not latencies.summaries


def served(statistics: Statistics) -> None:
    """Have a request served in 10 + 20 + 30 after 5 in the queue, 70 in all."""
    statistics.succeeded(5, 70, 1, Execution(0, 10, 20, 30))


def test_a_request_is_observed_once_whether_it_was_served_or_failed() -> None:
    statistics = Statistics(latencies=latencies_of(config(), LatencyOptions(summaries=True)))
    served(statistics)
    statistics.failed(1000 * MILLISECOND, "BACKEND")
    histogram = statistics.latencies.first_response
    assert histogram is not None
    assert histogram.counts == [1, 0, 1, 0, 0]
    summaries = statistics.latencies.summaries
    assert {name: summary.sum for name, summary in summaries.items()} == dict(
        zip(PHASES, (70, 5, 10, 20, 30), strict=True)
    )


def test_the_first_response_of_a_stream_is_observed_and_not_its_end() -> None:
    statistics = Statistics(streaming=True, latencies=latencies_of(config(), LatencyOptions()))
    statistics.first_responded(7 * MILLISECOND)
    served(statistics)
    histogram = statistics.latencies.first_response
    assert histogram is not None
    assert (sum(histogram.counts), histogram.sum_ms) == (1, 7)


ZERO = {"count": 0, "ns": 0}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "success",
            {"success": (1, 10), "compute_infer": (1, 7), "compute_output": (1, 3)},
        ),
        ("fail", {"fail": (1, 10), "compute_infer": (1, 7), "compute_output": (1, 3)}),
        ("empty_response", {"empty_response": (1, 10), "compute_infer": (1, 7)}),
        ("cancel", {"cancel": (1, 10)}),
    ],
)
def test_a_response_is_counted_by_what_became_of_it(kind: str, expected: dict[str, tuple[int, int]]) -> None:
    statistics = Statistics(streaming=True)
    statistics.responded(3, kind, began=100, computed=107, sent=110)
    told = statistics.as_dict()["response_stats"]
    assert list(told) == ["3"]
    found = {name: (each["count"], each["ns"]) for name, each in told["3"].items() if each != ZERO}
    assert found == expected
    assert set(told["3"]) == {
        "compute_infer",
        "compute_output",
        "success",
        "fail",
        "empty_response",
        "cancel",
    }


def test_a_model_that_never_ends_fills_no_memory() -> None:
    statistics = Statistics(streaming=True)
    for index in range(MOST_RESPONSES + 10):
        statistics.responded(index, "success", 0, 0, 0)
    assert len(statistics.responses) == MOST_RESPONSES
