"""A finding: one thing that is wrong with a repository, where it is, and what would mend it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Final

from ...backends.catalog import ENTRIES
from ...proto.config import Complaint, ConfigError
from ...proto.errors import InferError
from ...proto.schema import model_config_pb2 as pb


class Severity(Enum):
    """What a finding means for the server."""

    ERROR = "error"
    """The model cannot be loaded."""
    WARNING = "warning"
    """It may be; something could not be looked at, or is not as it seems."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or could not be found out."""

    model: str
    severity: Severity
    message: str
    file: str = ""
    line: int = 0
    """Counted from 1, as is the column; 0 where there is no text to point at."""
    column: int = 0
    fix: str = ""
    """What to do about it; empty where the message says it all."""

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file or self.model, self.line, self.column) if part)
        fix = f"\n    fix: {self.fix}" if self.fix else ""
        return f"{where}: {self.severity.value}: {self.message}{fix}"


def findings_of(model: str, error: InferError) -> Iterator[Finding]:
    """Yield what an error says of a model: each complaint about its configuration, or the error itself."""
    if not isinstance(error, ConfigError):
        yield Finding(model, Severity.ERROR, error.message, fix=fix_of(error.message))
        return
    for each in error.complaints:
        yield _located(model, each)


def _located(model: str, complaint: Complaint) -> Finding:
    return Finding(
        model,
        Severity.ERROR,
        complaint.message,
        complaint.file,
        complaint.line,
        complaint.column,
        fix_of(complaint.message),
    )


def fix_of(message: str) -> str:
    """Return what mends the mistakes that are made most often; empty for the others."""
    unknown = _UNKNOWN_FIELD.search(message)
    if unknown is not None:
        return _alike(unknown[2], _fields_of(unknown[1]))
    unknown = _UNKNOWN_VALUE.search(message)
    if unknown is not None:
        return _alike(unknown[2], _values_of(unknown[1]))
    return next((fix for part, fix in _FIXES if part in message), "")


_UNKNOWN_FIELD: Final = re.compile(r'Message type "inference\.([\w.]+)" has no field named "(\w+)"')
_UNKNOWN_VALUE: Final = re.compile(r'Enum type "inference\.([\w.]+)" has no value named (\w+)')

_FIXES: Final = (
    ("directory name must equal model name", "leave `name` out, or rename the directory"),
    ("must specify 'platform' or 'backend'", 'say what the model is, for example backend: "onnxruntime"'),
    (
        "unable to find backend library",
        f"the backends are {', '.join(sorted(ENTRIES))}",
    ),
    ("not UTF-8 text", "save the file as UTF-8"),
    ("unable to find '", "put the model file there, or name it with `default_model_filename`"),
    ("neither a configuration", "put the model's files into a directory named 1, or write config.pbtxt"),
    ("'max_batch_size' must be non-negative", "0 is for models that do not batch"),
)
"""What a message contains → what mends it; the first that fits."""


def _alike(word: str, known: list[str]) -> str:
    alike = get_close_matches(word, known, 1)
    return f"did you mean {alike[0]}?" if alike else f"one of {', '.join(sorted(known))}"


def _fields_of(message_type: str) -> list[str]:
    kind = pb.DESCRIPTOR.pool.FindMessageTypeByName(f"inference.{message_type}")
    return [field.name for field in kind.fields]


def _values_of(enum_type: str) -> list[str]:
    kind = pb.DESCRIPTOR.pool.FindEnumTypeByName(f"inference.{enum_type}")
    return [value.name for value in kind.values]
