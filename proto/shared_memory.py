"""Shared memory as requests speak of it: parts of regions that a client has registered under a name.

A codec reads where a tensor lies, and asks whoever keeps the regions for the bytes; what a region is made of
is none of its business. The texts are those of Triton's `shared_memory_manager.cc`.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from .datatypes import Datatype
from .errors import Fault, InferError, internal, invalid
from .tensor import Raw, Shape, Tensor

RESERVED_PREFIXES: Final = ("triton_python_backend_shm_region_", "deuteron_", "sem.")
"""How the names of segments begin that belong to a server, or are no memory but semaphores."""

MAX_NAME: Final = 1024
"""Characters of a region's name, and of its key; file names end at 255 bytes anyway."""

_LARGEST: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class RegionPart:
    """Where a tensor is said to lie; all that is known of the numbers is that they are not negative."""

    region: str
    offset: int
    byte_size: int

    def check_within(self, region_size: int) -> None:
        """Raise InferError unless this part lies in a region of so many bytes."""
        if self.offset >= region_size:
            raise invalid(f"Invalid offset for shared memory region: '{self.region}'")
        end = self.offset + self.byte_size
        if end > _LARGEST:
            raise invalid(
                f"Integer overflow detected: byte_size ({self.byte_size}) + offset ({self.offset}) exceeds "
                f"maximum value ({_LARGEST}) for region '{self.region}'"
            )
        if end > region_size:
            raise out_of_bounds(self.region)


class Destination(Protocol):
    """Where an output goes."""

    @property
    def byte_size(self) -> int:
        """Bytes there is room for."""

    def write(self, raw: Raw) -> None:
        """Write elements that fit; raises InferError when the memory is not there any more."""


class Regions(Protocol):
    """Whoever keeps the registered regions."""

    def read(self, part: RegionPart) -> bytes:
        """Return what a part of a region holds now; raises InferError where there is no such part."""

    def destination(self, part: RegionPart) -> Destination:
        """Return a part of a region to write to; raises InferError where there is no such part."""


class _NoRegions:
    """The keeper of nothing."""

    def read(self, part: RegionPart) -> bytes:
        raise unknown_region(part.region)

    def destination(self, part: RegionPart) -> Destination:
        raise unknown_region(part.region)


NO_REGIONS: Final[Regions] = _NoRegions()


def read_tensor(regions: Regions, part: RegionPart, datatype: Datatype, shape: Shape) -> Tensor:
    """Return the tensor that lies in a part of a region; raises InferError.

    It is a copy: what a client shares it can change, and take away, while a model looks at it.
    """
    return Tensor(datatype, shape, regions.read(part))


def write_tensor(name: str, tensor: Tensor, destination: Destination) -> None:
    """Write an output to where the client wants it; raises InferError where it does not fit."""
    size = tensor.byte_size
    if size > destination.byte_size:
        raise internal(
            f"shared memory size specified with the request for output '{name}' ({destination.byte_size} "
            f"bytes) should be at least {size} bytes to hold the results"
        )
    if size:
        destination.write(tensor.raw)


def segment_name(region: str, key: str) -> str:
    """Return the name of the segment that a key means: what is left without the slashes before it.

    Raises InferError for keys under which no client may register, and for those that could not be shown.
    """
    name = key.lstrip("/")
    if not name or not _is_showable(key):
        raise invalid(f"cannot register shared memory region '{region}' - invalid shm key '{key[:MAX_NAME]}'")
    for prefix in RESERVED_PREFIXES:
        if name.startswith(prefix):
            raise invalid(
                f"cannot register shared memory region '{region}' with key '{key}' as the key contains the "
                f"reserved prefix '{prefix}'"
            )
    return name


def check_region_name(region: str) -> None:
    """Raise InferError for a name that could not be shown in a list of regions."""
    if not _is_showable(region):
        raise invalid(f"invalid name of a shared memory region: '{region[:MAX_NAME]}'")


def _is_showable(text: str) -> bool:
    return len(text) <= MAX_NAME and not any("\ud800" <= character <= "\udfff" for character in text)


def unknown_region(region: str) -> InferError:
    """Return the error of a request that names a region which nobody has registered."""
    return InferError(Fault.NOT_FOUND, f"Unable to find shared memory region: '{region}'")


def out_of_bounds(region: str) -> InferError:
    """Return the error of a part that goes beyond the end of its region."""
    return invalid(f"Invalid offset + byte size for shared memory region: '{region}'")
