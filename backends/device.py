"""Where a model instance runs: a device, and the stream of work on it.

The host is a device like any other, with a stream on which nothing is ever pending. So there is one code path
for all instances; a GPU brings a stream of its own that `synchronize` really waits for.
"""

from dataclasses import dataclass
from typing import Final, Literal, Protocol

DeviceKind = Literal["CPU", "GPU", "MODEL"]
"""The instance kinds of Triton's configuration; MODEL leaves the placement to the model itself."""


@dataclass(frozen=True, slots=True)
class Device:
    """One place an instance can run on."""

    kind: DeviceKind = "CPU"
    ordinal: int = 0

    def __str__(self) -> str:
        return self.kind.lower() if self.kind != "GPU" else f"gpu:{self.ordinal}"


class Stream(Protocol):
    """An ordered queue of work on one device, owned by one lane."""

    def synchronize(self) -> None:
        """Wait until all work given to this stream is done."""


class HostStream:
    """The stream of the host: work is done when the call that did it returns."""

    __slots__ = ()

    def synchronize(self) -> None:
        """Return at once."""


HOST: Final = Device()
