"""One stream: where it stands, what it may still send and receive, and what waits to be sent."""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from .phases import STREAM, StreamEvent, StreamPhase

Buffer = bytes | bytearray | memoryview


class Exchange(Protocol):
    """What the user of a connection keeps for a stream, and is told of its client."""

    def data(self, piece: Buffer) -> None:
        """Take some of the body; it counts against the window until `Connection.consumed` is told."""

    def end(self) -> None:
        """Hear that the body is complete."""

    def reset(self) -> None:
        """Hear that nobody waits for this exchange any more; nothing can be sent on it."""

    def drained(self) -> None:
        """Hear that all that was to be sent has been sent, after something had to wait."""


@dataclass(frozen=True, slots=True)
class Block:
    """A header block that waits for its turn."""

    payload: bytes
    ends: bool


class Stream:
    """One stream of a connection."""

    __slots__ = (
        "eaten",
        "exchange",
        "id",
        "phase",
        "queue",
        "queued",
        "receive_window",
        "send_window",
    )

    def __init__(self, stream_id: int, send_window: int, receive_window: int) -> None:
        self.id = stream_id
        self.phase = StreamPhase.IDLE
        self.send_window = send_window
        self.receive_window = receive_window
        self.eaten = 0
        """Bytes that were consumed since the client was last allowed more."""
        self.queue: deque[Buffer | Block] | None = None
        """What waits for windows or for the transport."""
        self.queued = 0
        """Bytes of data in the queue."""
        self.exchange: Exchange | None = None

    def __repr__(self) -> str:
        return f"Stream({self.id}, {self.phase.value}, {self.queued} bytes wait)"

    def advance(self, event: StreamEvent) -> bool:
        """Let something happen; return whether the table allows it."""
        following = STREAM.get((self.phase, event))
        if following is None:
            return False
        self.phase = following
        return True

    @property
    def may_send(self) -> bool:
        """Whether this side has not ended yet."""
        return self.phase is StreamPhase.OPEN or self.phase is StreamPhase.HALF_CLOSED_REMOTE

    @property
    def may_receive(self) -> bool:
        """Whether the client has not ended yet."""
        return self.phase is StreamPhase.OPEN or self.phase is StreamPhase.HALF_CLOSED_LOCAL
