"""`InferenceTrace`: the trace that a request is part of, to be handed on to requests that it causes."""

from .names import EXTENSION_MODULE


class InferenceTrace:
    """A trace; without tracing it has no context."""

    __module__ = EXTENSION_MODULE
    __slots__ = ()

    def get_context(self) -> str | None:
        """Return the context of the trace as JSON, None where there is none."""
        return None
