"""How a client wants its outputs rendered: what a request says of the answer and no model needs to know."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .shared_memory import Destination


@dataclass(frozen=True, slots=True)
class OutputForm:
    """How one output is rendered."""

    binary: bool = False
    """Raw bytes behind the JSON rather than in it; without meaning where there is no JSON."""
    classes: int = 0
    """The best so many classes instead of the values; 0 means the values."""
    destination: Destination | None = None
    """The shared memory that the values go to, and nowhere else; never together with the other forms."""


JSON_FORM = OutputForm()
BINARY_FORM = OutputForm(binary=True)


@dataclass(frozen=True, slots=True)
class OutputForms:
    """How all outputs of one answer are rendered."""

    default: OutputForm = JSON_FORM
    """The form of an output the request did not name."""
    named: Mapping[str, OutputForm] = field(default_factory=dict)
    empty_final: bool = False
    """Whether the client of a stream wants a response that has nothing to say but that it is the last."""

    def of(self, name: str) -> OutputForm:
        """Return the form of an output."""
        return self.named.get(name, self.default)
