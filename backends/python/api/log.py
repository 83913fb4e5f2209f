"""`Logger`: how model code writes to the log of the server.

Records carry the file and the line of the model. Where they go is decided by whoever runs the model: it
installs a sink; until then they go to the standard library's logger `deuteron.model`.
"""

import logging
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import Final

from .names import EXTENSION_MODULE


class LogLevel(IntEnum):
    """The levels that model code knows, under Triton's numbers."""

    INFO = 0
    WARNING = 1
    ERROR = 2
    VERBOSE = 3


LogSink = Callable[[LogLevel, str, str, int], None]
"""Takes a level, a message, and the file and line it comes from; called on any thread."""

LOGGER_NAME: Final = "deuteron.model"

STANDARD_LEVELS: Final = {
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
    LogLevel.VERBOSE: logging.DEBUG,
}


def to_standard_logging(level: LogLevel, message: str, file: str, line: int) -> None:
    """Hand a record to the standard library's logger."""
    logger = logging.getLogger(LOGGER_NAME)
    if logger.isEnabledFor(STANDARD_LEVELS[level]):
        logger.handle(logger.makeRecord(LOGGER_NAME, STANDARD_LEVELS[level], file, line, message, (), None))


_sink: LogSink = to_standard_logging


def install_log_sink(sink: LogSink) -> None:
    """Send all records of all models of this process to a sink from now on."""
    global _sink  # noqa: PLW0603 - model code reaches its logger by a global name, so there is one sink a process
    _sink = sink


def log_about_model(level: LogLevel, message: str, file: str) -> None:
    """Log what happened to a model, in its place, where it cannot say so itself."""
    _sink(level, message, file, 0)


class Logger:
    """The log of the server; nothing to be made, only static methods."""

    __module__ = EXTENSION_MODULE
    __slots__ = ()

    INFO: Final = LogLevel.INFO
    WARNING: Final = LogLevel.WARNING
    ERROR: Final = LogLevel.ERROR
    VERBOSE: Final = LogLevel.VERBOSE

    @staticmethod
    def log(message: str, level: LogLevel = LogLevel.INFO) -> None:
        """Write at a level."""
        _log(level, message)

    @staticmethod
    def log_info(message: str) -> None:
        """Write what is good to know."""
        _log(LogLevel.INFO, message)

    @staticmethod
    def log_warn(message: str) -> None:
        """Write what may be wrong."""
        _log(LogLevel.WARNING, message)

    @staticmethod
    def log_error(message: str) -> None:
        """Write what is wrong."""
        _log(LogLevel.ERROR, message)

    @staticmethod
    def log_verbose(message: str) -> None:
        """Write what only a developer wants to know."""
        _log(LogLevel.VERBOSE, message)


def _log(level: LogLevel, message: str) -> None:
    if not isinstance(message, str):
        raise TypeError(f"Logger: message must be a str, not {type(message).__name__}")
    if not isinstance(level, LogLevel):
        raise TypeError(f"Logger: level must be one of Logger's levels, not {level!r}")
    caller = sys._getframe(2)  # noqa: SLF001 - the documented way to one's caller, many times faster than `inspect`
    _sink(level, message, caller.f_code.co_filename, caller.f_lineno)
