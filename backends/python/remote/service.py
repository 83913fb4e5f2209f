"""What the code of a model asks of the server while it runs in a worker: other models, and its metrics.

Whatever a worker holds here is let go of when it ends, however it does.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ....proto.errors import InferError, internal, invalid
from ....proto.message import Request, Response
from ....proto.tensor import Tensor
from ...house import Asker, House, Withdraw
from ..ipc.arena import Arena, ArenaFullError, Borrower
from ..ipc.messages import Kind, read_tensors, spell_error, spell_response
from .channel import Channel
from .holdings import Holdings, Result


class Service:
    """The server, as the models of one worker see it."""

    def __init__(
        self, asker: Asker, house: House | None, channel: Channel, arena: Arena, borrower: Borrower
    ) -> None:
        self._asker = asker
        self._house = house
        self._channel = channel
        self._arena = arena
        self._borrower = borrower
        self._asked: dict[int, Withdraw] = {}
        self._is_closed = False
        self._metrics = Holdings()
        self._calls: Mapping[str, Callable[..., Result]] = {
            "load": self._load,
            "unload": self._unload,
            "is_ready": self._is_ready,
            **self._metrics.calls,
        }

    def ask(self, number: int, request: Request, *, decoupled: bool) -> None:
        """Pass a request on to another model, and its responses back."""

        def receive(response: Response) -> None:
            if response.final:
                self._asked.pop(number, None)
            self._answer(number, response)

        if self._house is None:
            self._answer(number, Response(error=internal("nobody can be asked")))
            return
        self._asked[number] = _nothing
        withdraw = self._house.ask(self._asker, request, receive, decoupled=decoupled)
        if number in self._asked:
            self._asked[number] = withdraw

    def withdraw(self, number: int) -> None:
        """Tell the other model that nobody waits any more."""
        withdraw = self._asked.get(number)
        if withdraw is not None:
            withdraw()

    def call(self, number: int, name: str, words: Sequence[Any]) -> None:
        """Do what is asked, and send back what came of it if somebody waits for that."""
        if name in _BLOCKING:  # it may take as long as a model takes to load
            threading.Thread(target=self._call, args=(number, name, words), daemon=True).start()
        else:
            self._call(number, name, words)

    def close(self) -> None:
        """Withdraw what was asked, and let go of what was held: the worker is gone."""
        for withdraw in list(self._asked.values()):
            withdraw()
        self._asked.clear()
        self._is_closed = True
        self._metrics.close()
        self._calls = {}  # they lead back here, and with it to shared memory

    def _call(self, number: int, name: str, words: Sequence[Any]) -> None:
        result, failure = None, None
        try:
            call = self._calls.get(name)
            if call is None:
                raise invalid(f"there is no call '{name}'")
            result = call(*words)
        except InferError as error:
            failure = spell_error(error)
        except (KeyError, TypeError, ValueError) as error:
            failure = spell_error(invalid(f"call '{name}' makes no sense: {error!r}"))
        if number:
            self._channel.send([Kind.RESULT, number, result, failure])

    def _answer(self, number: int, response: Response) -> None:
        if self._is_closed:
            return
        try:
            self._channel.send([Kind.ANSWER, number, spell_response(0, response, self._arena)])
        except (ArenaFullError, ValueError) as error:
            failure = Response(error=internal(f"the response cannot be sent: {error}"), final=response.final)
            self._channel.send([Kind.ANSWER, number, spell_response(0, failure, self._arena)])

    def _load(self, name: str, config: str, files: Sequence[Any], waiting: str) -> None:
        contents = read_tensors(files, self._borrower, Tensor)
        overrides = {path: bytes(each.raw) for path, each in contents.items()}
        self._home().load(name, config, overrides, waiting=waiting)

    def _unload(self, name: str, dependents: bool) -> None:  # noqa: FBT001 - as it is spelt in a message
        self._home().unload(name, dependents=dependents)

    def _is_ready(self, name: str, version: int) -> bool:
        return self._home().is_ready(name, version)

    def _home(self) -> House:
        if self._house is None:
            raise internal("nobody can be asked")
        return self._house


_BLOCKING: Final = frozenset({"load", "unload"})


def _nothing() -> None:
    """Withdraw a request that the house has not taken yet."""
