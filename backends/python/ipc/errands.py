"""What the server asks of a fork server, and what it hears from it; each is one packet on a socket of their own."""

from enum import IntEnum
from typing import Final


class Errand(IntEnum):
    """The kinds of packets."""

    START = 0
    """Number and name of a worker; beside it its end of the socket, its standard output and standard error."""
    KILL = 1
    """Process of a worker that is to end now, with all that it has started."""

    STARTED = 2
    """Number and process of a worker."""
    ENDED = 3
    """Process, wait status, whether it was ended because somebody had stopped it."""


PACKET: Final = 4096
"""Bytes of the largest packet."""
