"""An alarm that is set and cleared by a system call each, so often that no thread may be woken for it."""

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Final

CLOCK_MONOTONIC: Final = 1
TFD_CLOEXEC: Final = os.O_CLOEXEC

_libc = ctypes.CDLL(None)


class _Setting(ctypes.Structure):
    """`struct itimerspec`: the interval between alarms, none, and the time to the first."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


_CLEARED: Final = ctypes.byref(_Setting())


class Alarm:
    """Calls back, on a thread of its own that sleeps until then, unless it is cleared before."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._descriptor = -1
        self._is_set = False

    def set(self, seconds: float) -> None:
        """Ring in so many seconds, less than one; nothing if it is set already."""
        if self._is_set:
            return
        if self._descriptor < 0:
            self._descriptor = _libc.timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC)
            threading.Thread(target=self._wait, name="deuteron-alarm", daemon=True).start()
        self._is_set = True
        setting = _Setting(0, 0, 0, int(seconds * 1_000_000_000))
        _libc.timerfd_settime(self._descriptor, 0, ctypes.byref(setting), None)

    def clear(self) -> None:
        """Do not ring."""
        if self._is_set:
            self._is_set = False
            _libc.timerfd_settime(self._descriptor, 0, _CLEARED, None)

    def _wait(self) -> None:
        while True:
            os.read(self._descriptor, 8)
            self._is_set = False
            self._ring()
