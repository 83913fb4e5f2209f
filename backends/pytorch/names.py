"""Which name of a configuration means which argument or result of a PyTorch model.

PyTorch knows arguments and results by their places. A configuration has names, and three ways to tell the
place of each, tried in this order: all names are ones the model uses itself; all end in `__<place>`; or the
order of the configuration is the order of the model.
"""

import re
from collections.abc import Sequence
from typing import Final

_INDEXED: Final = re.compile(r"(?:(?!__).)*__(\d+)", re.DOTALL)


def places(names: Sequence[str], *conventions: Sequence[str]) -> dict[str, int]:
    """Return the place of each name, counted from 0.

    Each convention lists names that the model uses itself, in the order of their places.
    """
    for convention in conventions:
        if set(names) <= set(convention):
            return {name: convention.index(name) for name in names}
    indexed = {name: match for name in names if (match := _INDEXED.fullmatch(name))}
    if len(indexed) == len(names):
        return {name: int(match[1]) for name, match in indexed.items()}
    return {name: place for place, name in enumerate(names)}
