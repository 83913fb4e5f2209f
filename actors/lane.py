"""A lane: one thread that does the blocking work of one instance, in order.

The loop gives a lane errands; the lane gives the loop reports. Both ways are queues, and the loop is woken
once for all reports that wait, so a batch costs two hops between threads, whatever the number of its
requests.

Threads other than the lane's own may report too: model code that answers from a thread of its own does.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

Errand = Callable[[], None]


class LaneClosedError(Exception):
    """The lane ended before it came to this errand."""


class Lane:
    """One thread; made, used and closed by the loop that owns it."""

    __slots__ = ("_closed", "_errands", "_loop", "_reports", "_thread", "_waking")

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._errands: SimpleQueue[Errand | None] = SimpleQueue()
        self._reports: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._waking = False
        self._closed = False
        # A daemon, because model code that never returns must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def do(self, errand: Errand) -> None:
        """Have an errand done after all those given before; it must not raise."""
        self._errands.put(errand)

    def call(self, function: Callable[..., T], *arguments: object) -> "asyncio.Future[T]":
        """Have a function called and await what it returns or raises."""
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closed:
            future.set_exception(LaneClosedError())
            return future

        def errand() -> None:
            try:
                result = function(*arguments)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to whoever waits
                self.report(_fail, future, error)
            else:
                self.report(_resolve, future, result)

        self._errands.put(errand)
        return future

    def report(self, receive: Callable[..., None], *arguments: object) -> None:
        """Have a callback called on the loop; from any thread, in the order of reporting."""
        self._reports.append((receive, arguments))
        if not self._waking:
            self._waking = True
            try:
                self._loop.call_soon_threadsafe(self._receive)
            except RuntimeError:  # the loop is closed: the process is ending and nobody listens
                self._reports.clear()

    def close(self) -> None:
        """Let the thread end after the errands it has; does not wait for it."""
        self._closed = True
        self._errands.put(None)

    def _run(self) -> None:
        take = self._errands.get
        while (errand := take()) is not None:
            errand()
            del errand  # while the lane waits for the next one, it need not hold a batch

    def _receive(self) -> None:
        # Lowered before reading: a report that comes while we read is read now or wakes the loop anew, never
        # lost.
        self._waking = False
        reports = self._reports
        while reports:
            receive, arguments = reports.popleft()
            receive(*arguments)


def _resolve(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
