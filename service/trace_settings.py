"""The trace settings of the protocol: what they are called there, and which of them hold.

There are settings for all models, and for single models settings of their own. A field that a model does not
specify follows the settings for all; one that those do not specify is what the command line said. Where
traces go is not among the fields: a path never comes over the network.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from ..actors.repository import Repository
from ..proto.errors import Fault, InferError, invalid
from ..proto.trace_level import TraceLevel
from .settings import TraceMode, TraceSettings

_UINT32_MAX: Final = 2**32 - 1
_INT32_MAX: Final = 2**31 - 1
_NUMBER: Final = re.compile(r"\s*([+-]?[0-9]+)")

Changes = Mapping[str, Any]
"""New values by the names of the fields of `TraceSettings`; None lets go of what was specified."""


@dataclass(frozen=True, slots=True)
class Specified:
    """The settings that hold somewhere, and which of their fields were specified there."""

    settings: TraceSettings
    fields: frozenset[str] = frozenset()

    def changed(self, changes: Changes, fallback: TraceSettings) -> "Specified":
        """Return what holds after a change; raises InferError for what cannot hold together."""
        named = {name for name, value in changes.items() if value is not None}
        let_go = changes.keys() - named
        fields = (self.fields | named) - let_go
        kept: dict[str, Any] = {
            name: changes[name] if name in named else getattr(self.settings, name) for name in fields
        }
        settings = replace(fallback, **kept)
        _check(settings)
        return Specified(settings, frozenset(fields))


def _check(settings: TraceSettings) -> None:
    if settings.level is TraceLevel.OFF:
        return
    reason = ""
    if not settings.rate:
        reason = "sample rate must be non-zero"
    elif settings.mode is TraceMode.TRITON and settings.file is None:
        reason = "trace file name is not given"
    if reason:
        raise invalid(f"Attempting to set invalid trace setting :{reason}")


def members(settings: TraceSettings) -> dict[str, str | list[str]]:
    """Return the settings as both protocols tell them."""
    told: dict[str, str | list[str]] = {
        "trace_level": level_names(settings.level),
        "trace_rate": str(settings.rate),
        "trace_count": str(settings.count),
    }
    if settings.mode is TraceMode.OPENTELEMETRY:
        told["trace_mode"] = settings.mode.value
        for name, value in asdict(settings.spans).items():
            if value:
                told[name] = ",".join(value) if isinstance(value, tuple) else str(value)
        return told
    told["log_frequency"] = str(settings.log_frequency)
    told["trace_file"] = "" if settings.file is None else str(settings.file)
    return told | {"trace_mode": settings.mode.value}


def level_names(level: TraceLevel) -> list[str]:
    """Return the names of what is traced."""
    return [name for name in ("TIMESTAMPS", "TENSORS") if level & TraceLevel[name]] or ["OFF"]


def check_model(repository: Repository, name: str) -> None:
    """Raise InferError for the name of a model that takes no requests; an empty name is that of no model."""
    if name and not repository.versions(name):
        raise invalid(f"Request for unknown model : {name}")


def file_refused() -> InferError:
    """Return the error of whoever would choose where traces go."""
    return InferError(Fault.UNSUPPORTED, "trace file location can not be updated through network protocol")


def read_level(names: Sequence[str]) -> TraceLevel | None:
    """Return the level that names stand for, None where there is none among them; raises InferError."""
    if "OFF" in names:
        if len(names) > 1:
            raise invalid("Expect only one trace level 'OFF' is specified")
        return TraceLevel.OFF
    level = TraceLevel.OFF
    for name in names:
        if name in ("TIMESTAMPS", "TENSORS"):
            level |= TraceLevel[name]
    return level or None


def read_numbers(texts: Mapping[str, str | None], too_low: str) -> dict[str, int | None]:
    """Return the numbers that texts by the names of the wire stand for; raises InferError.

    `too_low` is what follows the lowest count in the error of one that is lower.
    """
    return {
        field: None if texts[name] is None else read(name, texts[name] or "", too_low)
        for name, (field, read) in NUMBERS.items()
        if name in texts
    }


def _read_unsigned(name: str, text: str, _too_low: str) -> int:
    number = _number(name, text)
    if not 0 <= number <= _INT32_MAX:
        raise _out_of_range(name, 0, _UINT32_MAX, text)
    return number


def _read_count(name: str, text: str, too_low: str) -> int:
    number = _number(name, text)
    if not -_INT32_MAX - 1 <= number <= _INT32_MAX:
        raise _out_of_range(name, -1, _INT32_MAX, text)
    if number < -1:
        raise invalid(f"Unable to parse '{name}'. Expecting value >= -1{too_low}{text}")
    return number


def _number(name: str, text: str) -> int:
    """Return the number that a text begins with, as C reads one."""
    found = _NUMBER.match(text)
    if found is None:
        raise invalid(f"Unable to parse '{name}', got: {text}")
    digits = found[1]
    return int(digits) if len(digits) <= len(str(_UINT32_MAX)) + 1 else 2**63


def _out_of_range(name: str, low: int, high: int, text: str) -> InferError:
    return invalid(f"Unable to parse '{name}', value is out of range [ {low}, {high} ], got: {text}")


NUMBERS: Final[Mapping[str, tuple[str, Callable[[str, str, str], int]]]] = {
    "trace_rate": ("rate", _read_unsigned),
    "trace_count": ("count", _read_count),
    "log_frequency": ("log_frequency", _read_unsigned),
}
"""The name of a number on the wire: the field of `TraceSettings`, and how it is read."""
