"""The access log: one JSON object a line for each request that reached a model, or for every so many.

Lines are gathered for a moment and written on a thread of their own; while the disk stands still they are
dropped rather than kept without end.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TextIO

import orjson
import structlog

log: Final = structlog.stdlib.get_logger(__name__)

GATHERED_FOR_S: Final = 0.1
MOST_WAITING: Final = 10_000
"""Lines that wait for the disk before further ones are dropped."""


class AccessLog:
    """The file that lines are appended to; used on the loop."""

    def __init__(self, path: Path, rate: int) -> None:
        """Open the file; raises OSError."""
        self._file: TextIO = path.open("a", encoding="utf-8")
        self._rate = rate
        self._requests = 0
        self._lines: list[str] = []
        self._dropped = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="access_log")
        self._timer: asyncio.TimerHandle | None = None
        self._is_writing = False

    def wants(self) -> bool:
        """Whether the request that is beginning is one of those to be logged."""
        self._requests += 1
        return self._requests % self._rate == 0

    def write(self, members: Mapping[str, Any]) -> None:
        """Log one request."""
        if len(self._lines) >= MOST_WAITING:
            self._dropped += 1
            return
        self._lines.append(orjson.dumps(members).decode())
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHERED_FOR_S, self._flush)

    def close(self) -> None:
        """Write what is left; blocks until it is written."""
        if self._timer is not None:
            self._timer.cancel()
        self._thread.submit(self._append, self._take()).result()
        self._thread.shutdown()
        self._file.close()

    def _flush(self) -> None:
        self._timer = None
        if self._is_writing:
            self._timer = asyncio.get_running_loop().call_later(GATHERED_FOR_S, self._flush)
            return
        self._is_writing = True
        self._thread.submit(self._append, self._take())

    def _take(self) -> str:
        lines, self._lines = self._lines, []
        if self._dropped:
            lines.append(orjson.dumps({"event": "dropped", "requests": self._dropped}).decode())
            self._dropped = 0
        return "".join(f"{line}\n" for line in lines)

    def _append(self, text: str) -> None:
        """Write lines; on the thread."""
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:
            log.error("access log cannot be written: %s", error)  # noqa: TRY400 - the operator's mistake, not ours
        self._is_writing = False
