"""The store: environments by their keys, each built once, whoever asks for it first.

An environment is built where it will stay, for programs in it know their own path, and is only used once a
mark says that it is whole. What a builder left that came to no good end is removed by the next one. Builders
of one key wait for each other, in this process and in all others of this machine, by a lock on a file; the
kernel opens the lock of a builder that dies.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from ....proto.errors import internal

log: Final = structlog.stdlib.get_logger("deuteron.environments")

SETTING: Final = "environments-directory"
"""The backend setting that says where the store is."""
MARK: Final = ".whole"

Build = Callable[[Path], None]
"""Builds an environment in a directory that is not there yet; raises InferError."""


class Store:
    """A directory of environments."""

    def __init__(self, root: str) -> None:
        """Take where it is; empty stands for the user's cache."""
        self._root = (Path(root) if root else _default_root()).absolute()

    def get(self, key: str, model: str, build: Build) -> Path:
        """Return the environment of a key, built if there is none; blocks. Raises InferError.

        `model` is who wants it, for the log.
        """
        place = self._root / key
        try:
            if (place / MARK).exists():
                return place
            self._root.mkdir(parents=True, exist_ok=True)
            with _locked(self._root / f"{key}.lock", model):
                if not (place / MARK).exists():
                    _build(place, build)
        except OSError as error:
            raise internal(
                f"environment of model '{model}' cannot be kept in '{self._root}': {error}"
            ) from error
        return place


def _build(place: Path, build: Build) -> None:
    shutil.rmtree(place, ignore_errors=True)
    try:
        build(place)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    (place / MARK).touch()


@contextmanager
def _locked(file: Path, model: str) -> Iterator[None]:
    with file.open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("somebody else builds the environment, and is waited for", model=model)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _default_root() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "deuteron" / "environments"
