"""`InferenceTrace`: the trace that a request is part of, to be handed on to requests that it causes."""

from ....proto.trace import Trace
from .names import EXTENSION_MODULE


class InferenceTrace:
    """A trace; without tracing it is empty."""

    __module__ = EXTENSION_MODULE
    __slots__ = ("source",)

    def __init__(self, source: Trace | None = None) -> None:
        """Stand for the trace of a request; None where it is not traced."""
        self.source = source

    def get_context(self) -> str | None:
        """Return the context of the trace as JSON, None where there is none."""
        return None if self.source is None else self.source.context
