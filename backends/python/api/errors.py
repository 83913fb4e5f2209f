"""How model code says that something failed: as the answer to one request, or by raising."""

from enum import IntEnum
from typing import Final, Self

from ....proto.errors import Fault, InferError
from .names import EXTENSION_MODULE


class ErrorCode(IntEnum):
    """Triton's error classes under the numbers that model code knows; each has the name of a `Fault`."""

    UNKNOWN = 0
    INTERNAL = 1
    NOT_FOUND = 2
    INVALID_ARG = 3
    UNAVAILABLE = 4
    UNSUPPORTED = 5
    ALREADY_EXISTS = 6
    CANCELLED = 7


class TritonError:
    """The error that one request is answered with."""

    __module__ = EXTENSION_MODULE
    __slots__ = ("_code", "_message")

    UNKNOWN: Final = ErrorCode.UNKNOWN
    INTERNAL: Final = ErrorCode.INTERNAL
    NOT_FOUND: Final = ErrorCode.NOT_FOUND
    INVALID_ARG: Final = ErrorCode.INVALID_ARG
    UNAVAILABLE: Final = ErrorCode.UNAVAILABLE
    UNSUPPORTED: Final = ErrorCode.UNSUPPORTED
    ALREADY_EXISTS: Final = ErrorCode.ALREADY_EXISTS
    CANCELLED: Final = ErrorCode.CANCELLED

    def __init__(self, message: str, code: ErrorCode = ErrorCode.INTERNAL) -> None:
        if not isinstance(message, str):
            raise TypeError(f"TritonError: message must be a str, not {type(message).__name__}")
        if not isinstance(code, ErrorCode):
            raise TypeError(f"TritonError: code must be one of TritonError's codes, not {code!r}")
        self._message = message
        self._code = code

    @classmethod
    def of_infer_error(cls, error: InferError) -> Self:
        """Return the error that another model answered with."""
        return cls(error.message, ErrorCode[error.fault.name])

    def code(self) -> ErrorCode:
        """Return the class of the error."""
        return self._code

    def message(self) -> str:
        """Return what the client is told."""
        return self._message

    def as_infer_error(self) -> InferError:
        """Return this error as the rest of the house knows it."""
        return InferError(Fault[self._code.name], self._message)


class TritonModelException(Exception):
    """Raised by this API for what model code did wrong, and by model code for what it likes."""

    __module__ = EXTENSION_MODULE
