"""The event loop for models whose `execute` is a coroutine: the model's own, on a thread of its own.

It is made when the first coroutine comes, since most models never need one. It has nothing to do with the
loop that serves requests; what runs here may block it as it likes.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Final

Execution = Coroutine[Any, Any, object]
Outcome = tuple[object, BaseException | None]
"""What a coroutine returned, and what it raised."""

CLOSE_SECONDS: Final = 5.0
"""How long closing waits for a model that does not let its coroutines end."""


class Coroutines:
    """Runs the coroutines of one model instance."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Execution) -> object:
        """Run a coroutine to its end; returns and raises what it does."""
        returned, error = self._submit(coroutine).result()
        if error is not None:
            raise error
        return returned

    def start(
        self, coroutine: Execution, done: Callable[[object, BaseException | None], None]
    ) -> Callable[[], object]:
        """Run a coroutine beside the caller; `done` is told, on its thread, what it returned or raised.

        What is returned cancels it, from any thread; then `done` is told so there.
        """
        future = self._submit(coroutine)
        future.add_done_callback(lambda ended: done(*_result(ended)))
        return future.cancel

    def close(self) -> None:
        """Cancel what still runs, and end the thread."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).add_done_callback(
            lambda _: loop.call_soon_threadsafe(loop.stop)
        )
        thread.join(CLOSE_SECONDS)
        if not thread.is_alive():
            loop.close()
        self._loop = None

    def _submit(self, coroutine: Execution) -> "Future[Outcome]":
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            # A daemon, because a coroutine that never yields must not keep the process from ending.
            self._thread = threading.Thread(
                target=self._loop.run_forever, name=f"{self._name}-loop", daemon=True
            )
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(_outcome(coroutine), self._loop)


def in_coroutine() -> bool:
    """Tell whether an event loop runs on this thread, so that to wait here would stop all it runs."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _result(future: "Future[Outcome]") -> Outcome:
    return (None, CancelledError()) if future.cancelled() else future.result()


async def _outcome(coroutine: Execution) -> Outcome:
    try:
        return await coroutine, None
    except BaseException as error:  # noqa: BLE001 - SystemExit, if it got through, would end the loop
        return None, error


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
