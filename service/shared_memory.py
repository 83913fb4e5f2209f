"""The regions of shared memory that clients have registered: who keeps them, and what may be done with them.

Registration is for whoever may reach the server, and it reaches into the memory of the machine. So it is
refused unless the operator allows it, a region is nothing but a segment that a client could have made, and
there are only so many. Status tells what is there, allowed or not.

Forgetting a region takes effect at once; requests that use it keep its memory until they are answered. Where
there is no GPU there is no CUDA shared memory: its calls are answered as by a Triton that was built so.
"""

import resource
from collections.abc import Sequence
from typing import Final

from ..backends.shared_memory import DESCRIPTORS, Region, Room, map_region
from ..proto.errors import Fault, InferError, invalid
from ..proto.shared_memory import RegionPart, check_region_name, unknown_region

MAX_REGIONS: Final = 4096
SHARE_OF_DESCRIPTORS: Final = 4
"""Regions take at most one in so many of the file descriptors there may be: the rest is for sockets."""

_DISABLED: Final = (
    "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
)


class SharedMemory:
    """The registered regions by name."""

    __slots__ = ("_allowed", "_most", "_regions")

    def __init__(self, *, allowed: bool = False) -> None:
        self._allowed = allowed
        self._most = _most_regions()
        self._regions: dict[str, Region] = {}

    def source(self, part: RegionPart) -> memoryview:
        """Return a read-only view on a part of a region; raises InferError where there is no such part."""
        return self._find(part).source(part)

    def destination(self, part: RegionPart) -> Room:
        """Return a part of a region to write to; raises InferError where there is no such part."""
        return self._find(part).destination(part)

    def check_allowed(self) -> None:
        """Raise InferError unless clients may register and unregister."""
        if not self._allowed:
            raise InferError(Fault.UNSUPPORTED, _DISABLED)

    def check_named(self, name: str, kind: str) -> None:
        """Raise InferError for a registration, of `system` or `cuda` memory, without or with a bad name."""
        self.check_allowed()
        if not name:
            raise invalid(f"'region name' is necessary to register {kind} shared memory region")
        check_region_name(name)

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Map a range of a segment under a name; raises InferError."""
        self.check_named(name, "system")
        if name in self._regions:
            raise InferError(Fault.ALREADY_EXISTS, f"shared memory region '{name}' already in manager")
        if len(self._regions) >= self._most:
            raise InferError(
                Fault.UNAVAILABLE,
                f"failed to register shared memory region '{name}': there are {self._most} regions already",
            )
        self._regions[name] = map_region(name, key, offset, byte_size)

    def unregister(self, name: str) -> None:
        """Forget a region, all of them for an empty name; one that is not known is forgotten already."""
        self.check_allowed()
        if name:
            self._regions.pop(name, None)
        else:
            self._regions.clear()

    def status(self, name: str) -> Sequence[Region]:
        """Return a region, all of them in the order of their names for an empty name; raises InferError."""
        if not name:
            return [self._regions[each] for each in sorted(self._regions)]
        if name not in self._regions:
            raise InferError(Fault.NOT_FOUND, f"Unable to find system shared memory region: '{name}'")
        return [self._regions[name]]

    def register_cuda(self, name: str) -> None:
        """Refuse a region on a GPU; always raises InferError."""
        self.check_named(name, "cuda")
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

    def _find(self, part: RegionPart) -> Region:
        region = self._regions.get(part.region)
        if region is None:
            raise unknown_region(part.region)
        return region


def _most_regions() -> int:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return MAX_REGIONS
    return min(MAX_REGIONS, descriptors // (SHARE_OF_DESCRIPTORS * DESCRIPTORS))
