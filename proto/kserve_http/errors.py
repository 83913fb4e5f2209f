"""Errors on HTTP: the status of a fault, and the body of every error."""

from collections.abc import Mapping
from typing import Final

import orjson

from ..errors import Fault

HTTP_STATUS: Final[Mapping[Fault, int]] = {
    Fault.UNKNOWN: 400,
    Fault.INTERNAL: 500,
    Fault.NOT_FOUND: 404,
    Fault.INVALID_ARG: 400,
    Fault.UNAVAILABLE: 503,
    Fault.UNSUPPORTED: 501,
    Fault.ALREADY_EXISTS: 400,
    Fault.CANCELLED: 400,
}


def encode_error(message: str) -> bytes:
    """Return the body that tells a client what went wrong; what is no Unicode in the message becomes `?`."""
    return orjson.dumps({"error": message.encode(errors="replace").decode()})
