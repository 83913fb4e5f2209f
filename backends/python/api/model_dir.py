"""`get_model_dir`: where the files of the calling model lie.

Many models may run in one process, so the caller has to be found out. Each model's code lives in a package of
its own; the innermost frame on the caller's stack that belongs to such a package tells which model it is, on
whatever thread.
"""

import sys
from types import FrameType

from .errors import TritonModelException

_directories: dict[str, str] = {}


def register(package: str, directory: str) -> None:
    """Note that the code of a package comes from a version directory."""
    _directories[package] = directory


def forget(package: str) -> None:
    """Forget a package that is no longer there."""
    _directories.pop(package, None)


def get_model_dir() -> str:
    """Return the version directory of the calling model."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to one's caller
    while frame is not None:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package in _directories:
            return _directories[package]
        frame = frame.f_back
    raise TritonModelException("get_model_dir() was not called by the code of a model.")
