"""The sequence store in Redis: whose record stands there is decided by Redis, and an outage costs little.

It is a real Redis, without which these tests are skipped.
"""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from deuteron.backends.sequence_store import Put, SequenceStoreError
from deuteron.proto.errors import InferError
from deuteron.proto.sequence_record import TOKEN_SIZE, SequenceRecord, read, spell
from deuteron.proto.stored_outputs import StoredOutputs
from deuteron.service.arguments import read_settings
from deuteron.service.redis_sequences import LEFT_ALONE, RedisSequences
from deuteron.service.settings import SequenceStoreSettings
from deuteron.service.values import OptionError

from ..redis_house import NEEDS_REDIS, free_port, port_of, redis_server

NONE = StoredOutputs(())


def token(number: int) -> bytes:
    return bytes([number]) * TOKEN_SIZE


def put(key: str, number: int, replaces: int | None = None, keep_ms: int = 60_000) -> Put:
    """Return a record with this token, in place of another or of anything."""
    spelt = spell(SequenceRecord(token(number), "", False, NONE, NONE, {}))
    return Put(key, spelt, None if replaces is None else token(replaces), keep_ms)


class Clock:
    """A clock that is set by hand."""

    moment = 1

    def __call__(self) -> int:
        return self.moment


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with redis_server(tmp_path_factory.mktemp("redis"), free_port()) as client:
        yield client


@pytest.fixture
def store(server: redis.Redis) -> Iterator[RedisSequences]:
    """A store in an empty Redis."""
    server.flushall()
    opened = RedisSequences(SequenceStoreSettings("127.0.0.1", port_of(server)))
    yield opened
    opened.close()


@NEEDS_REDIS
def test_what_is_written_is_found_by_its_key(store: RedisSequences) -> None:
    assert store.write([put("a", 1), put("b", 2)]) == [True, True]
    assert store.tokens(["b", "missing", "a"]) == [token(2), b"", token(1)]
    found, nothing = store.records(["a", "missing"])
    assert read(found).token == token(1)
    assert nothing == b""


@NEEDS_REDIS
def test_a_record_replaces_the_one_it_follows_and_no_other(store: RedisSequences) -> None:
    store.write([put("a", 1), put("b", 1)])
    written = store.write([put("a", 2, replaces=1), put("b", 2, replaces=9), put("new", 2, replaces=1)])
    assert written == [True, False, False]
    assert store.tokens(["a", "b", "new"]) == [token(2), token(1), b""]


@NEEDS_REDIS
def test_one_that_begins_anew_replaces_any(store: RedisSequences) -> None:
    store.write([put("a", 1)])
    assert store.write([put("a", 2)]) == [True]
    assert store.tokens(["a"]) == [token(2)]


@NEEDS_REDIS
def test_one_that_comes_twice_is_content(store: RedisSequences) -> None:
    """The first time the answer was lost."""
    store.write([put("a", 1)])
    assert [store.write([put("a", 2, replaces=1)]) for _ in range(2)] == [[True], [True]]


@NEEDS_REDIS
def test_a_record_has_its_time_and_each_step_begins_it_anew(
    store: RedisSequences, server: redis.Redis
) -> None:
    store.write([put("a", 1, keep_ms=1_000_000)])
    assert 990_000 < int(server.pttl("a")) <= 1_000_000
    store.write([put("a", 2, replaces=1, keep_ms=5_000_000)])
    assert 4_990_000 < int(server.pttl("a")) <= 5_000_000


@NEEDS_REDIS
def test_another_kind_of_value_is_an_error_and_not_a_record(
    store: RedisSequences, server: redis.Redis
) -> None:
    server.hset("a", "field", "value")
    with pytest.raises(SequenceStoreError, match="WRONGTYPE"):
        store.tokens(["a"])


@NEEDS_REDIS
def test_a_redis_that_is_away_costs_one_wait_and_then_none(tmp_path: Path) -> None:
    clock, port = Clock(), free_port()
    store = RedisSequences(SequenceStoreSettings("127.0.0.1", port), clock)
    store.check()
    with redis_server(tmp_path, port):
        with pytest.raises(SequenceStoreError, match="it failed less than a second ago"):
            store.tokens(["a"])
        clock.moment += LEFT_ALONE
        assert store.tokens(["a"]) == [b""]
    with pytest.raises(SequenceStoreError, match="ConnectionError"):
        store.write([put("a", 1)])
    clock.moment += LEFT_ALONE
    with redis_server(tmp_path, port):
        assert store.write([put("a", 1)]) == [True], "a connection that is dead is made anew"


@NEEDS_REDIS
def test_a_redis_that_does_not_answer_is_not_waited_for_long(tmp_path: Path) -> None:
    with redis_server(tmp_path, free_port()) as client:
        store = RedisSequences(SequenceStoreSettings("127.0.0.1", port_of(client)))
        assert store.tokens(["a"]) == [b""]
        process = psutil.Process(int(client.info()["process_id"]))
        process.suspend()
        try:
            with pytest.raises(SequenceStoreError, match="TimeoutError"):
                store.tokens(["a"])
        finally:
            process.resume()


@NEEDS_REDIS
def test_a_wrong_password_ends_the_start(tmp_path: Path) -> None:
    port = free_port()
    with redis_server(tmp_path, port, "--requirepass", "right"):
        RedisSequences(SequenceStoreSettings("127.0.0.1", port, password="right")).check()
        for password, told in (("wrong", "invalid username-password"), (None, "Authentication required")):
            with pytest.raises(InferError, match=f"the sequence store refuses us: .*{told}"):
                RedisSequences(SequenceStoreSettings("127.0.0.1", port, password=password)).check()


# --- the option ---


@pytest.mark.parametrize(
    ("url", "means"),
    [
        ("redis://cache", SequenceStoreSettings("cache", 6379)),
        ("redis://[::1]:6380/2", SequenceStoreSettings("::1", 6380, 2)),
        (
            "rediss://us%40er:pass%2Fword@cache:1/0",
            SequenceStoreSettings("cache", 1, 0, "us@er", "pass/word", tls=True),
        ),
        ("redis://:only@cache", SequenceStoreSettings("cache", 6379, password="only")),
    ],
)
def test_the_store_is_a_url(tmp_path: Path, url: str, means: SequenceStoreSettings) -> None:
    words = [f"--model-repository={tmp_path}", f"--sequence-store={url}"]
    assert read_settings(words, {}).sequence_store == means


@pytest.mark.parametrize(
    "url",
    ["", "cache", "http://cache", "redis://", "redis://cache:0x1", "redis://cache:99999", "redis://c/x",
     "redis://c/100", "redis://c/0?x=1"],
)  # fmt: skip
def test_what_is_no_url_of_a_redis_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(OptionError, match="--sequence-store is written redis://"):
        read_settings([f"--model-repository={tmp_path}", f"--sequence-store={url}"], {})


def test_credentials_may_come_from_the_environment(tmp_path: Path) -> None:
    environment = {
        "DEUTERON_SEQUENCE_STORE_USERNAME": "server",
        "DEUTERON_SEQUENCE_STORE_PASSWORD": "secret",
    }
    words = [f"--model-repository={tmp_path}", "--sequence-store=redis://cache"]
    settings = read_settings(words, environment).sequence_store
    assert settings == SequenceStoreSettings("cache", 6379, user="server", password="secret")
    assert "secret" not in repr(settings)
    assert read_settings(words[:1], environment).sequence_store is None
