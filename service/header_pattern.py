"""The patterns that choose headers by their names, as the command line has them."""

import re
from typing import Final

_FLAGS_OFF: Final = re.compile(r"\(\?-([ims]+)\)")
"""What a pattern of RE2, which is Triton's, may begin with; `re` knows it only for a part of a pattern."""


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return a pattern, found in any case unless it begins with `(?-i)`; raises re.error."""
    off = _FLAGS_OFF.match(pattern)
    return re.compile(f"(?-{off[1]}:{pattern[off.end() :]})" if off else pattern, re.IGNORECASE)
