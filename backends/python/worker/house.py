"""The server as the models of a worker see it: a `House` whose every wish is a message."""

from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any

from ....proto.datatypes import Datatype
from ....proto.errors import internal
from ....proto.message import Request, Response
from ....proto.tensor import Tensor
from ...house import Asker, Receive, Withdraw
from ..ipc.arena import Arena, ArenaFullError, Borrower
from ..ipc.frames import Message
from ..ipc.messages import Kind, read_error, read_response, spell_request, spell_tensors
from .link import Link
from .tensors import OwnTensor, TraceAddress


class RemoteHouse:
    """Whoever serves the models, on the other side of the link."""

    def __init__(self, link: Link, arena: Arena, borrower: Borrower) -> None:
        self._link = link
        self._arena = arena
        self._borrower = borrower

    def ask(self, asker: Asker, request: Request, receive: Receive, *, decoupled: bool) -> Withdraw:
        """Send a request to another model and return at once; whatever goes wrong comes as a response."""

        def take(message: Message) -> bool:
            _, response = read_response(message[2], self._borrower, OwnTensor)
            receive(response)
            return response.final

        trace: object = request.trace
        address = trace.words if isinstance(trace, TraceAddress) else None
        try:
            spelt = spell_request(request, self._arena)
            number = self._link.ask(Kind.ASK, spelt, decoupled, address, receive=take)
        except (ArenaFullError, ValueError) as error:
            receive(Response(error=internal(f"the request cannot be sent: {error}")))
            return _nothing
        return lambda: self._link.send([Kind.WITHDRAW, number])

    def load(self, name: str, config: str, files: Mapping[str, bytes], *, waiting: str) -> None:
        """Load a model, or load it anew; raises InferError."""
        contents = {path: Tensor(Datatype.UINT8, (len(each),), each) for path, each in files.items()}
        try:
            self.call("load", name, config, spell_tensors(contents, self._arena), waiting)
        except ArenaFullError as error:
            raise internal(f"the files cannot be sent: {error}") from None

    def unload(self, name: str, *, dependents: bool) -> None:
        """Begin to unload a model; raises InferError."""
        self.call("unload", name, dependents)

    def is_ready(self, name: str, version: int) -> bool:
        """Tell whether a version of a model takes requests."""
        return bool(self.call("is_ready", name, version))

    def call(self, name: str, *words: Any) -> Any:  # noqa: ANN401 - what msgpack can spell
        """Have the server do something, wait for it, return what it returns; raises InferError."""
        results: SimpleQueue[Message] = SimpleQueue()
        try:
            self._link.ask(Kind.CALL, name, list(words), receive=_last(results.put))
        except ValueError as reason:
            raise internal(f"the server cannot be asked: {reason}") from None
        _, _, result, error = results.get()
        if error is not None:
            raise read_error(error)
        return result

    def tell(self, name: str, *words: Any) -> None:  # noqa: ANN401 - what msgpack can spell
        """Have the server do something, and do not wait for it."""
        self._link.send([Kind.CALL, 0, name, list(words)])


def _last(take: Callable[[Message], None]) -> Callable[[Message], bool]:
    def receive(message: Message) -> bool:
        take(message)
        return True

    return receive


def _nothing() -> None:
    """Withdraw a request that was never sent."""
