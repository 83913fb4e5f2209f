"""The face of a store that keeps sequences where other servers find them.

Who implements it knows networks, and lives on another floor. It is asked on lanes: every call blocks, not for
long, and may come from several threads at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class SequenceStoreError(Exception):
    """The store did not answer, or not what it should; nobody knows what became of the call."""


@dataclass(frozen=True, slots=True)
class Put:
    """Write a record under a key."""

    key: str
    spelt: bytes
    """See `proto/sequence_record`."""
    replaces: bytes | None
    """The token that must stand there now; None where anything may, also nothing."""
    keep_ms: int
    """After so many milliseconds it is forgotten, unless it was written anew."""


class SequenceStore(Protocol):
    """Keeps the records of sequences."""

    largest: int
    """Bytes that a record may have."""

    def tokens(self, keys: Sequence[str]) -> Sequence[bytes]:
        """Return the token under each key, empty bytes where nothing is; raises SequenceStoreError."""

    def records(self, keys: Sequence[str]) -> Sequence[bytes]:
        """Return what is kept under each key, empty bytes where nothing is; raises SequenceStoreError."""

    def write(self, puts: Sequence[Put]) -> Sequence[bool]:
        """Write records, and tell which were; raises SequenceStoreError.

        One that is written already, by an earlier attempt, counts as written.
        """
