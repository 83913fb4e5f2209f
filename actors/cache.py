"""The local response cache: entries in the order of their last use, bounded by the bytes they take.

It is pure but for the clock it is given. The oldest use goes first when room is needed; an entry that is
older than the time to live, where one is set, is not found any more, however lately it was used. An entry
that would not fit into the empty cache is refused rather than let everybody else go for nothing.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ..proto.stored_outputs import StoredOutputs
from .clock import Clock, Instant, Nanoseconds, now

Key = bytes
Receive = Callable[[StoredOutputs | None], None]
"""Takes what was found, None where nothing was."""


@dataclass(slots=True)
class CacheCounters:
    """What a cache has done so far; lookups are its hits and its misses."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    lookup_ns: Nanoseconds = 0
    insertion_ns: Nanoseconds = 0


class Store(Protocol):
    """Where outputs are kept between requests."""

    counters: CacheCounters

    @property
    def shared(self) -> bool:
        """Whether other servers see it too, or this one after its next start."""

    @property
    def largest(self) -> int:
        """Bytes that one entry may take, as `stored_size` counts them."""

    def lookup(self, key: Key, receive: Receive) -> None:
        """Have an entry looked up; `receive` is called once, perhaps before this returns."""

    def insert(self, key: Key, stored: StoredOutputs, size: int) -> None:
        """Keep an entry that takes so many bytes, if that can be; never waits."""


@dataclass(frozen=True, slots=True)
class _Entry:
    stored: StoredOutputs
    size: int
    expires: Instant | None


@dataclass(slots=True)
class LocalCache:
    """Entries in the memory of this process."""

    capacity: int
    """Bytes that all entries together may take."""
    ttl: Nanoseconds = 0
    """How long an entry may be found; 0 is for ever."""
    clock: Clock = now
    used: int = 0
    counters: CacheCounters = field(default_factory=CacheCounters)
    _entries: OrderedDict[Key, _Entry] = field(default_factory=OrderedDict)
    """The least recently used one is first."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def shared(self) -> bool:
        """Nobody else sees what is in here."""
        return False

    @property
    def largest(self) -> int:
        """All the room there is."""
        return self.capacity

    def lookup(self, key: Key, receive: Receive) -> None:
        """Look an entry up, and hand it over at once."""
        began = self.clock()
        entry = self._entries.get(key)
        if entry is not None and entry.expires is not None and entry.expires <= began:
            self._drop(key)
            entry = None
        if entry is None:
            self.counters.misses += 1
        else:
            self._entries.move_to_end(key)
            self.counters.hits += 1
        self.counters.lookup_ns += self.clock() - began
        receive(None if entry is None else entry.stored)

    def insert(self, key: Key, stored: StoredOutputs, size: int) -> None:
        """Keep an entry, in the place of others if need be; one that is larger than all room is not kept."""
        if size > self.capacity:
            return
        began = self.clock()
        if key in self._entries:
            self._drop(key)
        while self.used + size > self.capacity:
            self._drop(next(iter(self._entries)))
            self.counters.evictions += 1
        self._entries[key] = _Entry(stored, size, began + self.ttl if self.ttl else None)
        self.used += size
        self.counters.insertion_ns += self.clock() - began

    def check(self) -> None:
        """Raise AssertionError when the cache contradicts itself; for tests, after each step."""
        assert self.used == sum(entry.size for entry in self._entries.values()), "bytes were miscounted"
        assert self.used <= self.capacity, "there is more than there is room for"

    def _drop(self, key: Key) -> None:
        self.used -= self._entries.pop(key).size
