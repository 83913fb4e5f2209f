"""Whether an engine itself says that it is ready, asked with a bound on how long the answer may take.

An engine that has something to say is asked on a thread of its own, since its lane may be busy with a batch
for long. There is one question at a time: whoever comes while an answer is awaited gets the same one, so a
model that never answers holds one thread and no more.
"""

import asyncio
from typing import Final

from ..backends.api import Engine, TellsReadiness
from .lane import Lane

ANSWER_SECONDS: Final = 5.0
"""How long an engine may take; one that takes longer is not ready."""


class Readiness:
    """The questions to the engine of one instance."""

    __slots__ = ("_answer", "_lane", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._lane: Lane | None = None
        self._answer: asyncio.Future[bool] | None = None

    async def ask(self, engine: Engine) -> bool:
        """Tell whether an engine is ready; one that has nothing to say is."""
        if not isinstance(engine, TellsReadiness):
            return True
        if self._lane is None:
            self._lane = Lane(f"{self._name}_readiness")
        if self._answer is None or self._answer.done():
            self._answer = self._lane.call(engine.is_ready)
        await asyncio.wait((self._answer,), timeout=ANSWER_SECONDS)
        return self._answer.done() and self._answer.exception() is None and self._answer.result()

    def close(self) -> None:
        """Let the thread end."""
        if self._lane is not None:
            self._lane.close()
