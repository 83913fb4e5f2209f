"""An event loop on a thread of its own, for programs that have none."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from concurrent.futures import Future
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


class LoopThread:
    """A running loop; every method is for other threads."""

    def __init__(self, name: str) -> None:
        """Start the loop."""
        self._loop = uvloop.new_event_loop()
        # A daemon: a server that nobody stopped must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine on the loop; return and raise what it does, or TimeoutError.

        Whoever stops waiting cancels it.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("this would wait for the very thread it is called on")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine beside the caller; to cancel the future is to cancel it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def each(
        self, generator: AsyncGenerator[T, None], timeout_s: float | None = None
    ) -> Generator[T, None, None]:
        """Yield what an asynchronous generator yields; raises TimeoutError where the next takes too long.

        To close this generator is to close that one.
        """
        try:
            while True:
                try:
                    yield self.call(_next_of(generator), timeout_s)
                except StopAsyncIteration:
                    return
        finally:
            self.call(generator.aclose())

    def close(self) -> None:
        """End what still runs on the loop, and the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()


async def _next_of(generator: AsyncGenerator[T, None]) -> T:
    return await anext(generator)
