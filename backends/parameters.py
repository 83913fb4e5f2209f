"""Model parameters and backend settings are text: read the numbers and choices that they mean."""

from collections.abc import Mapping

from ..proto.errors import invalid

_TRUE = frozenset({"true", "on", "1"})
_FALSE = frozenset({"false", "off", "0"})


def integer(values: Mapping[str, str], key: str, default: int) -> int:
    """Return the whole number under a key; raises InferError where the text is none."""
    text = values.get(key)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        raise invalid(f"failed to convert '{text}' to integral number") from None


def boolean(values: Mapping[str, str], key: str, *, default: bool) -> bool:
    """Return the truth value under a key; raises InferError where the text is none."""
    text = values.get(key)
    if text is None:
        return default
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise invalid(f"failed to convert '{text}' to boolean")
