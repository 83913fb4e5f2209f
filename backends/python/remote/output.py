"""What a worker prints, as lines of the server's log: with its name, and no more than anybody can read.

All is read, so that a model never waits for the log; what goes beyond the bounds is counted and dropped.
"""

import logging
import os
import time
from typing import Final

from .attendant import attendant

READ_SIZE: Final = 64 << 10
LONGEST_LINE: Final = 2000
"""Bytes of a line that are shown."""
BURST: Final = 500
"""Lines that may come at once."""
RATE: Final = 100
"""Lines a second that may come for long."""
REMARK_EVERY: Final = 1.0
"""Seconds between two remarks on dropped lines."""

_LEVELS: Final = {"stdout": logging.INFO, "stderr": logging.WARNING}


class Output:
    """One of the standard streams of a worker, read until it ends."""

    def __init__(self, stream: str, instance: str) -> None:
        """Make the pipe; `sink` is the worker's end of it, and to be closed here when the worker has it."""
        self._stream = stream
        self._instance = instance
        self._source, self.sink = os.pipe2(os.O_CLOEXEC)
        self._begun = b""
        self._skips = False
        """Whether the rest of a line is passed over, since its head was shown already."""
        self._allowance = float(BURST)
        self._counted = time.monotonic()
        self._dropped = 0
        self._remarked = 0.0
        self._attendant = attendant()

    def begin(self) -> None:
        """Read from now on: the worker has its end."""
        os.close(self.sink)
        self._attendant.watch(self._source, self._read)

    def abandon(self) -> None:
        """Close both ends of a stream that no worker got."""
        os.close(self.sink)
        os.close(self._source)

    def _read(self) -> None:
        data = os.read(self._source, READ_SIZE)
        if not data:
            self._attendant.forget(self._source)
            os.close(self._source)
            self._show(self._begun)
            self._remark()
            return
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            if self._skips:
                self._skips = False
            else:
                self._show(line)
        if len(self._begun) > LONGEST_LINE:
            if not self._skips:
                self._show(self._begun)
            self._begun, self._skips = b"", True
        if self._dropped and time.monotonic() - self._remarked > REMARK_EVERY:
            self._remark()

    def _show(self, line: bytes) -> None:
        if not line.strip():
            return
        now = time.monotonic()
        self._allowance = min(BURST, self._allowance + (now - self._counted) * RATE)
        self._counted = now
        if self._allowance < 1:
            self._dropped += 1
            return
        self._allowance -= 1
        text = line[:LONGEST_LINE].decode(errors="backslashreplace")
        self._log(_LEVELS[self._stream], f"{self._instance}: {text}")

    def _remark(self) -> None:
        if self._dropped:
            self._log(logging.WARNING, f"{self._instance}: {self._dropped} lines dropped: too many at once")
            self._dropped = 0
            self._remarked = time.monotonic()

    def _log(self, level: int, text: str) -> None:
        logger = logging.getLogger("deuteron.model")
        if logger.isEnabledFor(level):
            logger.handle(logger.makeRecord(logger.name, level, self._stream, 0, text, (), None))
