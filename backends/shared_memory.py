"""System shared memory: POSIX segments that belong to somebody else, mapped so that tensors can lie in them.

Inputs are views on the mapping: nothing is copied. The mapping lives as long as its last view, so forgetting
a region while a request still reads from it does no harm, and needs no bookkeeping.

Outputs are written through the descriptor rather than through the mapping. It is one copy either way, but a
segment is a promise: one that was cut short, or for which the machine has no memory left, answers a write
with an error, and an access to mapped memory with a signal that ends the server. For the same reason a region
looks at the size of its segment each time it is used. What remains is a client that cuts its segment short
while a model reads it; who is allowed to share memory with a server is trusted that far.
"""

import errno
import mmap
import os
import stat
import weakref
from dataclasses import dataclass
from typing import Final

from ..proto.errors import InferError, internal, invalid
from ..proto.shared_memory import RegionPart, out_of_bounds, segment_name
from ..proto.tensor import Raw

DIRECTORY: Final = "/dev/shm"  # noqa: S108 - where Linux keeps POSIX segments, whoever made them
DESCRIPTORS: Final = 2
"""File descriptors that a region holds: its own, and the one of Python's mapping."""


class Region:
    """A range of a segment, mapped under a name; it ends when nobody refers to it any more."""

    __slots__ = ("__weakref__", "_descriptor", "_mapping", "byte_size", "key", "name", "offset")

    def __init__(self, name: str, key: str, offset: int, descriptor: int, mapping: mmap.mmap) -> None:
        """Take over the descriptor of a segment, and the mapping of a range that begins at an offset."""
        self.name = name
        self.key = key
        self.offset = offset
        """Where the range begins in the segment."""
        self.byte_size = len(mapping)
        self._descriptor = descriptor
        self._mapping = mapping
        weakref.finalize(self, os.close, descriptor)

    def source(self, part: RegionPart) -> memoryview:
        """Return a read-only view on a part; raises InferError unless it lies in the region, now."""
        self._check(part)
        return memoryview(self._mapping)[part.offset : part.offset + part.byte_size]

    def destination(self, part: RegionPart) -> "Room":
        """Return a part to write to; raises InferError unless it lies in the region, now."""
        self._check(part)
        return Room(self, part)

    def write(self, part: RegionPart, raw: Raw) -> None:
        """Write to the beginning of a part; raises InferError where that is not possible any more."""
        self._check(part)
        rest = memoryview(raw)
        at = self.offset + part.offset
        try:
            while rest:
                written = os.pwrite(self._descriptor, rest, at)
                rest = rest[written:]
                at += written
        except OSError as error:
            failure = f"unable to write to shared memory region '{self.name}': {error.strerror}"
            raise internal(failure) from None

    def _check(self, part: RegionPart) -> None:
        part.check_within(self.byte_size)
        if self._mapping.size() < self.offset + part.offset + part.byte_size:
            raise out_of_bounds(self.name)


@dataclass(frozen=True, slots=True)
class Room:
    """The part of a region that an output goes to; it keeps its region."""

    region: Region
    part: RegionPart

    @property
    def byte_size(self) -> int:
        """Bytes there is room for."""
        return self.part.byte_size

    def write(self, raw: Raw) -> None:
        """Write elements that fit; raises InferError when the segment cannot take them any more."""
        self.region.write(self.part, raw)


def map_region(name: str, key: str, offset: int, byte_size: int) -> Region:
    """Return a range of the segment with a key under a name; raises InferError in Triton's words."""
    descriptor = _open(key, segment_name(name, key))
    try:
        if offset + byte_size > os.fstat(descriptor).st_size:
            raise invalid(f"failed to register shared memory region '{name}': invalid args")
        return Region(name, key, offset, descriptor, _map(name, descriptor, offset, byte_size))
    except InferError:
        os.close(descriptor)
        raise


def _open(key: str, segment: str) -> int:
    """Return a descriptor of a segment; raises InferError unless there is one.

    What counts is a file in the one directory: no path to elsewhere, no link, no pipe and no device.
    """
    failure = internal(f"Unable to open shared memory region: '{key}'")
    if "/" in segment or "\0" in segment:
        raise failure
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(f"{DIRECTORY}/{segment}", flags)
    except OSError:
        raise failure from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise failure
    return descriptor


def _map(name: str, descriptor: int, offset: int, byte_size: int) -> mmap.mmap:
    reason = os.strerror(errno.EINVAL)
    if byte_size and offset % mmap.ALLOCATIONGRANULARITY == 0:  # Python takes a size of 0 for the whole file
        try:
            return mmap.mmap(descriptor, byte_size, offset=offset, access=mmap.ACCESS_READ)
        except OSError as error:
            reason = error.strerror or reason
        except ValueError:
            pass  # cut short since its size was looked at
    raise invalid(
        f"failed to register shared memory region '{name}': unable to process address space{reason}"
    )
