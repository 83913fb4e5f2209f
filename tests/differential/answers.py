"""What a server answered, in a form in which two servers can be compared."""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

CHANGING: Final = frozenset({"ns", "last_inference"})
"""Members whose values are times."""

_NUMBER: Final = re.compile(r"\d+")
_QUOTED: Final = re.compile(r"'[^']*'")


@dataclass(frozen=True, slots=True)
class Answer:
    """The status with what is said about the body, and the body as text."""

    status: str
    said: str

    def __str__(self) -> str:
        return f"{self.status} {self.said}".rstrip()

    def shape(self) -> str:
        """Return the answer without its numbers and names: equal for answers of the same class."""
        return _NUMBER.sub("#", _QUOTED.sub("'…'", str(self)))[:300]

    def parts(self) -> list[str]:
        """Return what is said line by line, each with the status before it: a stream says several things."""
        return [f"{self.status} {line}".rstrip() for line in self.said.split("\n") or [""]]


def plain(document: Any) -> str:  # noqa: ANN401 - JSON is anything
    """Return a document as text; members keep their order but for those of parameters; times are left out."""
    return json.dumps(_without_times(document), ensure_ascii=False)


def _comparable(name: str, value: Any) -> Any:  # noqa: ANN401 - JSON is anything
    """Return a member without what may differ: a time, the order of parameters."""
    if name in CHANGING:
        return "…"
    if name == "parameters" and isinstance(value, dict):
        return dict(sorted(value.items()))
    return value


def _without_times(value: Any) -> Any:  # noqa: ANN401 - JSON is anything
    if isinstance(value, dict):
        return {name: _without_times(_comparable(name, inner)) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_times(inner) for inner in value]
    return value
