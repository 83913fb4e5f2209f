"""Undertakings: what is seen to its end once it was begun, even where whoever asked for it has gone away."""

import asyncio
from collections.abc import Coroutine

from ..proto.errors import Fault, InferError


class Undertakings:
    """All that has been begun and has not ended."""

    __slots__ = ("_closed", "_tasks")

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def see_through(self, undertaking: Coroutine[None, None, None]) -> None:
        """Do something to its end; raises what it raises, and InferError when the house is closing."""
        if self._closed:
            undertaking.close()
            raise InferError(Fault.UNAVAILABLE, "Server not ready")
        await asyncio.shield(self._begin(undertaking))

    def begin(self, undertaking: Coroutine[None, None, None]) -> None:
        """Do something to its end that nobody waits for; nothing is done when the house is closing."""
        if self._closed:
            undertaking.close()
        else:
            self._begin(undertaking)

    def _begin(self, undertaking: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(undertaking)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Break off what goes on, and take nothing on any more."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
