"""From the pieces of a body to the messages in it, each copied once at most: when its pieces are joined."""

from typing import NamedTuple

from ....proto.kserve_grpc import MAX_MESSAGE_SIZE
from ...http2.stream import Buffer
from ..status import Status
from .packing import PREFIX, CallRefusedError, too_large


class Incoming(NamedTuple):
    """A message as it travelled."""

    packed: bool
    body: Buffer


class MessageReader:
    """Reads the body of one call."""

    __slots__ = ("_begun", "_length", "_packed", "_pieces", "held")

    def __init__(self) -> None:
        self._begun = b""
        """What came of the five bytes before a message."""
        self._length = -1
        """How long the message is that is coming in; -1 while that is not known."""
        self._packed = False
        self._pieces: list[Buffer] = []
        self.held = 0
        """Bytes of the message that came so far."""

    @property
    def is_clean(self) -> bool:
        """Whether no message has begun and not ended."""
        return self._length < 0 and not self._begun

    def read(self, piece: Buffer) -> list[Incoming]:
        """Return the messages that a piece completes; raises CallRefusedError."""
        messages: list[Incoming] = []
        while True:
            if self._length < 0:
                if self._begun:
                    piece = self._begun + bytes(piece)
                if len(piece) < PREFIX.size:
                    self._begun = bytes(piece)
                    return messages
                self._begun = b""
                self._begin(piece)
                piece = piece[PREFIX.size :]
            left = self._length - self.held
            size = len(piece)
            if size < left:
                if size:
                    self._pieces.append(piece)
                    self.held += size
                return messages
            body = piece if size == left else piece[:left]
            if self._pieces:
                self._pieces.append(body)
                body = b"".join(self._pieces)
                self._pieces.clear()
            messages.append(Incoming(self._packed, body))
            self._length = -1
            self.held = 0
            if size == left:
                return messages
            piece = piece[left:]

    def _begin(self, piece: Buffer) -> None:
        flag, self._length = PREFIX.unpack_from(piece)
        if flag > 1:
            raise CallRefusedError(Status.INTERNAL, f"Bad gRPC frame type 0x{flag:02x}")
        if self._length > MAX_MESSAGE_SIZE:
            raise too_large(self._length)
        self._packed = bool(flag)
