"""A socket to listen at, and what is said when that cannot be."""

import errno
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..proto.errors import Fault, InferError

UNIX: Final = "unix:"
"""What an address begins with that is a path: `unix:/run/deuteron.sock`."""


@dataclass(frozen=True, slots=True)
class ListenAt:
    """A socket to listen at."""

    address: str
    port: int
    """0 picks a free one; a path has none."""
    reuse_port: bool = False

    @property
    def path(self) -> str:
        """The path of a Unix socket; empty for one of the network."""
        return self.address.removeprefix(UNIX) if self.address.startswith(UNIX) else ""

    def named(self, port: int) -> str:
        """Return the name of this place once its port is known."""
        return self.address if self.path else f"{self.address}:{port}"


def bound_to_path(path: str) -> socket.socket:
    """Return a Unix socket at a path, in the place of one that nobody listens at any more; raises OSError."""
    check_free(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if Path(path).is_socket():
            Path(path).unlink()
        bound.bind(path)
    except BaseException:
        bound.close()
        raise
    return bound


def remove(path: str) -> None:
    """Take a Unix socket off its path."""
    Path(path).unlink(missing_ok=True)


def check_free(path: str) -> None:
    """Raise OSError(EADDRINUSE) where somebody listens at a path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
        try:
            visitor.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return
    raise OSError(errno.EADDRINUSE, "somebody listens there")


def not_listening(where: str, error: OSError) -> InferError:
    """Return the error of a door that cannot open at an `address:port`."""
    if error.errno == errno.EADDRINUSE:
        return InferError(Fault.UNAVAILABLE, f"Socket '{where}' already in use ")
    return InferError(Fault.UNAVAILABLE, f"cannot listen at '{where}': {error.strerror or error}")
