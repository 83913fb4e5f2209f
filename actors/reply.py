"""The return address of a request: where its responses go, whoever waits there.

A reply never waits and never fails its sender. Responses that come after the final one, or after the caller
went away, are dropped here, so that a lost caller can do no harm to whoever shares its batch.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator
from typing import Any, Final, Protocol

from ..backends.credit import Credit
from ..proto.errors import Fault, InferError, internal
from ..proto.message import Response

STREAM_BACKLOG: Final = 16_384
"""Responses that may wait for a slow reader before its stream is given up."""
STREAM_BACKLOG_BYTES: Final = 256 << 20
"""Bytes of tensors that these may have; a single response may have more."""


class Reply(Protocol):
    """What a request carries with it so that it can be answered; used on the loop only."""

    def send(self, response: Response) -> None:
        """Take one response; the one marked final ends the request."""


class EarlyReply(ABC):
    """The address of a caller on a thread of its own, who may have the response before it is counted.

    The way over the loop would cost it two more changes of threads. Only the reply that a job itself carries
    is told early: whoever stands between, as for an order to keep, is not passed over.
    """

    __slots__ = ()

    @abstractmethod
    def send_early(self, response: Response) -> None:
        """Take a final response on the lane; on the loop `send` follows with the same."""


class SoleReply(ABC):
    """The address of a caller who wants exactly one response, and is told it when the request ends.

    A model may close its request with a response of its own that carries nothing but the final flag, so the
    one response is handed over when the request ends, not before.
    """

    __slots__ = ("_count", "_response", "ended")

    def __init__(self) -> None:
        self._response: Response | None = None
        self._count = 0
        self.ended = False
        """Whether the request has ended, or nobody waits for its end any more."""

    def send(self, response: Response) -> None:
        """Take a response; with the final one the caller is told."""
        if self.ended:
            return
        if not response.silent:
            self._count += 1
            if self._response is None:
                self._response = response
        if response.final:
            self.ended = True
            self.tell(self._only())

    @abstractmethod
    def tell(self, response: Response) -> None:
        """Hear the one response, or the error that the request ended with instead; once, on the loop."""

    def _only(self) -> Response:
        if self._response is None or self._count != 1:
            return Response(error=internal(f"expected a single response, got {self._count}"))
        return self._response


class OneReply(SoleReply):
    """The address of a coroutine that wants exactly one response; await it."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        super().__init__()
        self._future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def tell(self, response: Response) -> None:
        """Wake the caller."""
        if not self._future.done():
            self._future.set_result(response)

    def __await__(self) -> Generator[Any, None, Response]:
        """Return the response; raises the InferError that the request ended with instead."""
        response = yield from self._future
        if response.error is not None:
            raise response.error
        return response


class StreamReply:
    """The address of a caller who takes any number of responses; iterate, the final one is the last.

    Its `flow` belongs on the request: then a model that gives heed to it waits for the reader, and the
    bounds on what may wait here are for those that do not.
    """

    __slots__ = ("_bytes", "_ended", "_responses", "_waiter", "flow", "is_complete")

    def __init__(self) -> None:
        self._responses: deque[tuple[Response, int]] = deque()
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self.flow = Credit()
        self.is_complete = False
        """Whether the request itself has ended, whatever was read of its responses."""

    def send(self, response: Response) -> None:
        """Take a response; a reader too far behind gets an error as its last one."""
        if self._ended:
            return
        self.is_complete = response.final
        if len(self._responses) >= STREAM_BACKLOG or self._bytes >= STREAM_BACKLOG_BYTES:
            response = Response(error=InferError(Fault.UNAVAILABLE, _TOO_SLOW))
        self._ended = response.final
        size = response.byte_size
        self._bytes += size
        self._responses.append((response, size))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> "StreamReply":
        return self

    async def __anext__(self) -> Response:
        while not self._responses:
            if self._ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        response, size = self._responses.popleft()
        self._bytes -= size
        if not response.silent:
            self.flow.give_back()
        return response


_TOO_SLOW: Final = (
    f"more than {STREAM_BACKLOG} responses or {STREAM_BACKLOG_BYTES} bytes wait to be read; "
    "the stream was given up"
)
