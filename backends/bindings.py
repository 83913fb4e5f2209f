"""Bindings: models that are functions of this process, with a configuration and without files.

Whoever has the server for a library binds them; the repository lists them beside what stands on disk, and the
backend `callable` serves them. A binding never changes: to bind a name again is to put another in its place,
which the next load takes up.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..proto.config import Draft, ModelConfig, read_json_config
from ..proto.config.platforms import VersionFiles
from ..proto.model_id import ModelId
from .fingerprints import Fingerprints
from .model_directory import Listing, ModelDirectory
from .model_home import ModelHome

Function = Callable[..., Any]
"""What answers: it takes a list of requests, and returns what it has to say to each."""


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """One model of this process; a `ModelHome`."""

    name: str
    version: int
    config: str
    """The configuration, as JSON."""
    functions: Sequence[Function]
    """One for each instance."""
    strict: bool = False
    """Whether every answer is held against the configuration."""
    unrecoverable: Callable[[BaseException], None] = lambda _: None
    """Hears, on any thread, that a function can serve no more."""
    path: Path = field(default_factory=Path.cwd)

    @property
    def id(self) -> ModelId:
        """Which model this is; it belongs to no repository."""
        return ModelId(self.name)

    @property
    def on_disk(self) -> bool:
        """Return False: nobody can tell whether a function is the same elsewhere."""
        return False

    def draft(self, preferred: str = "", *, required: bool = False) -> Draft:
        """Return the configuration; raises InferError."""
        return read_json_config(self.config, f"binding of '{self.name}'", self.name, None)

    def first_version_files(self) -> VersionFiles | None:
        """Return None: there are no files."""
        return None

    def fingerprints(self) -> Fingerprints:
        """Return the one version that there is."""
        return Fingerprints(versions={self.version: b""})

    def labels(self, config: ModelConfig) -> Mapping[str, tuple[str, ...]]:
        """Return the lines of every output's label file; raises InferError where one cannot be used."""
        return ModelDirectory(self.path).labels(config)


class Bindings:
    """All models of this process, by name; used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bound: dict[str, Binding] = {}

    def put(self, binding: Binding) -> None:
        """Bind a name, in the place of what it was bound to."""
        with self._lock:
            self._bound[binding.name] = binding

    def find(self, name: str) -> Binding | None:
        """Return what a name is bound to."""
        return self._bound.get(name)

    def all(self) -> tuple[Binding, ...]:
        """Return every binding."""
        with self._lock:
            return tuple(self._bound.values())


def with_bindings(listing: Listing, bindings: Bindings) -> Listing:
    """Return what was listed and what is bound; a name in both is ambiguous."""
    bound: dict[ModelId, ModelHome] = {binding.id: binding for binding in bindings.all()}
    twice = bound.keys() & (listing.found.keys() | listing.ambiguous)
    both = {**listing.found, **bound}
    return Listing({id_: both[id_] for id_ in both if id_ not in twice}, listing.ambiguous | twice)
