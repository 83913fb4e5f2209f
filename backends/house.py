"""The face of the house above: what the code of a model may ask of the server that serves it.

A model asks other models, and has models loaded and unloaded. It does so from threads of its own or from the
lane of its instance, never from the thread of the event loop; so these calls may block, except where they say
otherwise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ..proto.message import Request, Response

Receive = Callable[[Response], None]
"""Takes one response; called on a thread of the house, so it must not wait."""
Withdraw = Callable[[], None]
"""Tells the house that nobody waits for a request any more; from any thread, harmless when it is answered."""


@dataclass(frozen=True, slots=True)
class Asker:
    """The instance of a model that asks."""

    model: str
    version: str
    instance: str


class House(Protocol):
    """Whoever serves the models."""

    def ask(self, asker: Asker, request: Request, receive: Receive, *, decoupled: bool) -> Withdraw:
        """Send a request to another model and return at once; whatever goes wrong comes as a response.

        The trace of the request, if it has one, is that of the request it is made for. With `decoupled`
        there is a response each time the other model sends one, the final one last; without, there is exactly
        one.
        """

    def load(self, name: str, config: str, files: Mapping[str, bytes], *, waiting: str) -> None:
        """Load a model, or load it anew; raises InferError.

        `waiting` names the model that asks while it is being loaded itself; it is empty for one that serves.
        """

    def unload(self, name: str, *, dependents: bool) -> None:
        """Begin to unload a model; raises InferError."""

    def is_ready(self, name: str, version: int) -> bool:
        """Tell whether a version of a model takes requests."""
