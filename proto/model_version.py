"""The version in a path or a message: text that names a version, or the latest where it is empty."""

import re
from typing import Final

from .errors import invalid
from .message import LATEST

_INTEGER: Final = re.compile(r"[ \t-\r]*([+-]?[0-9]+)")
"""What C's `strtol` reads, with which Triton parses versions: anything may follow."""

_MAX_DIGITS: Final = 20
_MAX_VERSION: Final = 2**63 - 1


def parse_model_version(text: str) -> int:
    """Return the version that a text names, `LATEST` for the empty text; raises InferError."""
    if not text:
        return LATEST
    match = _INTEGER.match(text)
    if match is None or len(match[1]) > _MAX_DIGITS or abs(version := int(match[1])) > _MAX_VERSION:
        raise invalid(
            f"failed to get model version from specified version string '{text}' (details: stol), version "
            "should be an integral value > 0"
        )
    if version < 0:
        raise invalid(f"invalid model version specified '{text}' , version should be an integral value > 0")
    return version
