"""Who calls: the model instance whose code uses this API.

Many models may run in one process, and their code calls plain functions, so the caller has to be found out.
Each instance's code lives in a package of its own; the innermost frame on the caller's stack that belongs to
such a package tells which instance it is, on whatever thread.
"""

import sys
from dataclasses import dataclass
from types import FrameType

from ...house import Asker, House


@dataclass(slots=True)
class Caller:
    """One model instance, as its own code finds it."""

    directory: str
    """The version directory."""
    model: str = ""
    version: str = ""
    instance: str = ""
    house: House | None = None
    """Who serves the model; None while its configuration is completed, and from its finalisation on."""
    serving: bool = False
    """Whether it is initialised and not yet about to be finalised."""

    @property
    def asker(self) -> Asker:
        """Who it is for those whom it asks."""
        return Asker(self.model, self.version, self.instance)


_callers: dict[str, Caller] = {}


def register(package: str, caller: Caller) -> None:
    """Note whose code a package is."""
    _callers[package] = caller


def forget(package: str) -> None:
    """Forget a package that is no longer there."""
    _callers.pop(package, None)


def find_caller() -> Caller | None:
    """Return the instance whose code is running on this thread, None if it is that of no model."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to one's caller
    while frame is not None:
        caller = _callers.get(str(frame.f_globals.get("__name__")).partition(".")[0])
        if caller is not None:
            return caller
        frame = frame.f_back
    return None
