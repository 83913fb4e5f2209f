"""Metrics that model code keeps, and what of them the rest of the server sees."""

from collections.abc import Iterator
from typing import Any

import pytest

from deuteron.backends.model_metrics import MODEL_METRICS, MetricKind
from deuteron.backends.python.api.errors import TritonModelException
from deuteron.backends.python.api.metrics import MetricFamily

COUNTER, GAUGE, HISTOGRAM = MetricFamily.COUNTER, MetricFamily.GAUGE, MetricFamily.HISTOGRAM


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Whatever a test made is gone with it."""
    yield
    assert MODEL_METRICS.families() == []


def seen(name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Return what a family stands at, by its labels."""
    (family,) = [each for each in MODEL_METRICS.families() if each.name == name]
    return {series.labels: series.value for series in family.snapshot()}


def test_a_counter_goes_up() -> None:
    family = MetricFamily("requests", "how many", COUNTER)
    metric = family.Metric({"b": "2", "a": "1"})
    metric.increment(2)
    metric.increment(0.5)
    assert metric.value() == 2.5
    assert seen("requests") == {(("a", "1"), ("b", "2")): 2.5}


def test_a_gauge_goes_where_it_is_told() -> None:
    family = MetricFamily("level", "how high", GAUGE)
    metric = family.Metric()
    metric.set(5)
    metric.increment(-7)
    assert metric.value() == -2


def test_a_histogram_counts_into_buckets() -> None:
    family = MetricFamily("latency", "how long", HISTOGRAM)
    metric = family.Metric(buckets=[1.0, 2.0])
    for value in (0.5, 1.0, 1.5, 3.0):
        metric.observe(value)
    (series,) = MODEL_METRICS.families()[0].snapshot()
    assert (series.bounds, series.counts, series.value) == ((1.0, 2.0), [2, 1, 1], 6.0)


def test_the_same_labels_are_the_same_metric() -> None:
    one, two = (MetricFamily("shared", "", COUNTER) for _ in range(2))
    first, second = one.Metric({"a": "1"}), two.Metric({"a": "1"})
    first.increment(1)
    second.increment(1)
    assert first.value() == second.value() == 2
    del first
    assert seen("shared") == {(("a", "1"),): 2}
    del second
    assert seen("shared") == {}
    del one, two


@pytest.mark.parametrize(
    ("kind", "operation", "value", "message"),
    [
        (COUNTER, "set", 1, "set metric value: {kind}_COUNTER does not support Set"),
        (COUNTER, "observe", 1, "observe metric value: {kind}_COUNTER does not support Observe"),
        (GAUGE, "observe", 1, "observe metric value: {kind}_GAUGE does not support Observe"),
        (HISTOGRAM, "set", 1, "set metric value: {kind}_HISTOGRAM does not support Set"),
        (HISTOGRAM, "increment", 1, "increment metric value: {kind}_HISTOGRAM does not support Increment"),
        (HISTOGRAM, "value", None, "get metric value: {kind}_HISTOGRAM does not support Value"),
    ],
)
def test_a_metric_refuses_what_its_kind_cannot_do(
    kind: MetricKind, operation: str, value: float | None, message: str
) -> None:
    family = MetricFamily("m", "", kind)
    metric = family.Metric(buckets=[1.0] if kind is HISTOGRAM else None)
    with pytest.raises(TritonModelException) as caught:
        getattr(metric, operation)(*([] if value is None else [value]))
    assert str(caught.value) == "Failed to " + message.format(kind="TRITONSERVER_METRIC_KIND")
    del caught


def test_a_counter_never_goes_down() -> None:
    family = MetricFamily("m", "", COUNTER)
    metric = family.Metric()
    with pytest.raises(TritonModelException) as caught:
        metric.increment(-1)
    assert str(caught.value) == (
        "Failed to increment metric value: TRITONSERVER_METRIC_KIND_COUNTER can only be incremented "
        "monotonically by non-negative values."
    )
    assert metric.value() == 0
    del caught


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (COUNTER, {"labels": [1]}, "Failed to create metric. Labels must be a dictionary."),
        (HISTOGRAM, {"buckets": (1.0,)}, "Failed to create metric. Buckets must be a list."),
        (HISTOGRAM, {}, "Failed to create metric. Missing required buckets."),
        (GAUGE, {"buckets": [1.0]}, "Failed to create metric. Unexpected buckets found."),
        (
            HISTOGRAM,
            {"buckets": [2.0, 1.0]},
            "Error when creating Metric: Bucket Boundaries must be strictly sorted",
        ),
        (
            COUNTER,
            {"labels": {"a": 1}},
            "Error when creating Metric: names and values of labels must be strings",
        ),
        (COUNTER, {"labels": {"a\n": "1"}}, "Error when creating Metric: Invalid label name"),
        (COUNTER, {"labels": {"__a": "1"}}, "Error when creating Metric: Invalid label name"),
    ],
)
def test_a_metric_that_makes_no_sense_is_refused(
    kind: MetricKind, arguments: dict[str, Any], message: str
) -> None:
    family = MetricFamily("m", "", kind)
    with pytest.raises(TritonModelException, match=message):
        family.Metric(**arguments)


def test_a_name_has_one_kind() -> None:
    family = MetricFamily("m", "", COUNTER)
    with pytest.raises(TritonModelException, match="Family name already exists with different type"):
        MetricFamily("m", "", GAUGE)
    del family
    MetricFamily("m", "", GAUGE)


@pytest.mark.parametrize("name", ["", "1a", "a b", "a\n"])
def test_a_name_has_to_be_one(name: str) -> None:
    with pytest.raises(TritonModelException, match="Error when creating MetricFamily: Invalid metric name"):
        MetricFamily(name, "", COUNTER)


def test_a_kind_has_to_be_one() -> None:
    with pytest.raises(TypeError):
        MetricFamily("m", "", 7)  # type: ignore[arg-type]


def test_metrics_end_with_their_family() -> None:
    family = MetricFamily("m", "", COUNTER)
    metric = family.Metric()
    del family
    assert MODEL_METRICS.families() == []
    with pytest.raises(TritonModelException) as caught:
        metric.increment(1)
    assert str(caught.value).startswith(
        "Failed to increment metric value: Invalid metric operation as the corresponding 'MetricFamily' has "
        "been deleted."
    )
