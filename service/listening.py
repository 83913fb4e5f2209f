"""A socket to listen at, how its place is kept before, and what is said when that cannot be.

A server loads its models before it listens, which may take minutes. A `Reservation` takes the place before
that: it is bound, so nobody else can have it, and nobody listens there yet, so a client that tries is refused
as long as the server is not there.
"""

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

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


class Reservation:
    """A place that is kept for whoever will listen there."""

    __slots__ = ("_sockets", "place")

    def __init__(self, at: ListenAt) -> None:
        """Keep a place; raises InferError where somebody listens there, or nobody can."""
        self._sockets: list[socket.socket] = []
        self.place = at
        """Where it is, with the port that was picked where any would do."""
        try:
            self._bind()
        except OSError as error:
            self.release()
            raise not_listening(at.named(at.port), error) from error

    def _bind(self) -> None:
        if self.place.path:
            check_free(self.place.path)
            return
        for each in _reusable_sockets(self.place):
            self._sockets.append(each.socket)
            each.socket.bind((each.host, self.place.port, *each.scope))
            self.place = replace(self.place, port=each.socket.getsockname()[1])
            each.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)

    def make_way(self) -> None:
        """Let another socket have the place too, which is about to listen there."""
        for each in self._sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def release(self) -> None:
        """Give the place up, or leave it to whoever listens there by now."""
        while self._sockets:
            self._sockets.pop().close()


class _Unbound(NamedTuple):
    """A socket for one address of a place."""

    socket: socket.socket
    host: str
    scope: tuple[int, ...]


def _reusable_sockets(at: ListenAt) -> Iterator[_Unbound]:
    """Yield a socket for each address of a place, which may have it although old connections linger there."""
    found = socket.getaddrinfo(at.address or None, at.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, address in found:
        try:
            made = socket.socket(family, kind, protocol)
        except OSError:  # the machine does not speak IPv6: nobody will listen there either
            continue
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if at.reuse_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        host, _, *scope = address
        yield _Unbound(made, str(host), tuple(map(int, scope)))


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
