"""What is written down about a request that was chosen to be traced, free of any file and any format.

A trace hangs on its request (see `Request.trace`), so whoever sends requests on, as an ensemble does, can
hang a child on each of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from .datatypes import Datatype
from .tensor import Shape, Tensor
from .trace_context import TraceContext, new_trace
from .trace_level import TraceLevel

MAX_SHOWN: Final = 8 << 20
"""Bytes up to which the elements of a tensor are kept; of a larger one only name, shape and datatype are."""


@dataclass(frozen=True, slots=True)
class ShownTensor:
    """What a tensor looked like: a copy, since its memory may belong to others a moment later."""

    activity: str
    name: str
    shape: Shape
    datatype: Datatype
    elements: Tensor | None
    """None where they were too many."""


@dataclass(frozen=True, slots=True)
class Spans:
    """The spans of a trace: that of the request to a model, and what there is above it."""

    request: TraceContext
    root: TraceContext | None = None
    """The span of the front; None where another model asks."""
    caller: TraceContext | None = None
    """What the client handed over, if it did."""

    @classmethod
    def below(cls, caller: TraceContext | None) -> "Spans":
        """Return the spans of a request of a client, in the trace that it handed over or in a new one."""
        root = new_trace() if caller is None else caller.child()
        return cls(root.child(), root, caller)


@dataclass(slots=True)
class Trace:
    """Moments and tensors of one request to one model; changed on the loop only."""

    ids: Iterator[int]
    """Where the ids of all traces of a server come from."""
    level: TraceLevel
    parent_id: int = 0
    """The trace of the request that this one was made for; 0 where a client made it."""
    spans: Spans | None = None
    """What identifies it where traces are exported as spans."""
    id: int = field(init=False)
    model_name: str = ""
    model_version: int = 0
    request_id: str = ""
    moments: list[tuple[str, int]] = field(default_factory=list)
    """Names of activities with nanoseconds of the monotonic clock, in the order they were written down."""
    tensors: list[ShownTensor] = field(default_factory=list)
    children: list["Trace"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.id = next(self.ids)

    @property
    def context(self) -> str | None:
        """What identifies the span of the request, as JSON; None where traces are not exported as spans."""
        return None if self.spans is None else self.spans.request.as_json()

    def child(self) -> "Trace":
        """Return the trace of a request that is made for this one."""
        spans = None if self.spans is None else Spans(self.spans.request.child())
        child = Trace(self.ids, self.level, self.id, spans)
        self.children.append(child)
        return child

    def mark(self, activity: str, moment: int) -> None:
        """Write down when something happened."""
        if self.level & TraceLevel.TIMESTAMPS:
            self.moments.append((activity, moment))

    def show(self, activity: str, tensors: Mapping[str, Tensor]) -> None:
        """Write down what tensors looked like."""
        if self.level & TraceLevel.TENSORS:
            self.tensors += (_shown(activity, name, tensor) for name, tensor in tensors.items())


def _shown(activity: str, name: str, tensor: Tensor) -> ShownTensor:
    elements = None
    if tensor.byte_size <= MAX_SHOWN:
        elements = Tensor(tensor.datatype, tensor.shape, bytes(tensor.raw))
    return ShownTensor(activity, name, tensor.shape, tensor.datatype, elements)
