"""A future of the event loop that model code runs on, kept from a thread of the house.

The loop is the model's own, whichever it made or was given; it has nothing to do with the one that serves
requests.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
Awaited = asyncio.Future[T]


class Promise(Generic[T]):
    """A value that comes later; `future` belongs to the loop of whoever made the promise."""

    __slots__ = ("_loop", "future", "withdraw")

    withdraw: Callable[[], None]
    """What to do when nobody wants the value any more."""

    def __init__(self) -> None:
        """Make the promise to the running coroutine; raises RuntimeError where none runs."""
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._loop.create_future()
        self.future.add_done_callback(self._settled)

    def keep(self, value: T) -> None:
        """Hand the value over; from any thread. A loop that has ended does not want it any more."""
        try:
            self._loop.call_soon_threadsafe(self._hand_over, value)
        except RuntimeError:
            self.withdraw()

    def _hand_over(self, value: T) -> None:
        if not self.future.done():
            self.future.set_result(value)

    def _settled(self, future: asyncio.Future[T]) -> None:
        if future.cancelled():
            self.withdraw()
