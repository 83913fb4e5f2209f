"""The header that tells where the JSON of a body ends: `Inference-Header-Content-Length`."""

import re
from typing import Final

from ..errors import invalid

HEADER: Final = "Inference-Header-Content-Length"

_INTEGER: Final = re.compile(r"[ \t-\r]*([+-]?[0-9]+)")
"""What C++'s `stoi` reads, with which Triton parses the header: anything may follow."""

_MIN: Final = -(2**31)
_MAX: Final = 2**31 - 1
_MAX_DIGITS: Final = 4000
"""Python refuses to read longer numbers; they are out of range anyway."""


def parse_json_length(text: str | None, content_length: int) -> int | None:
    """Return the bytes of JSON at the head of a body, None where the header is absent: then all of it is.

    0 says that the whole body is the data of the model's only input. Raises InferError where the header is no
    number, or one beyond the body's length.
    """
    if text is None:
        return None
    match = _INTEGER.match(text)
    if match is None:
        raise invalid(f"Unable to parse {HEADER}, got: {text}")
    digits = match[1]
    length = int(digits) if len(digits) <= _MAX_DIGITS else _MAX + 1
    if not _MIN <= length <= _MAX:
        raise invalid(f"Unable to parse {HEADER}, value is out of range [ {_MIN}, {_MAX} ], got: {text}")
    if not 0 <= length <= content_length:
        raise invalid(f"inference header size should be in range (0, {content_length}), got: {text}")
    return length
