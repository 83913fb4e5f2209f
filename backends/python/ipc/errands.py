"""What the server asks of a fork server, and what it hears from it: packets on a socket of their own."""

from enum import IntEnum
from typing import Final


class Errand(IntEnum):
    """The kinds of packets."""

    START = 0
    """Number and name of a worker; beside it its end of the socket, its standard output and error."""
    KILL = 1
    """Process of a worker that is to end, with all it has started; milliseconds it has to do so itself."""

    STARTED = 2
    """Number and process of a worker."""
    ENDED = 3
    """Process, wait status, and a `Cause`."""


class Cause(IntEnum):
    """Who brought a worker to its end."""

    OWN = 0
    """Itself, or whoever sent it a signal."""
    STOPPED = 1
    """The fork server, because somebody had stopped it."""
    WANTED = 2
    """The fork server, because the server wanted it."""


PACKET: Final = 4096
"""Bytes of the largest packet."""
