"""How a call ends: the status of each fault, and its message as far as a header carries it."""

from enum import IntEnum
from typing import Final

from ...proto.errors import Fault, InferError
from .rpc import as_text

MAX_DETAILS: Final = 4000
"""Bytes of the message of a status on its way: it travels in a header, and clients take 8 KiB of those."""
_MAX_ESCAPED: Final = 12
"""Bytes that one character may become there: up to four bytes of UTF-8, each escaped with three."""


class Status(IntEnum):
    """The status codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


STATUS_OF: Final = {
    Fault.UNKNOWN: Status.UNKNOWN,
    Fault.INTERNAL: Status.INTERNAL,
    Fault.NOT_FOUND: Status.NOT_FOUND,
    Fault.INVALID_ARG: Status.INVALID_ARGUMENT,
    Fault.UNAVAILABLE: Status.UNAVAILABLE,
    Fault.UNSUPPORTED: Status.UNIMPLEMENTED,
    Fault.ALREADY_EXISTS: Status.ALREADY_EXISTS,
    Fault.CANCELLED: Status.CANCELLED,
}
"""The gRPC status of each fault, as Triton maps them."""


def details_of(error: InferError) -> str:
    """Return as much of the message of an error as fits into a header."""
    text = as_text(error.message)
    if len(text) * _MAX_ESCAPED <= MAX_DETAILS:
        return text
    room = MAX_DETAILS
    for at, character in enumerate(text):
        is_plain = " " <= character <= "~" and character != "%"
        room -= 1 if is_plain else 3 * len(character.encode())
        if room < 0:
            return f"{text[:at]}…"
    return text
