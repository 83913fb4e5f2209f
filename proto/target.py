"""The model version that a request goes to, as far as a codec looks at it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from .config import ModelConfig
from .message import LATEST, Request


def served_version(target: "Target", request: Request) -> int:
    """Return the version that served a request: the one it was sent on to, or the target itself."""
    return target.version if request.model_version == LATEST else request.model_version


class Target(Protocol):
    """What is known of a model version before a request is read; nothing here changes while it is served."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def version(self) -> int:
        """The version that will run, whatever the client asked for."""

    @property
    def config(self) -> ModelConfig:
        """What the model expects and promises."""

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """The lines of the label file of each output that has one."""
