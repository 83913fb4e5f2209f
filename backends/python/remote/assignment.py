"""What a worker is to serve, and how it is started, bounded and ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .process import Launch


@dataclass(frozen=True, slots=True)
class Assignment:
    """One instance of a model."""

    model: str
    instance: str
    path: str
    """The model's file."""
    directory: str
    """The model's directory."""
    launch: Launch
    limit: int
    """Bytes of shared memory in each direction."""
    patience_s: float = 0
    """Seconds that a batch may take; 0 is for ever."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """What `initialize` is given."""
    decoupled: bool = False
    outputs: Sequence[str] = ()
    max_batch_size: int = 0

    def words(self) -> dict[str, Any]:
        """Return what the worker is told."""
        return {
            "model": self.model,
            "instance": self.instance,
            "path": self.path,
            "directory": self.directory,
            "limit": self.limit,
            "arguments": dict(self.arguments),
            "decoupled": self.decoupled,
            "outputs": list(self.outputs),
            "max_batch_size": self.max_batch_size,
        }
