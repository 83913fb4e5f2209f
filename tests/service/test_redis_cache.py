"""Redis holds responses for every server; slow, away or full of strange things, it is never in the way.

It is a real Redis, without which these tests are skipped.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import redis

from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import InferError
from deuteron.proto.stored_outputs import StoredOutputs, StoredTensor
from deuteron.service.redis_cache import LEFT_ALONE, PREFIX, RedisCache
from deuteron.service.settings import RedisCacheSettings

from ..redis_house import NEEDS_REDIS, free_port, port_of, redis_server

pytestmark = NEEDS_REDIS

KEY = b"\x01" * 32
WITHIN_S = 20


def outputs(text: bytes = b"answer") -> StoredOutputs:
    return StoredOutputs((StoredTensor("OUT", Datatype.UINT8, (len(text),), text),))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with redis_server(tmp_path_factory.mktemp("redis"), free_port()) as client:
        yield client


@pytest.fixture
def store(server: redis.Redis) -> redis.Redis:
    """An empty Redis."""
    server.flushall()
    return server


class Clock:
    """A clock that is set by hand."""

    moment = 1

    def __call__(self) -> int:
        return self.moment


@asynccontextmanager
async def opened(port: int, clock: Clock | None = None, **settings: object) -> AsyncIterator[RedisCache]:
    options = RedisCacheSettings("127.0.0.1", port, **settings)  # type: ignore[arg-type] # its own fields
    async with RedisCache(options, clock) if clock else RedisCache(options) as cache:
        yield cache


async def look(cache: RedisCache, key: bytes = KEY) -> StoredOutputs | None:
    found: asyncio.Future[StoredOutputs | None] = asyncio.get_running_loop().create_future()
    cache.lookup(key, found.set_result)
    return await asyncio.wait_for(found, WITHIN_S)


async def until_kept(cache: RedisCache, stored: StoredOutputs, key: bytes = KEY) -> None:
    """Insert an entry and wait until it is there: nobody is told when it is."""
    cache.insert(key, stored, 1000)
    async with asyncio.timeout(WITHIN_S):
        while await look(cache, key) != stored:
            pass


async def test_what_one_server_keeps_another_finds(store: redis.Redis) -> None:
    async with opened(port_of(store)) as first, opened(port_of(store), connections=3) as second:
        assert await look(second) is None
        await until_kept(first, outputs())
        assert await look(second) == outputs()
        assert (second.counters.hits, second.counters.misses) == (1, 1)


async def test_many_are_looked_up_at_once_and_each_gets_its_own(store: redis.Redis) -> None:
    async with opened(port_of(store), connections=2) as cache:
        keys = [bytes([number]) * 32 for number in range(10, 210)]
        for key in keys[::2]:
            cache.insert(key, outputs(key), 1000)
        await until_kept(cache, outputs())
        found = await asyncio.gather(*(look(cache, key) for key in keys))
    assert found == [None if number % 2 else outputs(key) for number, key in enumerate(keys)]


async def test_entries_end_when_the_operator_says_so(store: redis.Redis) -> None:
    async with opened(port_of(store), ttl_s=3600) as cache:
        await until_kept(cache, outputs())
        (key,) = store.keys()
        assert 3500 < int(store.ttl(key)) <= 3600


async def test_large_entries_travel_as_well(store: redis.Redis) -> None:
    async with opened(port_of(store), socket_timeout_ms=10_000) as cache:
        await until_kept(cache, outputs(bytes(4 << 20)))


@pytest.mark.parametrize(
    "value", [b"", b"OK", b"\x80\x04\x95cos\nsystem\n", b"DTRC\x01\xff\xff", bytes(17 << 20)]
)
async def test_strange_bytes_are_a_miss(store: redis.Redis, value: bytes) -> None:
    store.set(PREFIX + KEY.hex().encode(), value)
    async with opened(port_of(store), socket_timeout_ms=10_000) as cache:
        assert await look(cache) is None
        await until_kept(cache, outputs())


async def test_another_kind_of_value_is_a_miss_for_its_own_key_only(store: redis.Redis) -> None:
    store.hset(PREFIX + KEY.hex().encode(), "field", "value")
    async with opened(port_of(store)) as cache:
        other = b"\x02" * 32
        await until_kept(cache, outputs(), other)
        assert list(await asyncio.gather(look(cache), look(cache, other))) == [None, outputs()]


async def test_a_redis_that_is_away_costs_one_wait_and_then_none(tmp_path: Path) -> None:
    clock = Clock()
    port = free_port()
    async with opened(port, clock) as cache:
        found: list[StoredOutputs | None] = []
        cache.lookup(KEY, found.append)
        assert found == [None], "after a failure it is left alone: a miss at once"
        cache.insert(KEY, outputs(), 1000)
        with redis_server(tmp_path, port) as store:
            clock.moment += LEFT_ALONE
            await until_kept(cache, outputs())
            assert len(store.keys()) == 1
        clock.moment += LEFT_ALONE
        assert await look(cache) is None
        with redis_server(tmp_path, port):
            clock.moment += LEFT_ALONE
            await until_kept(cache, outputs())


async def test_a_redis_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    port = free_port()
    with redis_server(tmp_path, port) as store:
        async with opened(port, socket_timeout_ms=50) as cache:
            await until_kept(cache, outputs())
            process = psutil.Process(int(store.info()["process_id"]))
            process.suspend()
            try:
                assert await look(cache) is None
                assert await look(cache) is None
            finally:
                process.resume()


async def test_whoever_waits_when_the_server_stops_has_a_miss(store: redis.Redis) -> None:
    found: list[StoredOutputs | None] = []
    async with opened(port_of(store)) as cache:
        for _ in range(100):
            cache.lookup(KEY, found.append)
    await asyncio.sleep(0)
    assert found == [None] * 100


async def test_a_wrong_password_ends_the_start(tmp_path: Path) -> None:
    port = free_port()
    with redis_server(tmp_path, port, "--requirepass", "right"):
        async with opened(port, password="right") as cache:
            await until_kept(cache, outputs())
        for password, told in (("wrong", "WRONGPASS invalid"), (None, "NOAUTH Authentication required")):
            with pytest.raises(InferError, match=f"Failed to initialize RedisCache: {told}"):
                await opened(port, password=password).__aenter__()
