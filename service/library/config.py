"""The configuration of a server in a program: the options of `deuteron serve`, by the same names."""

import os
from collections.abc import Iterable, Iterator

from ..arguments import read_settings
from ..settings import Settings

Flag = bool | float | str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None
"""A value, several of an option that may be given several times, or None for one that is not given."""


class ServerConfig:
    """What `deuteron serve` is told by its options, an underscore in the place of each dash.

    `ServerConfig(http_port=9000, model_repository="models")`; the options are those of `deuteron serve
    --help`. A server that binds functions needs no repository.
    """

    def __init__(self, **options: Flag) -> None:
        """Read the options; raises ValueError for one that is unknown, or means nothing."""
        self._words = tuple(_spelt(options))
        self.settings: Settings = read_settings(self._words, os.environ, needs_repository=False)
        """What they come to."""

    def __repr__(self) -> str:
        return f"ServerConfig({' '.join(self._words)})"


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
