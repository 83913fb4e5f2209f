"""The state of the GPUs of a machine, as NVIDIA's management library tells it.

The library comes with the driver, and `pynvml` with the extra `gpu`. Where either is missing there are no
GPUs to tell of. What a card does not tell, such as the power it takes, is left out of its reading.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Final, Self

_WATTS: Final = 1e-3
_JOULES: Final = 1e-3
"""NVML counts in thousandths of both."""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment; None stands for what it does not tell."""

    uuid: str
    utilization: float | None = None
    """The part of the time in which it was busy, from 0 to 1."""
    memory_total: int | None = None
    memory_used: int | None = None
    power_usage: float | None = None
    """In watts, as the limit."""
    power_limit: float | None = None
    energy: float | None = None
    """What it used since the first reading, in joules."""


class Gpus:
    """All GPUs of the machine."""

    def __init__(self, nvml: ModuleType) -> None:
        """Take NVML, which has been initialised."""
        self._nvml = nvml
        self._handles = [nvml.nvmlDeviceGetHandleByIndex(each) for each in range(nvml.nvmlDeviceGetCount())]
        self._uuids = [str(nvml.nvmlDeviceGetUUID(handle)) for handle in self._handles]
        self._first_energy = [self._ask(nvml.nvmlDeviceGetTotalEnergyConsumption, it) for it in self._handles]

    @classmethod
    def find(cls) -> Self | None:
        """Return the GPUs of this machine, None where there are none, or nothing that tells of them."""
        try:
            nvml = import_module("pynvml")
        except ImportError:
            return None
        try:
            nvml.nvmlInit()
            found = cls(nvml)
        except nvml.NVMLError:
            return None
        return found if found._handles else None

    def read(self) -> Iterator[GpuReading]:
        """Yield a reading of each GPU."""
        nvml = self._nvml
        for handle, uuid, first in zip(self._handles, self._uuids, self._first_energy, strict=True):
            rates = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
            memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
            power = self._ask(nvml.nvmlDeviceGetPowerUsage, handle)
            limit = self._ask(nvml.nvmlDeviceGetPowerManagementLimit, handle)
            energy = self._ask(nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
            yield GpuReading(
                uuid,
                utilization=None if rates is None else rates.gpu / 100,
                memory_total=None if memory is None else memory.total,
                memory_used=None if memory is None else memory.used,
                power_usage=None if power is None else power * _WATTS,
                power_limit=None if limit is None else limit * _WATTS,
                energy=None if energy is None or first is None else (energy - first) * _JOULES,
            )

    def _ask(self, question: Callable[[object], Any], handle: object) -> Any:  # noqa: ANN401 - pynvml is not typed
        """Return what a GPU answers, None where it does not."""
        with suppress(self._nvml.NVMLError):
            return question(handle)
        return None
