"""The few errors of the house, told apart by whose fault they are.

Every failure a client can see is an `InferError` with one of Triton's eight faults. Errors of foreign
libraries are mapped to one where they enter the house; how a fault looks on a wire (an HTTP status, a gRPC
status code) is the matter of the codec of that wire.
"""

from enum import Enum


class Fault(Enum):
    """Triton's eight error classes; the value is the title it prints before messages in logs and reasons."""

    UNKNOWN = "Unknown"
    INTERNAL = "Internal"
    NOT_FOUND = "Not found"
    INVALID_ARG = "Invalid argument"
    UNAVAILABLE = "Unavailable"
    UNSUPPORTED = "Unsupported"
    ALREADY_EXISTS = "Already exists"
    CANCELLED = "<invalid code>"  # what Triton itself prints: its own table has no title for this class


class InferError(Exception):
    """A request, a load or a setting that failed: whose fault, and a message made for the client."""

    __slots__ = ("fault", "message")

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message

    @property
    def titled(self) -> str:
        """The message with its class before it, as logs and the repository index print it."""
        return f"{self.fault.value}: {self.message}"

    def __repr__(self) -> str:
        return f"InferError({self.fault.name}, {self.message!r})"


def invalid(message: str) -> InferError:
    """Return the error of a caller who sent something that cannot be served."""
    return InferError(Fault.INVALID_ARG, message)


def internal(message: str) -> InferError:
    """Return the error of a house or a model that failed on its own."""
    return InferError(Fault.INTERNAL, message)


def request_prefix(request_id: str) -> str:
    """Return the words Triton puts before errors that concern one request."""
    return f"[request id: {request_id or '<id_unknown>'}] "
