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

    __slots__ = ("_is_cancelled", "_mark", "_marks")

    def watch(self, marks: memoryview, mark: int) -> None:
        """Look at this mark from now on."""
        self._marks = marks
        self._mark = mark

    def settle(self) -> None:
        """Look at the mark for the last time: the request is answered, and another one will have it."""
        self._is_cancelled = self.cancelled
        self._mark = NO_MARK

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._is_cancelled or (self._mark >= 0 and bool(self._marks[self._mark]))

    @cancelled.setter
    def cancelled(self, value: bool) -> None:
        """Note that it is, whatever the board says."""
        self._is_cancelled = value


class TraceAddress:
    """A trace that the server keeps, by the request it belongs to."""

    __slots__ = ("context", "words")

    def __init__(self, batch: int, row: int, context: "str | None") -> None:
        self.words = (batch, row)
        self.context = context
