"""Calls that answer no request in particular: they last until the client ends them, or the server does."""

import asyncio
from collections.abc import Coroutine
from typing import Final

from ...proto.errors import Fault, InferError
from .call import Call, ClientGoneError
from .rpc import shutting_down

MAX_SESSIONS: Final = 1024
"""Such calls that may be open at the same time."""


class Sessions:
    """All such calls of a server."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def close(self) -> None:
        """End every call, and refuse newcomers."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def hold(self, session: Coroutine[None, None, None]) -> None:
        """Let one call run to its end, or to that of the server; raises InferError."""
        if self._closed or len(self._tasks) >= MAX_SESSIONS:
            session.close()
            full = InferError(Fault.UNAVAILABLE, f"{MAX_SESSIONS} such calls are open already")
            raise shutting_down() if self._closed else full
        task = asyncio.ensure_future(session)
        self._tasks.add(task)
        try:
            await task
        except asyncio.CancelledError:
            if not self._closed:
                raise
        except ClientGoneError:
            pass
        finally:
            self._tasks.discard(task)


async def write(call: Call, message: bytes) -> None:
    """Send a message of a session; one that is on its way is sent before the session ends.

    grpcio would not take the status of a call while it still has a message of it, and the call would hang.
    """
    writing = asyncio.ensure_future(call.write(message))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await writing
        raise
