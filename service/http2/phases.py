"""The lives of a connection and of a stream, as tables: (state, event) → state.

What a table does not know, the client must not do: which error that is, and how far it reaches, is decided
where the frame is read.
"""

from enum import Enum
from typing import Final


class ConnectionPhase(Enum):
    """Where a connection stands."""

    FRESH = "fresh"
    GREETED = "greeted"
    OPEN = "open"
    LEAVING = "leaving"
    CLOSED = "closed"

    # Looked up for every frame; Enum's own hash is Python code.
    __hash__ = object.__hash__


class ConnectionEvent(Enum):
    """What can happen to a connection."""

    PREFACE = "preface"
    SETTINGS = "settings"
    GOAWAY = "goaway sent"
    ENDED = "ended"

    __hash__ = object.__hash__


class StreamPhase(Enum):
    """Where a stream stands, as a server sees it (RFC 9113, section 5.1)."""

    IDLE = "idle"
    OPEN = "open"
    HALF_CLOSED_REMOTE = "half-closed (remote)"
    HALF_CLOSED_LOCAL = "half-closed (local)"
    CLOSED = "closed"

    __hash__ = object.__hash__


class StreamEvent(Enum):
    """What can happen to a stream."""

    HEADERS = "headers"
    CLIENT_ENDED = "client ended"
    SERVER_ENDED = "server ended"
    RESET = "reset"

    __hash__ = object.__hash__


CONNECTION: Final = {
    (ConnectionPhase.FRESH, ConnectionEvent.PREFACE): ConnectionPhase.GREETED,
    (ConnectionPhase.FRESH, ConnectionEvent.ENDED): ConnectionPhase.CLOSED,
    (ConnectionPhase.GREETED, ConnectionEvent.SETTINGS): ConnectionPhase.OPEN,
    (ConnectionPhase.GREETED, ConnectionEvent.ENDED): ConnectionPhase.CLOSED,
    (ConnectionPhase.OPEN, ConnectionEvent.GOAWAY): ConnectionPhase.LEAVING,
    (ConnectionPhase.OPEN, ConnectionEvent.ENDED): ConnectionPhase.CLOSED,
    (ConnectionPhase.LEAVING, ConnectionEvent.ENDED): ConnectionPhase.CLOSED,
}
"""The life of a connection."""

STREAM: Final = {
    (StreamPhase.IDLE, StreamEvent.HEADERS): StreamPhase.OPEN,
    (StreamPhase.OPEN, StreamEvent.CLIENT_ENDED): StreamPhase.HALF_CLOSED_REMOTE,
    (StreamPhase.OPEN, StreamEvent.SERVER_ENDED): StreamPhase.HALF_CLOSED_LOCAL,
    (StreamPhase.OPEN, StreamEvent.RESET): StreamPhase.CLOSED,
    (StreamPhase.HALF_CLOSED_REMOTE, StreamEvent.SERVER_ENDED): StreamPhase.CLOSED,
    (StreamPhase.HALF_CLOSED_REMOTE, StreamEvent.RESET): StreamPhase.CLOSED,
    (StreamPhase.HALF_CLOSED_LOCAL, StreamEvent.CLIENT_ENDED): StreamPhase.CLOSED,
    (StreamPhase.HALF_CLOSED_LOCAL, StreamEvent.RESET): StreamPhase.CLOSED,
}
"""The life of a stream."""
