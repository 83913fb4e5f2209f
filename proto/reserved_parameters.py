"""The request parameters to which Triton gives a meaning, on every wire: sequence, priority and timeout.

How each is typed on its wire is the matter of that wire's codec; what their values do to a request is told
here.
"""

from collections.abc import Mapping
from typing import Any, Final

from .errors import Fault, InferError
from .message import Correlation, Request

MAX_CORRELATION_LENGTH: Final = 128
"""Bytes of a correlation ID that is text."""

RESERVED_PREFIX: Final = "triton_"


def checked_correlation_text(text: str) -> str:
    """Return a correlation ID; raises InferError when it is too long."""
    if len(text.encode(errors="replace")) > MAX_CORRELATION_LENGTH:
        raise InferError(
            Fault.UNSUPPORTED,
            f"string correlation ID cannot be longer than {MAX_CORRELATION_LENGTH} characters",
        )
    return text


def assign_reserved(request: Request, values: Mapping[str, Any]) -> None:
    """Write reserved parameters, already of the right types, into a request."""
    request.priority = values.get("priority", 0)
    request.timeout_us = values.get("timeout", 0)
    start = values.get("sequence_start", False)
    end = values.get("sequence_end", False)
    if start or end or "sequence_id" in values:
        request.correlation = Correlation(values.get("sequence_id", 0), start, end)
