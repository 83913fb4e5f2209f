"""Where a worker's engine emits its responses: into the message that the batch has returned, or sooner.

What is emitted is copied at once, into the message or into shared memory, so the model may write to its
arrays again. A model that streams has each response sent as it comes.
"""

import threading
from collections.abc import Sequence

from ....proto.errors import InferError, internal
from ....proto.message import Response
from ...batch import Batch
from ..ipc.arena import Arena, ArenaFullError
from ..ipc.messages import Kind, Spelt, spell_error, spell_response
from .link import Link
from .tensors import WatchedRequest


class Outlet:
    """Takes the responses to the requests of one batch; from any thread, also after the batch returned."""

    __slots__ = ("_arena", "_held", "_link", "_lock", "_number", "_requests")

    def __init__(
        self, link: Link, arena: Arena, number: int, requests: Sequence[WatchedRequest], *, streams: bool
    ) -> None:
        self._link = link
        self._arena = arena
        self._number = number
        self._requests: list[WatchedRequest | None] = list(requests)
        # Reentrant: under it the garbage collector may find that nobody answers a request any more.
        self._lock = threading.RLock()
        self._held: list[Spelt] | None = None if streams else []

    def __call__(self, row: int, response: Response) -> None:
        """Send a response, or hold it until the batch returns."""
        spelt = self._spell(row, response)
        with self._lock:
            if response.final:
                self._settle(row)
            if self._held is not None:
                self._held.append(spelt)
                return
            try:
                self._link.send([Kind.RESPONSE, self._number, spelt])
            except ValueError as error:
                failure = Response(error=_cannot(error), final=response.final)
                self._link.send([Kind.RESPONSE, self._number, spell_response(row, failure, self._arena)])

    def returned(self, batch: Batch, error: InferError | None) -> None:
        """Say that `execute` returned, or failed, and send what was held."""
        with self._lock:
            held, self._held = self._held or [], None
            if error is not None:
                for row in range(len(self._requests)):
                    self._settle(row)
            head = [Kind.RETURNED, self._number, batch.inputs_ready, batch.outputs_started]
            try:
                again = list(batch.rescheduled)
                for row in again:
                    self._settle(row)
                self._link.post([*head, None if error is None else spell_error(error), held, again])
            except ValueError as reason:
                self._link.send([*head, spell_error(_cannot(reason)), [], []])

    def _spell(self, row: int, response: Response) -> Spelt:
        try:
            return spell_response(row, response, self._arena)
        except ArenaFullError as error:
            failure = Response(error=_cannot(error), final=response.final)
            return spell_response(row, failure, self._arena)

    def _settle(self, row: int) -> None:
        request = self._requests[row]
        if request is not None:
            request.settle()
            self._requests[row] = None


def _cannot(reason: Exception) -> InferError:
    return internal(f"the response cannot be sent: {reason}")
