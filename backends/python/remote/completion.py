"""The configuration of a model completed by its code, in a worker process of its own that ends with that."""

from ....proto.errors import InferError
from ..ipc.frames import Message
from ..ipc.messages import Kind, read_error
from .assignment import Assignment
from .conversation import Conversation


def complete(assignment: Assignment, config: str, within_s: float) -> str | None:
    """Return the configuration that the model proposes, None if it has no say; raises InferError."""
    outcome: list[str | InferError | None] = []
    conversation = Conversation(assignment, None, _nobody_waits)

    def take(message: Message) -> None:
        outcome.append(None if message[1] is None else str(message[1]))

    def fail(message: Message) -> None:
        outcome.append(read_error(message[1]))

    try:
        conversation.begin(Kind.COMPLETE, {Kind.COMPLETED: take, Kind.FAILED: fail}, config=config)
        conversation.wait_until(lambda: bool(outcome), within_s)
    finally:
        conversation.close()
    completed = outcome[0]
    if isinstance(completed, InferError):
        raise completed
    return completed


def _nobody_waits() -> None:
    """Hear of the end of the process; whoever reads its messages hears of it too."""
