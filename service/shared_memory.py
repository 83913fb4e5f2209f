"""The regions of shared memory that clients have registered: who keeps them, and what may be done with them.

Registration is for whoever may reach the server, and it reaches into the memory of the machine. So it is
refused unless the operator allows it, a region is nothing but a segment that a client could have made, and
there are only so many. Status tells what is there, allowed or not.

Each request borrows what it uses, and gives it back before it is answered. A region that is forgotten in
between stays, and is listed, until the last of its borrowers has done: so does Triton. This is about the name
alone; the segment stays open as long as an output is to be written to it.

Where there is no GPU there is no CUDA shared memory: its calls are answered as by a Triton that was built so.
"""

import resource
from collections import Counter
from collections.abc import Sequence
from typing import Final, Self

from ..backends.shared_memory import Region, Room, open_region
from ..proto.errors import Fault, InferError, invalid
from ..proto.shared_memory import RegionPart, check_region_name, unknown_region

MAX_REGIONS: Final = 4096
CUDA_HANDLE_SIZE: Final = 64
"""Bytes of a `cudaIpcMemHandle_t`."""
SHARE_OF_DESCRIPTORS: Final = 4
"""Regions take at most one in so many of the file descriptors there may be: the rest is for sockets."""

_DISABLED: Final = (
    "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
)


def _most_regions() -> int:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return MAX_REGIONS
    return min(MAX_REGIONS, descriptors // SHARE_OF_DESCRIPTORS)


class SharedMemory:
    """The registered regions by name."""

    __slots__ = ("_allowed", "_borrowers", "_forgotten", "_most", "_regions")

    def __init__(self, *, allowed: bool = False) -> None:
        self._allowed = allowed
        self._most = _most_regions()
        self._regions: dict[str, Region] = {}
        self._borrowers: Counter[str] = Counter()
        """How many requests use a region, once for each of their tensors in it."""
        self._forgotten: set[str] = set()
        """Regions that go with their last borrower."""

    def lend(self) -> "Loan | None":
        """Return the regions for the length of one request; None while there are none."""
        return Loan(self) if self._regions else None

    def borrow(self, name: str) -> Region:
        """Return a region that is used until `give_back`; raises InferError where there is none."""
        region = self._regions.get(name)
        if region is None:
            raise unknown_region(name)
        self._borrowers[name] += 1
        return region

    def give_back(self, names: Sequence[str]) -> None:
        """Hear that regions are not used any more, once for each time they were borrowed."""
        for name in names:
            self._borrowers[name] -= 1
            if not self._borrowers[name]:
                del self._borrowers[name]
                if name in self._forgotten:
                    self._forget(name)

    def check_allowed(self) -> None:
        """Raise InferError unless clients may register and unregister."""
        if not self._allowed:
            raise InferError(Fault.UNSUPPORTED, _DISABLED)

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Map a range of a segment under a name; raises InferError."""
        self.check_allowed()
        check_region_name(name)
        if name in self._regions:
            raise InferError(Fault.ALREADY_EXISTS, f"shared memory region '{name}' already in manager")
        if len(self._regions) >= self._most:
            raise InferError(
                Fault.UNAVAILABLE,
                f"failed to register shared memory region '{name}': there are {self._most} regions already",
            )
        self._regions[name] = open_region(name, key, offset, byte_size)

    def unregister(self, name: str) -> None:
        """Forget a region, all of them for an empty name; one that is not known is forgotten already."""
        self.check_allowed()
        for each in [name] if name else list(self._regions):
            if each in self._borrowers:
                self._forgotten.add(each)
            else:
                self._forget(each)

    def status(self, name: str) -> Sequence[Region]:
        """Return a region, all of them in the order of their names for an empty name; raises InferError."""
        if not name:
            return [self._regions[each] for each in sorted(self._regions)]
        if name not in self._regions:
            raise InferError(Fault.NOT_FOUND, f"Unable to find system shared memory region: '{name}'")
        return [self._regions[name]]

    def register_cuda(self, name: str, handle: bytes) -> None:
        """Refuse a region on a GPU; always raises InferError."""
        self.check_allowed()
        check_region_name(name)
        if len(handle) != CUDA_HANDLE_SIZE:
            raise invalid("failed to register shared memory region: invalid args")
        raise invalid(f"failed to register CUDA shared memory region: '{name}', GPUs not supported")

    def unregister_cuda(self) -> None:
        """Forget regions on GPUs, of which there are none; raises InferError unless that is allowed."""
        self.check_allowed()

    def check_cuda_status(self, name: str) -> None:
        """Raise InferError when a region is asked for that is not on a GPU; with no name, all is well."""
        if name in self._regions:
            raise InferError(
                Fault.NOT_FOUND,
                f"The region named '{name}' is registered as system shared memory, not CUDA shared memory",
            )
        if name:
            raise InferError(Fault.NOT_FOUND, f"Unable to find cuda shared memory region: '{name}'")

    def _forget(self, name: str) -> None:
        self._regions.pop(name, None)
        self._forgotten.discard(name)


class Loan:
    """The regions as one request sees them; whatever it takes is given back together."""

    __slots__ = ("_borrowed", "_memory")

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory
        self._borrowed: list[str] = []

    def read(self, part: RegionPart) -> bytes:
        """Return what a part of a region holds now; raises InferError where there is no such part."""
        return self._borrow(part).read(part)

    def destination(self, part: RegionPart) -> Room:
        """Return a part of a region to write to; raises InferError where there is no such part."""
        return self._borrow(part).destination(part)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        """End the use of all regions; harmless when it has ended."""
        if self._borrowed:
            self._memory.give_back(self._borrowed)
            self._borrowed = []

    def _borrow(self, part: RegionPart) -> Region:
        region = self._memory.borrow(part.region)
        self._borrowed.append(part.region)
        return region
