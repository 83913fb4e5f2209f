"""Metrics are Triton's, line by line, and cost nothing until somebody asks."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.http import InferInput
from tritonclient.http.aio import InferenceServerClient

from deuteron.actors.cache import LocalCache
from deuteron.actors.latencies import PHASES, LatencyOptions
from deuteron.actors.loading import LoadOptions
from deuteron.actors.repository import Repository
from deuteron.actors.statistics import Execution
from deuteron.backends.catalog import Catalog
from deuteron.backends.model_metrics import MODEL_METRICS, MetricKind, MetricRegistry
from deuteron.backends.nvml import GpuReading
from deuteron.service.doorway import Doorway
from deuteron.service.exposition import Family, Sample, exposition
from deuteron.service.http.front import HttpFront
from deuteron.service.machine import Machine
from deuteron.service.machine_metrics import GPU_METRICS, gpu_families
from deuteron.service.metrics import (
    COUNTS,
    GAUGES,
    LATENCIES,
    Metrics,
    model_code_families,
)
from deuteron.service.settings import MetricsSettings

DOCUMENT = (Path(__file__).parents[2] / "docs" / "observing.md").read_text()

WATCHED = """
backend: "identity"
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] }]
metric_tags { key: "team" value: "vision" }
model_metrics { metric_control: [{
  metric_identifier: { family: "nv_inference_first_response_histogram_ms" }
  histogram_options: { buckets: [ 0.5, 60000 ] }
}] }
"""


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def values(text: str) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and its sorted label values, as Prometheus itself reads them.

    The parser takes counters to end in `_total`; Triton's do not.
    """
    return {
        (
            sample.name.removesuffix("_total"),
            *(value for _, value in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_what_waits_on_the_lane_of_a_lone_instance_is_pending_too(
    doorway: Doorway, http: HttpFront, until: Callable[[Callable[[], object]], Awaitable[None]]
) -> None:
    slow = doorway.repository.find("slow")
    tensor = InferInput("INPUT0", [4], "FP32")
    tensor.set_data_from_numpy(np.zeros(4, np.float32))
    async with InferenceServerClient(http.address) as client:
        asked = [asyncio.create_task(client.infer("slow", [tensor])) for _ in range(6)]
        await until(lambda: slow.pending >= 3 and not slow.statistics.pending)
        await asyncio.gather(*asked)
    assert slow.pending == 0


async def test_metrics_tell_what_models_did(
    http: HttpFront, metrics: HttpFront, session: aiohttp.ClientSession
) -> None:
    tensor = InferInput("INPUT0", [3, 4], "FP32")
    tensor.set_data_from_numpy(np.zeros((3, 4), np.float32))
    async with InferenceServerClient(http.address) as client:
        for _ in range(2):
            await client.infer("simple", [tensor])
    async with session.get(f"http://{metrics.address}/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        text = await response.text()
    lines = text.splitlines()
    assert 'nv_inference_request_success{model="simple",version="1"} 2' in lines
    assert 'nv_inference_count{model="simple",version="1"} 6' in lines
    assert 'nv_inference_exec_count{model="simple",version="1"} 2' in lines
    assert 'nv_inference_request_failure{model="simple",reason="BACKEND",version="1"} 0' in lines
    assert 'nv_inference_request_success{model="slow",version="1"} 0' in lines
    found = values(text)
    assert found["nv_inference_request_duration_us", "simple", "1"] > 0
    assert found["nv_model_load_duration_secs", "simple", "1"] > 0
    for reason in ("BACKEND", "CANCELED", "OTHER", "REJECTED"):
        assert found["nv_inference_request_failure", "large", reason, "1"] == 0


async def test_all_metrics_of_a_model_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "watched" / "1").mkdir(parents=True)
    (tmp_path / "watched" / "config.pbtxt").write_text(WATCHED)
    options = LoadOptions(latencies=LatencyOptions(summaries=True))
    async with Repository([tmp_path], Catalog(), options) as repository:
        await repository.load_at_start(None)
        statistics = repository.find("watched").statistics
        statistics.load_seconds = 1.5
        execution = Execution(0, 1_000, 2_000_000, 3_000)
        statistics.executed(1, execution)
        statistics.succeeded(4_000, 2_100_000, 1, execution)
        statistics.failed(70_000_000_000, "BACKEND")
        settings = MetricsSettings(cpu=False, quantiles=(0.5, 0.999))
        lines = Metrics(repository, settings).text().decode().splitlines()
    me = '_team="vision",model="watched",version="1"'
    expected = [
        *(
            'nv_inference_request_failure{_team="vision",model="watched",'
            f'reason="{reason}",version="1"}} {count}'
            for reason, count in (("REJECTED", 0), ("CANCELED", 0), ("BACKEND", 1), ("OTHER", 0))
        ),
        f"nv_inference_request_success{{{me}}} 1",
        f"nv_inference_count{{{me}}} 1",
        f"nv_inference_exec_count{{{me}}} 1",
        f"nv_inference_request_duration_us{{{me}}} 2100",
        f"nv_inference_queue_duration_us{{{me}}} 4",
        f"nv_inference_compute_input_duration_us{{{me}}} 1",
        f"nv_inference_compute_infer_duration_us{{{me}}} 2000",
        f"nv_inference_compute_output_duration_us{{{me}}} 3",
        f"nv_inference_pending_request_count{{{me}}} 0",
        f"nv_model_load_duration_secs{{{me}}} 1.5",
        "nv_pinned_memory_pool_total_bytes 0",
        "nv_pinned_memory_pool_used_bytes 0",
        f"nv_inference_first_response_histogram_ms_count{{{me}}} 2",
        f"nv_inference_first_response_histogram_ms_sum{{{me}}} 70002",
        f'nv_inference_first_response_histogram_ms_bucket{{{me},le="0.5"}} 0',
        f'nv_inference_first_response_histogram_ms_bucket{{{me},le="60000"}} 1',
        f'nv_inference_first_response_histogram_ms_bucket{{{me},le="+Inf"}} 2',
        *(
            line
            for phase, us in zip(PHASES, (2100, 4, 1, 2000, 3), strict=True)
            for line in (
                f"nv_inference_{phase}_summary_us_count{{{me}}} 1",
                f"nv_inference_{phase}_summary_us_sum{{{me}}} {us}",
                f'nv_inference_{phase}_summary_us{{{me},quantile="0.5"}} {us}',
                f'nv_inference_{phase}_summary_us{{{me},quantile="0.999"}} {us}',
            )
        ),
    ]
    own = [line for line in lines if not line.startswith("#")]
    assert own[: len(expected)] == expected
    for phase in PHASES:
        assert f"# TYPE nv_inference_{phase}_summary_us summary" in lines
    assert "# TYPE nv_inference_first_response_histogram_ms histogram" in lines


async def test_a_summary_without_recent_requests_has_no_quantiles(tmp_path: Path) -> None:
    (tmp_path / "watched" / "1").mkdir(parents=True)
    (tmp_path / "watched" / "config.pbtxt").write_text(WATCHED)
    options = LoadOptions(latencies=LatencyOptions(histograms=False, summaries=True))
    async with Repository([tmp_path], Catalog(), options) as repository:
        await repository.load_at_start(None)
        text = Metrics(repository, MetricsSettings(cpu=False)).text().decode()
    me = '_team="vision",model="watched",version="1"'
    assert f'nv_inference_queue_summary_us{{{me},quantile="0.5"}} NaN\n' in text
    assert "histogram" not in text


async def test_every_family_has_its_published_type(doorway: Doorway) -> None:
    text = Metrics(doorway.repository, MetricsSettings()).text().decode()
    for metric in (*COUNTS, *LATENCIES, *GAUGES):
        assert f"# TYPE {metric.name} {metric.kind}\n" in text
    assert "# TYPE nv_inference_request_failure counter\n" in text
    assert "# TYPE nv_cpu_utilization gauge\n" in text


async def test_what_is_switched_off_is_left_out(doorway: Doorway) -> None:
    text = Metrics(doorway.repository, MetricsSettings(cpu=False, counter_latencies=False)).text().decode()
    assert "_duration_us" not in text
    assert "nv_cpu" not in text
    assert "nv_inference_count" in text


async def test_only_one_path_and_one_method_mean_something(
    metrics: HttpFront, session: aiohttp.ClientSession
) -> None:
    base = f"http://{metrics.address}"
    async with session.get(f"{base}/metrics?x=1") as response:
        assert await response.text()
    async with session.get(f"{base}/other") as response:
        assert (response.status, await response.text()) == (200, "")
    async with session.post(f"{base}/metrics") as response:
        assert (response.status, await response.json()) == (405, {"error": "Method Not Allowed"})


def test_the_spelling_is_tritons() -> None:
    text = exposition(
        [
            Family("a", "counter", "back\\slash\nline", [Sample(2.0, {"z": 'q"\\\n', "b": "1"})]),
            Family("b", "gauge", "b", [Sample(0.25, {}), Sample(float("inf"), {}), Sample(float("nan"), {})]),
            Family("none", "gauge", "without samples", []),
            Family("a", "gauge", "a second one", [Sample(1, {})]),
        ]
    )
    assert text.decode().splitlines() == [
        r"# HELP a back\\slash\nline",
        "# TYPE a counter",
        r'a{b="1",z="q\"\\\n"} 2',
        "# HELP b b",
        "# TYPE b gauge",
        "b 0.25",
        "b +Inf",
        "b NaN",
    ]


def test_metrics_of_model_code_are_told_too() -> None:
    registry = MetricRegistry()
    requests = registry.hold("requests", "Requests", MetricKind.COUNTER)
    requests.increment(requests.hold((("model", "m"),)), 3)
    latency = registry.hold("latency", "Latency", MetricKind.HISTOGRAM)
    series = latency.hold((("model", "m"),), (0.1, 1.0))
    for value in (0.05, 0.5, 0.7, 5):
        latency.observe(series, value)
    assert exposition(model_code_families(registry)).decode().splitlines() == [
        "# HELP requests Requests",
        "# TYPE requests counter",
        'requests{model="m"} 3',
        "# HELP latency Latency",
        "# TYPE latency histogram",
        'latency_count{model="m"} 4',
        'latency_sum{model="m"} 6.25',
        'latency_bucket{model="m",le="0.1"} 1',
        'latency_bucket{model="m",le="1"} 3',
        'latency_bucket{model="m",le="+Inf"} 4',
    ]


async def test_the_door_tells_the_metrics_of_all_model_code(doorway: Doorway) -> None:
    family = MODEL_METRICS.hold("made_by_a_model", "x", MetricKind.GAUGE)
    series = family.hold(())
    family.set(series, 7)
    assert b"\nmade_by_a_model 7\n" in Metrics(doorway.repository, MetricsSettings()).text()
    family.release(series)
    MODEL_METRICS.release(family)


# --- the machine ---


@pytest.fixture
def proc(tmp_path: Path) -> Callable[[int, int], Path]:
    """Write a `/proc` in which processors were busy and idle for so many ticks."""

    def write(busy: int, idle: int) -> Path:
        (tmp_path / "stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3\n")
        (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemFree: 1 kB\nMemAvailable:  30 kB\nHuge: 0\n")
        return tmp_path

    return write


def test_the_machine_is_as_busy_as_it_was_since_the_last_reading(proc: Callable[[int, int], Path]) -> None:
    machine = Machine(0, proc(100, 100))
    assert machine.read().utilization == 0
    proc(130, 110)
    reading = machine.read()
    assert reading.utilization == 0.75
    assert (reading.memory_total, reading.memory_used) == (100 * 1024, 70 * 1024)
    assert machine.read().utilization == 0.75  # no tick has passed


def test_a_reading_holds_for_the_interval(proc: Callable[[int, int], Path]) -> None:
    machine = Machine(3600, proc(100, 100))
    machine.read()
    proc(200, 100)
    assert machine.read().utilization == 0


async def test_a_machine_that_cannot_be_read_costs_only_its_own_metrics(
    doorway: Doorway, proc: Callable[[int, int], Path], caplog: pytest.LogCaptureFixture
) -> None:
    door = Metrics(doorway.repository, MetricsSettings(interval_ms=0))
    path = proc(1, 1)
    door._machine._machine = Machine(0, path)
    (path / "stat").write_text("")
    text = door.text()
    assert b"nv_cpu" not in text
    assert b"nv_inference_count" in text


async def test_the_document_names_every_metric_there_is(tmp_path: Path) -> None:
    (tmp_path / "watched" / "1").mkdir(parents=True)
    (tmp_path / "watched" / "config.pbtxt").write_text(WATCHED)
    (tmp_path / "cached" / "1").mkdir(parents=True)
    (tmp_path / "cached" / "config.pbtxt").write_text(WATCHED + "response_cache { enable: true }")
    cache = LocalCache(1 << 20)
    options = LoadOptions(latencies=LatencyOptions(summaries=True), cache=cache)
    async with Repository([tmp_path], Catalog(), options) as repository:
        await repository.load_at_start(None)
        text = Metrics(repository, MetricsSettings(), cache).text().decode()
    told = set(re.findall(r"^# TYPE (nv_\w+) ", text, re.MULTILINE))
    assert set(re.findall(r"`(nv_\w+)`", DOCUMENT)) == told | {name for name, *_ in GPU_METRICS}


def test_gpus_are_told_by_their_uuid_as_far_as_they_tell() -> None:
    readings = [GpuReading("GPU-1", 0.25, 1000, 10, 70.5, 700.0, 2.5), GpuReading("GPU-2", memory_total=5)]
    text = exposition(gpu_families(readings)).decode()
    assert 'nv_gpu_utilization{gpu_uuid="GPU-1"} 0.25\n' in text
    assert 'nv_gpu_power_limit{gpu_uuid="GPU-1"} 700\n' in text
    assert '# TYPE nv_energy_consumption counter\nnv_energy_consumption{gpu_uuid="GPU-1"} 2.5\n' in text
    assert 'nv_gpu_memory_total_bytes{gpu_uuid="GPU-2"} 5\n' in text
    assert 'nv_gpu_utilization{gpu_uuid="GPU-2"}' not in text
    assert {name for name, *_ in GPU_METRICS} <= set(re.findall(r"nv_\w+", DOCUMENT))
