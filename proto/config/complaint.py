"""What is wrong with a model configuration, and where: `Complaint`, and the error that carries all."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from ..errors import Fault, InferError

_LAST_SEGMENT: Final = re.compile(r'(?:^|\.)[^.\[\]"]+$|\[(?:\d+|"(?:[^"\\]|\\.)*")\]$')

MAX_QUOTING_MESSAGE: Final = 400


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that is wrong with a configuration.

    `str()` of it is `file:line:column: message`, as editors understand it.
    """

    message: str
    path: str = ""
    """The field, such as `input[0].dims` or `parameters["key"]`; empty means the whole configuration."""
    file: str = ""
    line: int = 0
    """The line, counted from 1, as is the column; 0 where there is no text to point at."""
    column: int = 0

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return f"{where}: {self.message}" if where else self.message

    def shortened(self) -> Self:
        """Return the complaint with no more of its message than a reader can use: it may quote a text."""
        if len(self.message) <= MAX_QUOTING_MESSAGE:
            return self
        return replace(self, message=f"{self.message[:MAX_QUOTING_MESSAGE]}…")


class ConfigError(InferError):
    """A configuration that cannot be used: the message is the first complaint's, `complaints` has all."""

    __slots__ = ("complaints",)

    def __init__(self, complaints: Sequence[Complaint]) -> None:
        super().__init__(Fault.INVALID_ARG, complaints[0].message)
        self.complaints = tuple(complaints)

    @property
    def report(self) -> str:
        """All complaints with their places, one a line."""
        return "\n".join(map(str, self.complaints))


def entry(key: str | int) -> str:
    """Return the end of a path that leads to the entry of a map or a list."""
    return f"[{json.dumps(key, ensure_ascii=False)}]"


def parent(path: str) -> str:
    """Return the path of what encloses a field; `input[0]` lies in `input`, and `input` in the empty path."""
    return _LAST_SEGMENT.sub("", path)
