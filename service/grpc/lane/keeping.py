"""How long a connection is kept: probes of clients that are silent, and an age at which it is replaced."""

import asyncio
import random
from collections.abc import Callable
from typing import Final

from ...http2.connection import Connection
from ...http2.phases import ConnectionPhase
from ...settings import KeepaliveSettings
from .heads import Head

_PROBE: Final = b"deuteron"
_SPREAD: Final = 0.1
"""By how much of itself an age is made longer or shorter, so that not all clients come back at once."""
_WARNING_MS: Final = 2000.0
"""How long a client has to hear that the connection is about to end."""
_MS: Final = 1000.0


class Keeper:
    """The clock of one connection."""

    def __init__(
        self,
        connection: Connection[Head],
        settings: KeepaliveSettings,
        flush: Callable[[], None],
        abort: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._flush = flush
        self._abort = abort
        self._loop = asyncio.get_running_loop()
        self._last_heard = self._loop.time()
        self._pongs = 0
        self._probes = 0
        """Probes since data was sent."""
        self._sent = 0
        self._parting = False
        """Whether the client was told that the connection is about to end."""
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}
        if settings.time_ms > 0:
            self._later(settings.time_ms, self._look)
        age = settings.max_connection_age_ms
        if age > 0:
            self._later(age * random.uniform(1 - _SPREAD, 1 + _SPREAD), self._grow_old)  # noqa: S311 - no secret

    def heard(self) -> None:
        """Hear that the client is there."""
        self._last_heard = self._loop.time()
        if self._parting and self._connection.pongs != self._pongs:
            self._leave()

    def stop(self) -> None:
        """Look after this connection no more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _later(self, delay_ms: float, act: Callable[[], None]) -> None:
        self._timers[act] = self._loop.call_later(delay_ms / _MS, act)

    def _look(self) -> None:
        """Probe a client that has been silent for long enough, or look again when it may have been."""
        settings = self._settings
        silent_ms = (self._loop.time() - self._last_heard) * _MS
        if silent_ms < settings.time_ms:
            self._later(settings.time_ms - silent_ms, self._look)
            return
        if self._may_probe():
            self._pongs = self._connection.pongs
            self._probes += 1
            self._connection.probe(_PROBE)
            self._flush()
            self._later(settings.timeout_ms, self._check_answer)
        else:
            self._later(settings.time_ms, self._look)

    def _may_probe(self) -> bool:
        settings = self._settings
        if self._connection.phase not in (ConnectionPhase.OPEN, ConnectionPhase.LEAVING):
            return False
        sent = self._connection.outbox.sent
        if sent != self._sent:
            self._sent = sent
            self._probes = 0
        if not self._connection.streams:
            return settings.permit_without_calls
        return not settings.max_pings_without_data or self._probes < settings.max_pings_without_data

    def _check_answer(self) -> None:
        """Hang up on a client that said nothing at all since it was probed."""
        silent_ms = (self._loop.time() - self._last_heard) * _MS
        if self._connection.pongs == self._pongs and silent_ms >= self._settings.timeout_ms:
            self._abort()
        else:
            self._later(max(1.0, self._settings.time_ms - silent_ms), self._look)

    def _grow_old(self) -> None:
        """Say that the connection is about to end, and end it when the client has heard that, or has not."""
        self._pongs = self._connection.pongs
        self._parting = True
        self._connection.warn()
        self._connection.probe(_PROBE)
        self._flush()
        self._later(_WARNING_MS, self._leave)

    def _leave(self) -> None:
        if not self._parting:
            return
        self._parting = False
        self._connection.leave()
        self._flush()
        if self._settings.max_connection_age_grace_ms > 0:
            self._later(self._settings.max_connection_age_grace_ms, self._abort)
