"""System shared memory: POSIX segments that belong to somebody else, read and written through their files.

A segment is a promise that its owner may break at any moment. Cut short, or promising more memory than there
is, it answers a read or a write with an error, but an access to mapped memory with a signal that ends the
server. So nothing is mapped: an input is copied once when its request is read, an output once when it is
answered, and what a model has seen stays what it was, whatever the owner writes meanwhile.
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


class Region:
    """A range of a segment under a name; its file is closed when nobody refers to it any more."""

    __slots__ = ("__weakref__", "_descriptor", "byte_size", "key", "name", "offset")

    def __init__(self, name: str, key: str, descriptor: int, offset: int, byte_size: int) -> None:
        """Take over the descriptor of a segment."""
        self.name = name
        self.key = key
        self.offset = offset
        """Where the range begins in the segment."""
        self.byte_size = byte_size
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    def read(self, part: RegionPart) -> bytes:
        """Return what a part holds now; raises InferError unless it lies in region and segment."""
        part.check_within(self.byte_size)
        at = self.offset + part.offset
        raw = os.pread(self._descriptor, part.byte_size, at)
        if len(raw) < part.byte_size:
            raw = self._read_on(raw, at, part.byte_size)
        return raw

    def _read_on(self, raw: bytes, at: int, byte_size: int) -> bytes:
        """Return all bytes where one call did not: the system reads two gigabytes at most."""
        pieces = [raw]
        missing = byte_size - len(raw)
        while missing and pieces[-1]:
            pieces.append(os.pread(self._descriptor, missing, at + byte_size - missing))
            missing -= len(pieces[-1])
        if missing:
            raise out_of_bounds(self.name)
        return b"".join(pieces)

    def destination(self, part: RegionPart) -> "Room":
        """Return a part to write to; raises InferError unless it lies in the region, and in the segment."""
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
        if os.fstat(self._descriptor).st_size < self.offset + part.offset + part.byte_size:
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


def open_region(name: str, key: str, offset: int, byte_size: int) -> Region:
    """Return a range of the segment with a key under a name; raises InferError in Triton's words."""
    descriptor = _open(key, segment_name(name, key))
    try:
        if offset + byte_size > os.fstat(descriptor).st_size:
            raise invalid(f"failed to register shared memory region '{name}': invalid args")
        if not byte_size or offset % mmap.ALLOCATIONGRANULARITY:
            # Triton maps regions, and such a range cannot be mapped.
            reason = os.strerror(errno.EINVAL)
            raise invalid(
                f"failed to register shared memory region '{name}': unable to process address space{reason}"
            )
        return Region(name, key, descriptor, offset, byte_size)
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
