"""Leases: who needs a version beyond a single request, so that it must not drain yet.

An ensemble chooses its versions when a request begins, and asks some of them much later. Meanwhile such a
version may have been unloaded, or another may have taken its place: nobody finds it any more, but those who
hold a lease may still ask it.
"""

from collections.abc import Callable


class Leases:
    """How many hold a version; its drain begins once it is wanted and nobody does."""

    __slots__ = ("_begin_drain", "_count", "_drain_wanted")

    def __init__(self, begin_drain: Callable[[], None]) -> None:
        self._begin_drain = begin_drain
        self._count = 0
        self._drain_wanted = False

    def take(self) -> None:
        """Hold the version."""
        self._count += 1

    def give_back(self) -> None:
        """Need the version no more."""
        self._count -= 1
        self._reconcile()

    def drain(self) -> None:
        """Let the version drain, now or when the last lease is given back."""
        self._drain_wanted = True
        self._reconcile()

    def _reconcile(self) -> None:
        if self._drain_wanted and not self._count:
            self._begin_drain()
