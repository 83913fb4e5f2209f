"""Arenas: shared memory in which tensors travel, one for each direction.

The side that writes owns the arena: it takes blocks and says in a message where they lie. The other side
borrows a block for as long as it looks at the elements, which may be long after the message was read. While a
block is out its mark on the board is raised; the borrower takes it down, and the owner finds that out when it
needs a block. So giving back costs no message.

Memory comes in *segments*, unnamed files of a size that cannot change, handed over by their descriptors. Each
new one is larger than the last, up to a limit for all of them. Blocks are cut from a segment one after the
other, in few sizes, four to each power of two, and used again for the same size, the last one first, since
its memory is in the caches. Where the limit is reached, segments without a block that is out are cut anew.

Borrowers trust nothing: a place is checked against the segment before it is looked at.
"""

import fcntl
import mmap
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from .board import sealed_memory

Bytes = npt.NDArray[np.uint8]

FIRST_SEGMENT: Final = 4 << 20
LARGEST_STEP: Final = 256 << 20
"""Bytes by which an arena grows at most, unless one tensor needs more."""
SMALLEST_BLOCK: Final = 4096
DEFAULT_LIMIT: Final = 4 << 30


class ArenaFullError(Exception):
    """An arena has no room for a tensor, and may not grow."""


class Place(NamedTuple):
    """Where the elements of a tensor lie, and the mark to take down when they are not needed any more."""

    segment: int
    offset: int
    size: int
    mark: int


class _Block(NamedTuple):
    segment: int
    offset: int
    room: int


class _Segment:
    """One piece of an arena, as its owner sees it."""

    __slots__ = ("cut", "elements", "out")

    def __init__(self, elements: Bytes) -> None:
        self.elements = elements
        self.cut = 0
        """Bytes that belong to blocks already."""
        self.out = 0
        """Blocks of it that somebody borrows."""


class Arena:
    """The side that writes; used from any thread."""

    def __init__(
        self, marks: memoryview, announce: Callable[[int, int, int], None], limit: int = DEFAULT_LIMIT
    ) -> None:
        """Take a row of marks, and what tells the other side of a segment: number, size and descriptor."""
        self._marks = marks
        self._announce = announce
        self._limit = limit
        self._lock = threading.Lock()
        self._segments: list[_Segment] = []
        self._size = 0
        self._free: dict[int, list[_Block]] = {}
        self._out: dict[int, _Block] = {}
        self._unused_marks = list(range(len(marks) - 1, -1, -1))

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return self._size

    def put(self, elements: npt.NDArray[Any]) -> Place:
        """Copy an array in row-major order into a block; raises ArenaFullError."""
        size = elements.nbytes
        with self._lock:
            block, mark = self._take(_room_for(size))
        segment = self._segments[block.segment]
        room = segment.elements[block.offset : block.offset + size]
        np.copyto(room.view(elements.dtype).reshape(elements.shape), elements)
        return Place(block.segment, block.offset, size, mark)

    def take_back(self, place: Place) -> None:
        """Take back a block that was not handed over."""
        self._marks[place.mark] = 0

    def close(self) -> None:
        """Let go of the board and of all memory; blocks that somebody looks at stay until nobody does."""
        with self._lock:
            self._marks = memoryview(bytearray(len(self._marks)))
            self._limit = 0
            self._segments.clear()
            self._free.clear()
            self._out.clear()

    def _take(self, room: int) -> "tuple[_Block, int]":
        free = self._free.get(room)
        if not free or not self._unused_marks:
            self._collect()
            free = self._free.get(room)
        if not self._unused_marks:
            raise ArenaFullError(f"all {len(self._marks)} blocks of shared memory are in use")
        block = free.pop() if free else self._cut(room)
        mark = self._unused_marks.pop()
        self._marks[mark] = 1
        self._out[mark] = block
        self._segments[block.segment].out += 1
        return block, mark

    def _collect(self) -> None:
        """Take back the blocks whose marks were taken down."""
        marks = self._marks
        for mark in [each for each in self._out if not marks[each]]:
            block = self._out.pop(mark)
            self._unused_marks.append(mark)
            self._segments[block.segment].out -= 1
            self._free.setdefault(block.room, []).append(block)

    def _cut(self, room: int) -> _Block:
        """Return a new block from the last segment, a new one, or one that nobody uses."""
        if self._segments and self._fits(len(self._segments) - 1, room):
            return self._cut_from(len(self._segments) - 1, room)
        grown = max(room, min(max(self._size, FIRST_SEGMENT), LARGEST_STEP))
        if self._size + grown > self._limit:
            grown = max(room, self._limit - self._size)
        if self._size + grown <= self._limit:
            return self._cut_from(self._grow(grown), room)
        for number, segment in enumerate(self._segments):
            if not segment.out and segment.elements.nbytes >= room:
                self._forget_blocks(number)
                return self._cut_from(number, room)
        for larger in sorted(each for each, blocks in self._free.items() if each > room and blocks):
            return self._free[larger].pop()
        raise ArenaFullError(
            f"Failed to increase the shared memory pool size: a tensor takes {room} bytes, and {self._size} "
            f"of {self._limit} bytes are used already"
        )

    def _fits(self, number: int, room: int) -> bool:
        segment = self._segments[number]
        return segment.cut + room <= segment.elements.nbytes

    def _cut_from(self, number: int, room: int) -> _Block:
        segment = self._segments[number]
        block = _Block(number, segment.cut, room)
        segment.cut += room
        return block

    def _grow(self, size: int) -> int:
        number = len(self._segments)
        descriptor = sealed_memory("deuteron-arena", size)
        try:
            elements = np.frombuffer(mmap.mmap(descriptor, size), np.uint8)
            self._announce(number, size, descriptor)
        finally:
            os.close(descriptor)
        self._segments.append(_Segment(elements))
        self._size += size
        return number

    def _forget_blocks(self, number: int) -> None:
        for room, blocks in self._free.items():
            self._free[room] = [block for block in blocks if block.segment != number]
        self._segments[number].cut = 0


class Borrower:
    """The side that reads; used from any thread."""

    def __init__(self, marks: memoryview, *, writable: bool, limit: int = DEFAULT_LIMIT) -> None:
        """Take the row of marks of the other side's arena, and whether its memory may be written."""
        self._marks = marks
        self._access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._limit = limit
        self._segments: list[mmap.mmap] = []
        self._size = 0
        self._watches: dict[int, weakref.ref[Bytes]] = {}

    def add(self, number: int, size: int, descriptor: int) -> None:
        """Map a segment, and close its descriptor; raises ValueError for what cannot be trusted."""
        try:
            if number != len(self._segments) or not 0 < size <= self._limit - self._size:
                raise ValueError(f"segment {number} of {size} bytes was not to be expected")
            if os.fstat(descriptor).st_size != size:
                raise ValueError(f"segment {number} is not {size} bytes long")
            if not fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
                raise ValueError(f"segment {number} could become smaller than it is")
            self._segments.append(mmap.mmap(descriptor, size, mmap.MAP_SHARED, self._access))
        except OSError as error:
            raise ValueError(f"segment {number} cannot be used: {error.strerror}") from None
        finally:
            os.close(descriptor)
        self._size += size

    def close(self) -> None:
        """Let go of the board and of all memory; blocks that somebody looks at stay until nobody does."""
        self._marks = memoryview(bytearray(len(self._marks)))
        self._segments.clear()

    def borrow(self, place: Place) -> memoryview:
        """Return the elements at a place, which go back when nobody looks any more; raises ValueError."""
        segment, offset, size, mark = place
        if not (0 <= segment < len(self._segments) and 0 <= mark < len(self._marks)):
            raise ValueError(f"there is no {place}")
        if offset < 0 or size <= 0 or offset + size > len(self._segments[segment]) or mark in self._watches:
            raise ValueError(f"there is no {place}")
        elements: Bytes = np.frombuffer(self._segments[segment], np.uint8, size, offset)

        def give_back(_: object) -> None:
            del self._watches[mark]
            self._marks[mark] = 0

        self._watches[mark] = weakref.ref(elements, give_back)
        return elements.data


def _room_for(size: int) -> int:
    """Return the size of the blocks for so many bytes: at most a quarter more, and whole pages."""
    if size <= SMALLEST_BLOCK:
        return SMALLEST_BLOCK
    step = max(SMALLEST_BLOCK, 1 << (size.bit_length() - 3))
    return (size + step - 1) // step * step
