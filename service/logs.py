"""The log: one event is one line, in Triton's two forms or as a JSON object, whatever is in it.

Deuteron logs through structlog, libraries through the standard library; both end in one handler and one
formatter here. What callers send may stand in a line (a model's name, an error's message), so everything
unprintable is escaped and everything long is cut: nobody can forge a line, colour a terminal or fill a disk
with one event. A traceback becomes its frames, innermost first, so that it fits into its line.
"""

import logging
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

from .settings import LogFormat, LogSettings

MAX_TEXT: Final = 2000
"""Characters of one text in a line; Triton's longest messages stay whole."""
MAX_FRAMES: Final = 12
"""Frames of a traceback in a line."""

_LETTERS: Final = {logging.DEBUG: "V", logging.INFO: "I", logging.WARNING: "W"}
_OWN: Final = __name__.partition(".")[0]
_MESSAGE_AND_MACHINERY: Final = frozenset({"event", "_record", "_from_structlog", "exc_info", "stack_info"})


class ServerLog:
    """The log of this process, whose settings may change while it is written.

    It owns the place where the log goes, which is chosen once and for all.
    """

    def __init__(self, settings: LogSettings) -> None:
        """Open the place; raises OSError where that cannot be."""
        self._handler: logging.Handler = (
            logging.StreamHandler(sys.stderr)
            if settings.file is None
            else logging.FileHandler(settings.file, encoding="utf-8")
        )
        self._enabled = _Enabled(settings)
        self._handler.addFilter(self._enabled)
        self.settings = settings
        """What holds now."""
        self._handler.setFormatter(_formatter(settings.format))

    def install(self) -> None:
        """Send all logs of this process here, and nowhere else."""
        root = logging.getLogger()
        for old in tuple(root.handlers):
            root.removeHandler(old)
            old.close()
        root.addHandler(self._handler)
        self._set_root_level()

    def change(self, settings: LogSettings) -> None:
        """Let other settings hold from the next event on; the place stays what it is."""
        self.settings = replace(settings, file=self.settings.file)
        self._handler.removeFilter(self._enabled)
        self._enabled = _Enabled(settings)
        self._handler.addFilter(self._enabled)
        self._handler.setFormatter(_formatter(settings.format))
        self._set_root_level()

    def _set_root_level(self) -> None:
        root = logging.getLogger()
        if self._handler in root.handlers:
            root.setLevel(logging.DEBUG if self.settings.verbose else logging.INFO)


def configure(settings: LogSettings) -> ServerLog:
    """Send all logs of this process where the settings say; raises OSError where that cannot be opened."""
    log = ServerLog(settings)
    log.install()
    structlog.configure(
        processors=[
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return log


def join_logging() -> None:
    """Send events where the program sends its own logs, unless it has configured structlog itself.

    For a server that is a library: each event becomes one record of the standard library's logging.
    """
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            _spell_record,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _spell_record(
    _logger: WrappedLogger, _method: str, event: EventDict
) -> tuple[tuple[str], dict[str, Any]]:
    """Spell an event as a message with its values behind it; an exception is left to the logger."""
    exc_info = event.pop("exc_info", None)
    words = [printable(event["event"])]
    words += [f"{name}={_quoted(printable(value))}" for name, value in _values(event)]
    return (" ".join(words),), {"exc_info": exc_info}


def _formatter(log_format: LogFormat) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
        processors=[_spell_json if log_format is LogFormat.JSON else _Line(log_format)],
    )


class _Enabled(logging.Filter):
    """Lets through the levels that are switched on; details only of deuteron itself, never of libraries."""

    def __init__(self, settings: LogSettings) -> None:
        super().__init__()
        self._info = settings.info
        self._warning = settings.warning
        self._error = settings.error

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return self._error
        if record.levelno >= logging.WARNING:
            return self._warning
        if record.levelno >= logging.INFO:
            return self._info
        return record.name.partition(".")[0] == _OWN


class _Line:
    """Spells an event in one of Triton's two forms, its values after the message as `name=value`."""

    def __init__(self, log_format: LogFormat) -> None:
        self._iso = log_format is LogFormat.ISO8601
        self._pid = os.getpid()

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> str:
        record: logging.LogRecord = event["_record"]
        letter = _LETTERS.get(record.levelno, "E")
        moment = datetime.fromtimestamp(record.created, UTC)
        stamp = f"{moment:%Y-%m-%dT%H:%M:%SZ} {letter}" if self._iso else f"{letter}{moment:%m%d %H:%M:%S.%f}"
        words = [f"{stamp} {self._pid} {record.filename}:{record.lineno}] {printable(event['event'])}"]
        words += [f"{name}={_quoted(printable(value))}" for name, value in _values(event)]
        return " ".join(words)


def _spell_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Spell an event as a JSON object: `timestamp`, `level`, `event`, its values, and where it came from."""
    record: logging.LogRecord = event["_record"]
    members = {
        "timestamp": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        "level": record.levelname.lower(),
        "event": printable(event["event"]),
        **{
            printable(name): value if isinstance(value, bool | int | float) else printable(value)
            for name, value in _values(event)
        },
        "source": f"{record.filename}:{record.lineno}",
        "pid": record.process,
    }
    return orjson.dumps(members, option=orjson.OPT_PASSTHROUGH_SUBCLASS, default=str).decode()


def _values(event: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what an event carries beside its message; an exception becomes its message and its frames."""
    values = [(name, value) for name, value in event.items() if name not in _MESSAGE_AND_MACHINERY]
    error = _exception(event.get("exc_info"))
    if error is not None:
        values.append(("error", f"{type(error).__name__}: {error}"))
        values.append(("trace", _frames(error)))
    return values


def _exception(exc_info: object) -> BaseException | None:
    match exc_info:
        case BaseException():
            return exc_info
        case (_, BaseException() as error, _):
            return error
        case True:
            return sys.exc_info()[1]
    return None


def _frames(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[::-1][:MAX_FRAMES]
    return " < ".join(f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames)  # noqa: PTH119


def printable(value: object) -> str:
    """Return a value as text that stays on its line: escaped where unprintable, cut where too long."""
    text = value if isinstance(value, str) else str(value)
    left = len(text) - MAX_TEXT
    if left > 0:
        text = f"{text[:MAX_TEXT]}…(+{left})"
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _quoted(text: str) -> str:
    if text and not any(character in text for character in ' "='):
        return text
    if '"' in text and "'" not in text:
        return f"'{text}'"  # what others say in double quotes can be searched for as they say it
    return '"' + text.replace('"', '\\"') + '"'
