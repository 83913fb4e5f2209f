"""What a worker makes of what it was sent: tensors that are its own, requests whose clients may go away."""

from ....proto.message import Request
from ....proto.tensor import Tensor
from ..api.tensor import Own
from ..ipc.messages import NO_MARK


class OwnTensor(Tensor, Own):
    """Elements in shared memory that nobody else looks at: the model may write there."""

    __slots__ = ()


class WatchedRequest(Request):
    """A request that is cancelled when its mark on the board says so."""

    __slots__ = ("_mark", "_marks", "_was_cancelled")

    def watch(self, marks: memoryview, mark: int) -> None:
        """Look at this mark from now on."""
        self._marks = marks
        self._mark = mark
        self._was_cancelled = False

    def settle(self) -> None:
        """Look at the mark for the last time: the request is answered, and another one will have it."""
        self._was_cancelled = self.cancelled
        self._mark = NO_MARK

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._was_cancelled if self._mark < 0 else bool(self._marks[self._mark])

    @cancelled.setter
    def cancelled(self, value: bool) -> None:
        """Leave it to the board."""


class TraceAddress:
    """A trace that the server keeps, by the request it belongs to."""

    __slots__ = ("context", "words")

    def __init__(self, batch: int, row: int, context: "str | None") -> None:
        self.words = (batch, row)
        self.context = context
