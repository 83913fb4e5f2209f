"""The response cache in Redis, which servers share; it is never in the way of a request.

Requests leave what they look for in a queue, and so do responses that are to be kept. A few connections take
from the first, many keys at a time, and one from the second. Whatever goes wrong, a lookup is a miss and an
insertion is forgotten: Redis is slow, away, full, or holds something that no server of ours has written.
After a failure it is left alone for a while: an outage costs few requests a wait, and those a short one.

What Redis holds is read up to a bound only, and believed only as far as `proto/stored_outputs` can check it.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ResponseError

from ..actors.cache import CacheCounters, Key, Receive
from ..actors.clock import MILLISECOND, SECOND, Clock, Instant, now
from ..proto.errors import Fault, InferError
from ..proto.stored_outputs import StoredOutputs, decode, encode
from .settings import RedisCacheSettings

LARGEST: Final = 16 << 20
"""Bytes that one response may have here."""
PREFIX: Final = b"deuteron:response:"
TIMEOUT_MS: Final = 250
"""How long to connect, and how long to wait for an answer, where the operator does not say."""
WAIT_MS: Final = 1000
"""How long a lookup may wait for those before it, where the operator does not say."""
INSERTION_TIMEOUT_S: Final = 5.0
LEFT_ALONE: Final = SECOND
"""How long Redis is left alone after a failure."""
MOST_LOOKUPS: Final = 16_384
"""Lookups that may wait; beyond it they are misses."""
MOST_INSERTIONS: Final = 1024
MOST_INSERTED: Final = 64 << 20
"""Insertions, and their bytes, that may wait; beyond it they are forgotten."""
TOGETHER: Final = 32
"""Keys that are looked up at the same time on one connection."""
SMALL: Final = 64 << 10
"""Bytes up to which an entry is decoded on the loop."""

log: Final = structlog.stdlib.get_logger(__name__)


class RedisCache:
    """Entries in Redis, under the key of a request and a prefix of ours."""

    def __init__(self, settings: RedisCacheSettings, clock: Clock = now) -> None:
        self.shared = True
        self.largest = LARGEST
        self.counters = CacheCounters()
        self._settings = settings
        self._clock = clock
        self._client = _client(settings)
        self._timeout_s = (settings.socket_timeout_ms or TIMEOUT_MS) / 1000
        self._patience = (settings.wait_timeout_ms or WAIT_MS) * MILLISECOND
        self._lookups: asyncio.Queue[tuple[Key, Receive, Instant]] = asyncio.Queue(MOST_LOOKUPS)
        self._insertions: asyncio.Queue[tuple[Key, bytes]] = asyncio.Queue(MOST_INSERTIONS)
        self._bytes_waiting = 0
        self._left_alone_until: Instant = 0
        self._works = True
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Begin; raises InferError where Redis is there and wants nothing to do with us."""
        try:
            async with asyncio.timeout(INSERTION_TIMEOUT_S):
                await self._client.ping()
        except (AuthenticationError, ResponseError) as error:  # a mistake of whoever set us up, and no outage
            await self._client.aclose()
            told = f"{error.status_code or ''} {error}".strip()  # WRONGPASS and the like, as Redis says it
            raise InferError(Fault.UNAVAILABLE, f"Failed to initialize RedisCache: {told}") from error
        except Exception as error:  # noqa: BLE001 - an outage, of whatever kind
            self._failed(error)
        looking = [self._look_up for _ in range(self._settings.connections)]
        self._tasks = [asyncio.create_task(each()) for each in (*looking, self._insert)]
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while not self._lookups.empty():
            self._lookups.get_nowait()[1](None)
        await self._client.aclose()

    def lookup(self, key: Key, receive: Receive) -> None:
        """Have an entry looked up; a miss at once while Redis is left alone or too many wait."""
        if self._is_left_alone() or self._lookups.full():
            self.counters.misses += 1
            receive(None)
        else:
            self._lookups.put_nowait((key, receive, self._clock()))

    def insert(self, key: Key, stored: StoredOutputs, size: int) -> None:
        """Have an entry kept; it is forgotten while Redis is left alone or too much waits."""
        if self._is_left_alone() or self._insertions.full() or self._bytes_waiting + size > MOST_INSERTED:
            return
        spelt = encode(stored)
        self._bytes_waiting += len(spelt)
        self._insertions.put_nowait((key, spelt))

    # --- what the connections do ---

    async def _look_up(self) -> None:
        while True:
            wanted = [await self._lookups.get()]
            while len(wanted) < TOGETHER and not self._lookups.empty():
                wanted.append(self._lookups.get_nowait())
            found: Sequence[object] = [None] * len(wanted)
            patient_since = self._clock() - self._patience
            try:
                if not self._is_left_alone() and wanted[0][2] >= patient_since:
                    found = await self._read([key for key, _, _ in wanted])
            finally:
                for (_, receive, _), value in zip(wanted, found, strict=True):
                    await self._hand_over(receive, value)

    async def _read(self, keys: Sequence[Key]) -> Sequence[object]:
        """Return what Redis holds under each key; nothing, and not an error, where it cannot be asked."""
        began = self._clock()
        try:
            async with asyncio.timeout(self._timeout_s), self._client.pipeline(transaction=False) as asking:
                for key in keys:
                    asking.getrange(PREFIX + key.hex().encode(), 0, LARGEST)
                found: Sequence[object] = await asking.execute(raise_on_error=False)
        except Exception as error:  # noqa: BLE001 - whatever Redis or its client does, it is a miss
            self._failed(error)
            return [None] * len(keys)
        finally:
            self.counters.lookup_ns += self._clock() - began
        self._worked()
        return found

    async def _hand_over(self, receive: Receive, value: object) -> None:
        stored = None
        if isinstance(value, bytes) and value:
            try:
                stored = decode(value) if len(value) <= SMALL else await asyncio.to_thread(decode, value)
            except Exception as error:  # noqa: BLE001 - whatever it holds, it must not end this task
                log.warning("Redis holds no response under a key of ours", reason=str(error))
        if stored is None:
            self.counters.misses += 1
        else:
            self.counters.hits += 1
        asyncio.get_running_loop().call_soon(receive, stored)  # what it does is no matter of this task

    async def _insert(self) -> None:
        expiry_ms = self._settings.ttl_s * 1000 or None
        while True:
            key, spelt = await self._insertions.get()
            self._bytes_waiting -= len(spelt)
            if self._is_left_alone():
                continue
            began = self._clock()
            try:
                async with asyncio.timeout(INSERTION_TIMEOUT_S):
                    await self._client.set(PREFIX + key.hex().encode(), spelt, px=expiry_ms)
            except Exception as error:  # noqa: BLE001 - as for lookups
                self._failed(error)
            self.counters.insertion_ns += self._clock() - began

    # --- whether Redis works ---

    def _is_left_alone(self) -> bool:
        return self._clock() < self._left_alone_until

    def _failed(self, error: Exception) -> None:
        self._left_alone_until = self._clock() + LEFT_ALONE
        if self._works:
            self._works = False
            reason = f"{type(error).__name__}: {error}"
            log.warning("Redis does not work; responses are not cached until it does", reason=reason)

    def _worked(self) -> None:
        if not self._works:
            self._works = True
            log.info("Redis works again")


def _client(settings: RedisCacheSettings) -> Redis:
    """Return a client that is not connected yet."""
    return Redis(
        host=settings.host,
        port=settings.port,
        db=settings.database,
        username=settings.user,
        password=settings.password,
        socket_connect_timeout=(settings.connect_timeout_ms or TIMEOUT_MS) / 1000,
        # A connection that Redis closed long ago shows it when it is used next: once more, at once.
        retry=Retry(NoBackoff(), 1),
        protocol=2,
        ssl=settings.tls,
        ssl_certfile=_name(settings.certificate),
        ssl_keyfile=_name(settings.key),
        ssl_ca_certs=_name(settings.authority),
        ssl_ca_path=_name(settings.authorities),
    )


def _name(path: Path | None) -> str | None:
    return None if path is None else str(path)
