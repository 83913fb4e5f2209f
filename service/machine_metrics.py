"""Metrics of the machine: its processors, its memory, its GPUs."""

import time
from collections.abc import Iterator, Sequence
from typing import Final

import structlog

from ..backends.nvml import GpuReading, Gpus
from .exposition import Family, Kind, Sample
from .machine import Machine, Reading
from .settings import MetricsSettings

log: Final = structlog.stdlib.get_logger(__name__)

GPU_METRICS: Final[Sequence[tuple[str, Kind, str, str]]] = (
    ("nv_gpu_utilization", "gauge", "Part of the time in which the GPU was busy [0.0 - 1.0]", "utilization"),
    ("nv_gpu_memory_total_bytes", "gauge", "Bytes of memory of the GPU", "memory_total"),
    ("nv_gpu_memory_used_bytes", "gauge", "Bytes of memory of the GPU that are used", "memory_used"),
    ("nv_gpu_power_usage", "gauge", "Watts that the GPU uses", "power_usage"),
    ("nv_gpu_power_limit", "gauge", "Watts that the GPU may use", "power_limit"),
    ("nv_energy_consumption", "counter", "Joules that the GPU used since the server started", "energy"),
)
"""Name, kind and help of each metric of a GPU, and the field of its reading."""


def pinned_memory_families() -> Iterator[Family]:
    """Yield the metrics of the pool of pinned memory: there is none, as on any machine without a GPU."""
    for part in ("total", "used"):
        help_text = f"Bytes of the pool of pinned memory, {part}"
        yield Family(f"nv_pinned_memory_pool_{part}_bytes", "gauge", help_text, [Sample(0, {})])


def machine_families(reading: Reading) -> Iterator[Family]:
    """Yield the metrics of the machine."""
    for name, help_text, value in (
        ("nv_cpu_utilization", "Part of the processors' time that is used [0.0 - 1.0]", reading.utilization),
        ("nv_cpu_memory_total_bytes", "Bytes of memory of the machine", reading.memory_total),
        ("nv_cpu_memory_used_bytes", "Bytes of memory that are not available", reading.memory_used),
    ):
        yield Family(name, "gauge", help_text, [Sample(value, {})])


def gpu_families(readings: Sequence[GpuReading]) -> Iterator[Family]:
    """Yield the metrics of GPUs, each with what they tell."""
    for name, kind, help_text, field in GPU_METRICS:
        told = [(reading.uuid, getattr(reading, field)) for reading in readings]
        samples = [Sample(value, {"gpu_uuid": uuid}) for uuid, value in told if value is not None]
        yield Family(name, kind, help_text, samples)


class MachineMetrics:
    """The machine as its metrics tell it, each part as far as it is wanted and there."""

    def __init__(self, settings: MetricsSettings) -> None:
        self._machine = Machine(settings.interval_ms / 1000) if settings.cpu else None
        self._gpus = Gpus.find() if settings.gpu else None
        self._interval_s = settings.interval_ms / 1000
        self._readings: Sequence[GpuReading] = ()
        self._read_at = -self._interval_s

    def families(self) -> Iterator[Family]:
        """Yield all metrics as they are now, or were within the interval."""
        if self._machine is not None:
            try:
                yield from machine_families(self._machine.read())
            except (OSError, ValueError, LookupError) as error:
                log.warning("the state of the machine could not be read", reason=str(error))
        if self._gpus is not None:
            if time.monotonic() - self._read_at >= self._interval_s:
                self._readings = tuple(self._gpus.read())
                self._read_at = time.monotonic()
            yield from gpu_families(self._readings)
