"""The local cache keeps what was used last, within its bytes and its time, in any history."""

import random
from collections import OrderedDict

import pytest

from deuteron.actors.cache import LocalCache
from deuteron.proto.datatypes import Datatype
from deuteron.proto.stored_outputs import StoredOutputs, StoredTensor


class Clock:
    """A clock that is set by hand."""

    moment = 0

    def __call__(self) -> int:
        return self.moment


def outputs(value: int) -> StoredOutputs:
    return StoredOutputs((StoredTensor("OUT", Datatype.UINT8, (1,), bytes([value % 256])),))


def look(cache: LocalCache, key: bytes) -> StoredOutputs | None:
    found: list[StoredOutputs | None] = []
    cache.lookup(key, found.append)
    (only,) = found
    return only


def test_what_was_inserted_is_found_until_it_has_to_make_room() -> None:
    cache = LocalCache(100)
    cache.insert(b"a", outputs(1), 40)
    cache.insert(b"b", outputs(2), 40)
    assert look(cache, b"a") == outputs(1)
    cache.insert(b"c", outputs(3), 40)
    assert look(cache, b"b") is None, "the one that was not looked at since makes room"
    assert look(cache, b"a") == outputs(1)
    assert look(cache, b"c") == outputs(3)
    counters = cache.counters
    assert (counters.hits, counters.misses, counters.evictions) == (3, 1, 1)


def test_an_entry_that_is_larger_than_all_room_pushes_nobody_out() -> None:
    cache = LocalCache(100)
    cache.insert(b"a", outputs(1), 100)
    cache.insert(b"b", outputs(2), 101)
    assert look(cache, b"a") == outputs(1)
    assert look(cache, b"b") is None
    assert cache.largest == 100


def test_an_entry_that_comes_again_takes_its_own_place() -> None:
    cache = LocalCache(100)
    cache.insert(b"a", outputs(1), 60)
    cache.insert(b"a", outputs(2), 90)
    assert look(cache, b"a") == outputs(2)
    assert (cache.used, len(cache), cache.counters.evictions) == (90, 1, 0)


def test_an_entry_is_not_found_when_its_time_is_over_however_often_it_was_used() -> None:
    clock = Clock()
    cache = LocalCache(100, ttl=10, clock=clock)
    cache.insert(b"a", outputs(1), 10)
    clock.moment = 9
    assert look(cache, b"a") == outputs(1)
    clock.moment = 10
    assert look(cache, b"a") is None
    assert (cache.used, len(cache)) == (0, 0)


class Expected:
    """The same, told naively: a list of entries, searched from end to end."""

    def __init__(self, capacity: int, ttl: int) -> None:
        self.capacity, self.ttl = capacity, ttl
        self.entries: OrderedDict[bytes, tuple[StoredOutputs, int, int]] = OrderedDict()

    def look(self, key: bytes, now: int) -> StoredOutputs | None:
        entry = self.entries.pop(key, None)
        if entry is None or (self.ttl and now - entry[2] >= self.ttl):
            return None
        self.entries[key] = entry
        return entry[0]

    def insert(self, key: bytes, stored: StoredOutputs, size: int, now: int) -> None:
        if size > self.capacity:
            return
        self.entries.pop(key, None)
        self.entries[key] = (stored, size, now)
        while sum(entry[1] for entry in self.entries.values()) > self.capacity:
            self.entries.popitem(last=False)


@pytest.mark.parametrize("seed", range(200))
def test_random_histories_end_as_the_plain_telling_says(seed: int) -> None:
    """50 events each: 10,000 in all, checked after every one."""
    dice = random.Random(seed)
    clock = Clock()
    ttl = dice.choice([0, 5, 50])
    cache = LocalCache(dice.choice([1, 50, 200]), ttl=ttl, clock=clock)
    expected = Expected(cache.capacity, ttl)
    for event in range(50):
        clock.moment += dice.randrange(4)
        key = bytes([dice.randrange(8)])
        if dice.random() < 0.5:
            assert look(cache, key) == expected.look(key, clock.moment), repr(cache)
        else:
            size = dice.randint(1, 80)
            cache.insert(key, outputs(event), size)
            expected.insert(key, outputs(event), size, clock.moment)
        cache.check()
    assert cache.counters.hits + cache.counters.misses <= 50
