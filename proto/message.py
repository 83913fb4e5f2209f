"""What is asked and what is answered, free of any wire: `Request` and `Response`.

Both are made once and then only read, with these exceptions: admission (see `admission`) writes into a
request what it found out, its batch size and the shapes the model will see; the sequence batcher adds its
slot and the inputs that clients do not send, and says which step of an iterative sequence it is; and whoever
asked may hang a flow on it, and cancel it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from .errors import InferError
from .tensor import Tensor
from .trace import Trace

LATEST: Final = -1
"""The version of a request that leaves the choice to the server."""

ParameterValue = bool | int | float | str
Parameters = Mapping[str, ParameterValue]


@dataclass(frozen=True, slots=True)
class Correlation:
    """Which sequence a request belongs to, and whether it opens or closes it."""

    id: int | str
    start: bool = False
    end: bool = False


class Flow(Protocol):
    """How far the responses to a request may run ahead of whoever reads them; used from any thread."""

    @property
    def has_room(self) -> bool:
        """Whether one more response may be sent now."""

    def take(self, size: int) -> bool:
        """Wait until a response of that many bytes may be sent; False if that was in vain."""

    def spend(self, size: int) -> None:
        """Count a response that is sent without waiting."""

    def give_back(self) -> None:
        """Hear that the first of the unread responses was read."""

    def lift(self) -> None:
        """Let everybody send what they like from now on."""

    def when_room(self, callback: Callable[[], None]) -> None:
        """Have a callback called once when there is room."""


@dataclass(slots=True)
class Request:
    """One inference request; `inputs` are in the order they came."""

    model_name: str
    model_version: int = LATEST
    id: str = ""
    inputs: dict[str, Tensor] = field(default_factory=dict)
    requested_outputs: tuple[str, ...] = ()
    """Names of the outputs to answer with, in no particular order; empty means all."""
    parameters: Parameters = field(default_factory=dict)
    """Parameters the server gives no meaning to; the model may."""
    correlation: Correlation | None = None
    priority: int = 0
    timeout_us: int = 0
    """Microseconds the request may wait in a queue; 0 where the client does not care."""
    batch_size: int = 1
    """Rows this request brings to a batch; written by admission, at least 1."""
    sequence_slot: int | None = None
    """The slot of its sequence on its instance; written by the sequence batcher."""
    cancelled: bool = False
    """Whether nobody waits for the answer any more; a running model may look and stop early."""
    trace: Trace | None = None
    """What is written down about it, where it was chosen to be traced."""
    flow: Flow | None = None
    """How far its responses may run ahead; None where whoever asked takes them as they come."""
    on_cancel: Callable[[], None] | None = field(default=None, compare=False, repr=False)
    """Told when the request is cancelled; set by an engine that runs it where the flag cannot be seen."""

    def cancel(self) -> None:
        """Tell whoever works for it that nobody waits for the answer any more."""
        self.cancelled = True
        if self.flow is not None:
            self.flow.lift()
        if self.on_cancel is not None:
            self.on_cancel()


@dataclass(slots=True)
class Response:
    """One answer to a request: outputs or an error, and whether more will follow.

    A model that has nothing more to say closes its request with a *silent* response: no answer at all, only
    the word that it is final. An answer without outputs is another thing; a client gets to see that.
    """

    outputs: dict[str, Tensor] = field(default_factory=dict)
    parameters: Parameters = field(default_factory=dict)
    error: InferError | None = None
    final: bool = True
    silent: bool = False
    computed: int = 0
    """When the model had computed it, in nanoseconds of `time.monotonic_ns`; 0 where it does not say."""

    @property
    def byte_size(self) -> int:
        """Bytes of all outputs; 0 where a model's odd strings have none: whoever reads it is told."""
        try:
            return sum(tensor.byte_size for tensor in self.outputs.values())
        except Exception:  # noqa: BLE001 - the strings are objects of the model's own
            return 0
