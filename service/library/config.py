"""The configuration of a server in a program: the options of `deuteron serve`, by the same names."""

import os
from collections.abc import Container, Iterable, Iterator
from typing import Final

from ..arguments import read_settings
from ..options import OPTIONS
from ..settings import Settings

PREFIX: Final = "DEUTERON_"

Flag = bool | float | str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None
"""A value, several of an option that may be given several times, or None for one that is not given."""


class ServerConfig:
    """What `deuteron serve` is told by its options, an underscore in the place of each dash.

    `ServerConfig(http_port=9000, model_repository="models")`; the options are those of `deuteron serve
    --help`. What is not said here the environment may say, as in `DEUTERON_HTTP_PORT=9000`. A server that
    binds functions needs no repository.
    """

    def __init__(self, **options: Flag) -> None:
        """Read the options; raises ValueError for one that is unknown, or means nothing."""
        self._words = (*_of_environment(options), *_spelt(options))
        self.settings: Settings = read_settings(self._words, os.environ, needs_repository=False)
        """What they come to."""

    def __repr__(self) -> str:
        return f"ServerConfig({' '.join(self._words)})"


def _of_environment(said: Container[str]) -> Iterator[str]:
    """Yield the options that the environment has, but for those that are said otherwise."""
    for option in OPTIONS:
        name = option.replace("-", "_")
        value = os.environ.get(f"{PREFIX}{name.upper()}")
        if value is not None and name not in said:
            yield f"--{option}={value}"


def _spelt(options: dict[str, Flag]) -> Iterator[str]:
    for name, value in options.items():
        for each in _each(value):
            yield f"--{name.replace('_', '-')}={each}"


def _each(value: Flag) -> Iterator[str]:
    match value:
        case None:
            return
        case bool():
            yield "true" if value else "false"
        case str() | int() | float():
            yield str(value)
        case os.PathLike():
            yield os.fspath(value)
        case _:
            for each in value:
                yield os.fspath(each)
