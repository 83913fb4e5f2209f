"""Which model a function runs for: known to it, and to its decorators, while they run."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from ...proto.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Context:
    """What a function may know of its model."""

    model_config: ModelConfig


CURRENT: Final[ContextVar[Context | None]] = ContextVar("deuteron_callable", default=None)
"""None where a function is called by somebody other than the server, as in a test."""
