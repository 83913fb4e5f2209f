"""What a door and an ensemble see of a loaded version, whether it is a model or an ensemble of models."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from ..proto.admission import Admission
from ..proto.config import ModelConfig
from ..proto.message import Request, Response
from .leases import Leases
from .reply import OneReply, Reply
from .schedule import Job
from .statistics import Statistics


class Askable(Protocol):
    """Whatever takes a request and can be told that nobody waits for it any more."""

    def infer(self, request: Request, reply: Reply) -> object:
        """Take a request; raises InferError at once when it is refused."""

    def cancel(self, request: Request) -> None:
        """Hear that nobody waits for a request any more."""


async def ask(model: Askable, request: Request) -> Response:
    """Return the one response to a request; raises the InferError it ended with.

    Whoever stops waiting cancels the request.
    """
    reply = OneReply()
    model.infer(request, reply)
    try:
        return await reply
    except asyncio.CancelledError:
        model.cancel(request)
        raise


class Servable(Protocol):
    """One version that takes requests, or two that are asked as one (see `split`)."""

    name: str
    version: int
    config: ModelConfig
    admission: Admission
    labels: Mapping[str, Sequence[str]]
    """The label lines of each output that has a label file."""
    statistics: Statistics
    leases: Leases
    """Who needs this version beyond a single request; it drains when they have done."""
    edition: bytes
    """What a response cache tells this version by from others of the same name and number."""

    def infer(self, request: Request, reply: Reply) -> Job:
        """Take a request; raises InferError at once when it does not fit the model or finds no room."""

    def take(self, job: Job) -> None:
        """Take a request that was checked already; raises InferError where there is no room for it."""

    def cancel(self, request: Request) -> None:
        """Hear that nobody waits for a request any more; harmless when it is answered already."""

    @property
    def busy(self) -> bool:
        """Whether a request waits or runs."""

    @property
    def pending(self) -> int:
        """Requests that were accepted and do not execute yet."""

    async def is_ready(self) -> bool:
        """Tell whether the model itself says that requests are welcome; it serves them in any case."""

    def drain(self) -> None:
        """Refuse what comes when the last lease has been given back, serve what came before, then end."""


class Loaded(Servable, Protocol):
    """A version that has been built, and may begin to serve."""

    async def serve(self) -> None:
        """Serve until drained; whatever ends it, nobody is left without an answer."""


@runtime_checkable
class Seated(Protocol):
    """A version with instances of its own."""

    @property
    def occupied(self) -> frozenset[str]:
        """The names of all instances, if a batch runs on each of them, else none."""


@runtime_checkable
class Rearrangeable(Loaded, Protocol):
    """A version whose instances may be changed while it serves."""

    async def rearrange(self, config: ModelConfig) -> None:
        """Have the instances of a configuration that differs in nothing else, while requests go on.

        Returns when those have left to which nothing is bound, such as a sequence. Raises InferError where
        an instance cannot be had; then all is as it was.
        """


Find = Callable[[str, int], Servable]
"""Looks a model version up; raises InferError where there is none."""
