"""How much memory the server takes, with its worker processes; and how what was let go is given back."""

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

LARGE_BLOCK: Final = 1 << 20

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_M_MMAP_THRESHOLD: Final = -3


def resident_bytes() -> int:
    """Return the bytes that this process and all its descendants hold in memory; blocks a moment."""
    return sum(_resident_of(pid) for pid in _family(os.getpid()))


def return_large_blocks() -> None:
    """Have memory of a megabyte and more taken from the system and returned to it block by block.

    Else glibc, once a large block was freed, takes others like it from its own heaps, and keeps up to twice
    as much at the top of each: what a model let go would stay with the server.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)


def give_back(*, thoroughly: bool = False) -> None:
    """Return to the system what nobody uses any more, thoroughly with what only circles hold; blocks."""
    if thoroughly:
        gc.collect()
    with suppress(OSError, AttributeError):  # another C library has no such call
        ctypes.CDLL(None).malloc_trim(0)


def size_on_disk(directory: Path) -> int:
    """Return the bytes of all files beneath a directory; blocks."""
    total = 0
    for path in directory.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _resident_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):  # it has ended meanwhile
        return 0


def _family(pid: int) -> list[int]:
    found = [pid]
    for member in found:
        with suppress(OSError):
            for task in Path(f"/proc/{member}/task").iterdir():
                with suppress(OSError):
                    found += map(int, (task / "children").read_text().split())
    return found
