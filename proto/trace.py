"""What is written down about a request that was chosen to be traced, free of any file and any format.

A trace hangs on its request (see `Request.trace`), so whoever sends requests on, as an ensemble does, can
hang a child on each of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .tensor import Tensor
from .trace_level import TraceLevel


@dataclass(slots=True)
class Trace:
    """Moments and tensors of one request to one model; changed on the loop only."""

    ids: Iterator[int]
    """Where the ids of all traces of a server come from."""
    level: TraceLevel
    parent_id: int = 0
    """The trace of the request that this one was made for; 0 where a client made it."""
    id: int = field(init=False)
    model_name: str = ""
    model_version: int = 0
    request_id: str = ""
    moments: list[tuple[str, int]] = field(default_factory=list)
    """Names of activities with nanoseconds of the monotonic clock, in the order they were written down."""
    tensors: list[tuple[str, str, Tensor]] = field(default_factory=list)
    """An activity, the name of a tensor, the tensor."""
    children: list["Trace"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.id = next(self.ids)

    def child(self) -> "Trace":
        """Return the trace of a request that is made for this one."""
        child = Trace(self.ids, self.level, self.id)
        self.children.append(child)
        return child

    def mark(self, activity: str, moment: int) -> None:
        """Write down when something happened."""
        if self.level & TraceLevel.TIMESTAMPS:
            self.moments.append((activity, moment))

    def show(self, activity: str, tensors: Mapping[str, Tensor]) -> None:
        """Write down what tensors looked like."""
        if self.level & TraceLevel.TENSORS:
            self.tensors += ((activity, name, tensor) for name, tensor in tensors.items())
