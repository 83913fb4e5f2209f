"""The requests that `execute` left open: the model has promised to answer them through their senders.

Nobody else can answer such a request. So when its sender is gone, and the request that would give it out
again, the promise is broken and the request is failed: a client may wait long, but not for ever.
"""

import weakref
from collections.abc import Callable
from typing import Final

from ...proto.errors import InferError
from .api.sender import Answer, InferenceResponseSender

ABANDONED: Final = (
    "execute returned None for the request, and nobody is left who could answer it: its response sender was "
    "not kept, or was dropped before it sent the final flag"
)


class OpenAnswers:
    """Answers that are owed; used from any thread."""

    def __init__(self, failure: Callable[[str], InferError]) -> None:
        """Take what makes the error of a request from the reason why it failed."""
        self._failure = failure
        self._watches: dict[Answer, weakref.ref[InferenceResponseSender]] = {}

    def expect(self, answer: Answer, sender: InferenceResponseSender) -> None:
        """Wait for a sender to close its answer, or to vanish."""

        def abandoned(_: object) -> None:
            self._watches.pop(answer, None)
            answer.fail(self._failure(ABANDONED))

        # Kept here, not with the sender: a weak reference that is garbage itself does not call back.
        self._watches[answer] = weakref.ref(sender, abandoned)

    def fail_all(self, error: InferError) -> None:
        """Fail every request that is still open."""
        for answer in list(self._watches):
            answer.fail(error)
        self._watches.clear()
