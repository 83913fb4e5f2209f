"""The state of the machine: how busy its processors and how full its memory, from `/proc`."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_KIB: Final = 1024
_IDLE_FIELDS: Final = (3, 4)
"""Where in a line of `/proc/stat` the ticks stand in which a processor did nothing, or waited for a disk."""
_FIELDS: Final = 8
"""How many fields of such a line count; the guests after them are counted in the first two already."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The machine at one moment."""

    utilization: float
    """The part of all processors' time that was used since the reading before, from 0 to 1."""
    memory_total: int
    memory_used: int


class Machine:
    """Reads the state of the machine, at most once in an interval."""

    def __init__(self, interval_s: float, proc: Path = Path("/proc")) -> None:
        self._interval_s = interval_s
        self._proc = proc
        self._ticks: tuple[int, int] | None = None
        self._last = Reading(0.0, 0, 0)
        self._read_at = 0.0

    def read(self) -> Reading:
        """Return a reading that is not older than the interval.

        The first one cannot tell yet how busy the processors are. Raises OSError, LookupError or ValueError
        where `/proc` is not what it is on Linux.
        """
        now = time.monotonic()
        if self._ticks is None or now - self._read_at >= self._interval_s:
            busy, total = self._read_ticks()
            used, passed = (0, 0) if self._ticks is None else (busy - self._ticks[0], total - self._ticks[1])
            utilization = min(1.0, max(0.0, used / passed)) if passed > 0 else self._last.utilization
            self._ticks = busy, total
            self._last = Reading(utilization, *self._read_memory())
            self._read_at = now
        return self._last

    def _read_ticks(self) -> tuple[int, int]:
        """Return the ticks in which processors were busy, and all of them."""
        with (self._proc / "stat").open() as lines:
            ticks = [int(field) for field in lines.readline().split()[1 : 1 + _FIELDS]]
        total = sum(ticks)
        return total - sum(ticks[index] for index in _IDLE_FIELDS), total

    def _read_memory(self) -> tuple[int, int]:
        """Return the bytes of memory there are, and those that are not available."""
        sizes: dict[str, int] = {}
        with (self._proc / "meminfo").open() as lines:
            for line in lines:
                name, _, rest = line.partition(":")
                sizes[name] = int(rest.split()[0]) * _KIB
        total = sizes["MemTotal"]
        return total, total - sizes["MemAvailable"]
