"""The board: one small piece of memory in which each side tells the other what cannot wait for a message.

It holds three rows of marks, a byte each. A mark is raised by one side and taken down by the other, so
neither ever waits and no message is spent on it:

* *cancelled*: the server raises the mark of a request whose client is gone;
* *requests*: blocks of the arena that the server writes; raised while the worker uses a block;
* *responses*: the same for the arena that the worker writes.

Behind them stands the number of the batch that the worker has begun last.

The code of a model can write here what it likes. That costs itself its own tensors, and nobody else anything:
no address and no size is ever read from the board.
"""

import fcntl
import mmap
import os
import struct
from typing import Final

MARKS: Final = 16_384
"""Marks in a row: so many blocks or requests can be out at a time."""
ROWS: Final = 3
SIZE: Final = MARKS * ROWS + 8

_number = struct.Struct("<Q")


class Board:
    """The marks that a server shares with one worker."""

    __slots__ = ("_begun", "_map", "cancelled", "requests", "responses")

    def __init__(self, descriptor: int) -> None:
        """Map the memory; the descriptor stays the caller's."""
        self._map = mmap.mmap(descriptor, SIZE)
        whole = memoryview(self._map)
        self.cancelled, self.requests, self.responses = (
            whole[row * MARKS : (row + 1) * MARKS] for row in range(ROWS)
        )
        self._begun = whole[ROWS * MARKS :]

    def close(self) -> None:
        """Unmap the memory; nobody may look at a row any more."""
        for row in (self.cancelled, self.requests, self.responses, self._begun):
            row.release()
        self._map.close()

    @property
    def begun(self) -> int:
        """The number of the batch that was begun last; 0 before the first."""
        number: int = _number.unpack(self._begun)[0]
        return number

    def begin(self, number: int) -> None:
        """Say that a batch is begun."""
        _number.pack_into(self._begun, 0, number)


def make_board() -> int:
    """Return the descriptor of the memory of a new board: it has no name, and nobody can make it smaller."""
    return sealed_memory("deuteron-board", SIZE)


def sealed_memory(label: str, size: int) -> int:
    """Return the descriptor of new memory of a size that cannot change; the label is for people only."""
    descriptor = os.memfd_create(label, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor
