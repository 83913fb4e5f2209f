"""A socket to listen at, and what is said when that cannot be."""

import errno
from dataclasses import dataclass

from ..proto.errors import Fault, InferError


@dataclass(frozen=True, slots=True)
class ListenAt:
    """A socket to listen at."""

    address: str
    port: int
    """0 picks a free one."""
    reuse_port: bool = False


def not_listening(where: str, error: OSError) -> InferError:
    """Return the error of a door that cannot open at an `address:port`."""
    if error.errno == errno.EADDRINUSE:
        return InferError(Fault.UNAVAILABLE, f"Socket '{where}' already in use ")
    return InferError(Fault.UNAVAILABLE, f"cannot listen at '{where}': {error.strerror or error}")
