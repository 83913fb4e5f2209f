"""Headers that go to the model: which of those a client sent become parameters of its request."""

from collections.abc import Iterable
from typing import Final

from ..proto.errors import invalid
from ..proto.reserved_parameters import RESERVED_PREFIX
from .header_pattern import compile_pattern

_RESERVED: Final = frozenset(
    {
        "sequence_id",
        "sequence_start",
        "sequence_end",
        "priority",
        "timeout",
        "headers",
        "binary_data_output",
    }
)


class HeaderForwarding:
    """A pattern, found anywhere in the name of a header."""

    __slots__ = ("_search",)

    def __init__(self, pattern: str) -> None:
        self._search = compile_pattern(pattern).search

    def select(self, headers: Iterable[tuple[str | bytes, str | bytes]]) -> dict[str, str]:
        """Return the headers to forward; raises InferError for one whose name has a meaning of its own."""
        chosen: dict[str, str] = {}
        for key, value in headers:
            name = _text(key)
            if self._search(name) is None:
                continue
            if name in _RESERVED or name.startswith(RESERVED_PREFIX):
                raise invalid(f"Header '{name}' is reserved for Triton usage and cannot be forwarded.")
            chosen[name] = _text(value)
        return chosen


def _text(spelt: str | bytes) -> str:
    return spelt.decode(errors="replace") if isinstance(spelt, bytes) else spelt


def forwarding_of(pattern: str) -> HeaderForwarding | None:
    """Return what forwards the headers of a pattern; None where the pattern is empty."""
    return HeaderForwarding(pattern) if pattern else None
