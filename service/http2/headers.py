"""Header blocks: HPACK by the `hpack` package, and a memory that spares most of it.

A block means the same as long as the dynamic table it refers to stays as it is. gRPC's clients send the same
few headers with each request: after the first ones they are all in the table, and every further request
brings the very same bytes. So both directions remember what a block means until the table changes.
"""

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from hpack import Decoder, Encoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from .errors import ConnectionFault, ErrorCode, calm_down

T = TypeVar("T")

Header = tuple[bytes, bytes]
Fields = tuple[tuple[str, str], ...]

MAX_TABLE_SIZE: Final = 4096
"""Bytes of either dynamic table: the default of HTTP/2, which nobody has reason to exceed."""
MAX_LIST_SIZE: Final = 16 * 1024
"""Bytes of headers that a request may have, counted as RFC 7541 counts them; clients are told."""
_INDEX_SIZE_UPDATE: Final = 0x20
_INDEX_MASK: Final = 0xE0
_MOST_REMEMBERED: Final = 64
"""Blocks that are remembered in each direction."""
_LONGEST_REMEMBERED: Final = 1024


class HeadersTooLargeError(Exception):
    """A request has more headers than it may; the connection is none the worse for it."""


class _Table(HeaderTable):
    """A dynamic table that counts what becomes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        """Take an entry."""
        self.changes += 1
        super().add(name, value)


class HeaderReader(Generic[T]):
    """Reads the blocks of one client; `read` makes of the headers of a request what its user wants."""

    __slots__ = ("_decoder", "_memory", "_read", "_table")

    def __init__(self, read: Callable[[Sequence[Header]], T]) -> None:
        self._read = read
        # Beyond what a request may have, reading goes on for a while: the table must stay in step.
        self._decoder = Decoder(max_header_list_size=4 * MAX_LIST_SIZE)
        self._decoder.header_table = self._table = _Table()
        self._decoder.max_allowed_table_size = MAX_TABLE_SIZE
        self._memory: dict[bytes, T] = {}

    def request(self, block: bytes) -> T:
        """Return what a block of a request means.

        Raises ConnectionFault for one that is no HPACK, HeadersTooLargeError, and whatever `read` raises.
        """
        known = self._memory.get(block)
        if known is not None:
            return known
        changes = self._table.changes
        meant = self._read(self.headers(block))
        if self._table.changes == changes and len(block) <= _LONGEST_REMEMBERED:
            if len(self._memory) >= _MOST_REMEMBERED:
                self._memory.clear()
            self._memory[block] = meant
        return meant

    def headers(self, block: bytes) -> Sequence[Header]:
        """Return the headers of a block; raises ConnectionFault and HeadersTooLargeError."""
        changes = self._table.changes
        try:
            headers: Sequence[Header] = list(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError:
            raise calm_down("far too many headers") from None
        except (HPACKError, ValueError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, str(error)[:200]) from None
        if self._table.changes != changes or (block and block[0] & _INDEX_MASK == _INDEX_SIZE_UPDATE):
            self._memory.clear()
        if sum([len(name) + len(value) + 32 for name, value in headers]) > MAX_LIST_SIZE:
            raise HeadersTooLargeError
        return headers


class HeaderWriter:
    """Writes the blocks for one client."""

    __slots__ = ("_encoder", "_memory", "_table")

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._encoder.header_table = self._table = _Table()
        self._memory: dict[Fields, bytes] = {}

    def resize(self, most: int) -> None:
        """Hear how large a table the client keeps."""
        self._encoder.header_table_size = min(most, MAX_TABLE_SIZE)
        self._memory.clear()

    def constant(self, fields: Fields) -> bytes:
        """Return the block of headers that are sent again and again, and go into the client's table."""
        known = self._memory.get(fields)
        if known is not None:
            return known
        changes, resized = self._table.changes, self._table.resized
        block: bytes = self._encoder.encode(fields)
        if self._table.changes != changes:
            self._memory.clear()
        elif not resized:
            self._memory[fields] = block
        return block

    def once(self, fields: Fields) -> bytes:
        """Return the block of headers that no other block will have; the client's table stays as it is."""
        block: bytes = self._encoder.encode([(name, value, True) for name, value in fields])
        return block
