"""GPUs are told of where there are any; a machine without them is told of without."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from deuteron.backends.nvml import GpuReading, Gpus


class NVMLError(Exception):
    """What pynvml raises."""


def stand_in(**answers: object) -> ModuleType:
    """Make a pynvml with one GPU that answers so; what is not among the answers it does not support."""
    nvml = ModuleType("pynvml")

    def answering(name: str) -> object:
        def answer(*_arguments: object) -> object:
            if name not in answers:
                raise NVMLError(name)
            value = answers[name]
            return value.pop(0) if isinstance(value, list) else value

        return answer

    for name in (
        "nvmlInit",
        "nvmlDeviceGetCount",
        "nvmlDeviceGetHandleByIndex",
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetPowerManagementLimit",
        "nvmlDeviceGetTotalEnergyConsumption",
    ):
        setattr(nvml, name, answering(name))
    vars(nvml)["NVMLError"] = NVMLError
    return nvml


ONE = {
    "nvmlInit": None,
    "nvmlDeviceGetCount": 1,
    "nvmlDeviceGetHandleByIndex": 7,
    "nvmlDeviceGetUUID": "GPU-1",
}


def test_a_gpu_is_read_in_tritons_units(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = stand_in(
        **ONE,
        nvmlDeviceGetUtilizationRates=SimpleNamespace(gpu=25),
        nvmlDeviceGetMemoryInfo=SimpleNamespace(total=1000, used=10),
        nvmlDeviceGetPowerUsage=70_500,
        nvmlDeviceGetPowerManagementLimit=700_000,
        nvmlDeviceGetTotalEnergyConsumption=[5000, 7500],
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    gpus = Gpus.find()
    assert gpus is not None
    assert list(gpus.read()) == [GpuReading("GPU-1", 0.25, 1000, 10, 70.5, 700.0, 2.5)]


def test_what_a_gpu_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", stand_in(**ONE))
    gpus = Gpus.find()
    assert gpus is not None
    assert list(gpus.read()) == [GpuReading("GPU-1")]


@pytest.mark.parametrize("nvml", [None, stand_in(), stand_in(nvmlInit=None, nvmlDeviceGetCount=0)])
def test_without_package_driver_or_gpu_there_are_none(
    monkeypatch: pytest.MonkeyPatch, nvml: ModuleType | None
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert Gpus.find() is None


@pytest.mark.gpu
def test_a_real_gpu_tells_of_itself() -> None:
    gpus = Gpus.find()
    if gpus is None:
        pytest.skip("NVML finds no GPU")
    for reading in gpus.read():
        assert reading.uuid.startswith("GPU-")
        assert reading.memory_total is not None
        assert reading.memory_used is not None
        assert 0 < reading.memory_used <= reading.memory_total
