"""Headers that go to the model: which of those a client sent become parameters of its request."""

import re
from collections.abc import Iterable
from typing import Final

from ..proto.errors import invalid
from ..proto.reserved_parameters import RESERVED_PREFIX

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


_FLAGS_OFF: Final = re.compile(r"\(\?-([ims]+)\)")
"""What a pattern of RE2, which is Triton's, may begin with; `re` knows it only for a part of a pattern."""


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return a pattern, found in any case unless it begins with `(?-i)`; raises re.error."""
    off = _FLAGS_OFF.match(pattern)
    return re.compile(f"(?-{off[1]}:{pattern[off.end() :]})" if off else pattern, re.IGNORECASE)


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
