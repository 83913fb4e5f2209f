"""The log settings of the protocol: what they are called there, and how the server's settings follow them.

Where the log goes is not among them: a path never comes over the network.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from ..proto.errors import Fault, InferError
from .settings import LogFormat, LogSettings

MAX_VERBOSITY: Final = 2**31 - 1

Value = bool | int | str

KINDS: Final[Mapping[str, type[Value]]] = {
    "log_info": bool,
    "log_warning": bool,
    "log_error": bool,
    "log_verbose_level": int,
    "log_format": str,
}
"""The settings that may be changed, by the type of their values."""


def members(settings: LogSettings) -> dict[str, Value]:
    """Return the settings as both protocols tell them."""
    return {
        "log_file": "" if settings.file is None else str(settings.file),
        "log_info": settings.info,
        "log_warning": settings.warning,
        "log_error": settings.error,
        "log_verbose_level": settings.verbose,
        "log_format": settings.format.value,
    }


def file_refused() -> InferError:
    """Return the error of whoever would choose where the log goes."""
    return InferError(Fault.UNSUPPORTED, "log file location can not be updated through network protocol")


def changed(
    settings: LogSettings, values: Mapping[str, Value], bad_format: Callable[[str], InferError]
) -> LogSettings:
    """Return the settings after a change of those in `KINDS`; raises what `bad_format` returns."""
    changes: dict[str, Any] = {name.removeprefix("log_"): value for name, value in values.items()}
    if "verbose_level" in changes:
        changes["verbose"] = min(changes.pop("verbose_level"), MAX_VERBOSITY)
    if "format" in changes:
        try:
            changes["format"] = LogFormat(changes["format"])
        except ValueError:
            raise bad_format(changes["format"]) from None
    return replace(settings, **changes)
