"""Model repositories on disk: which models there are, which versions, and what their small files say.

A name from the network never becomes a path here. Models are found by listing the repositories, so a name
either is in the list or is unknown. What a configuration names (label files) is opened beneath its model's
directory only; a link may not lead out of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from ..proto.config import Draft, ModelConfig, read_config
from ..proto.config.platforms import VersionFiles
from ..proto.config.text import MAX_TEXT_BYTES
from ..proto.errors import Fault, InferError, invalid
from ..proto.model_id import ModelId
from .fingerprints import Fingerprints, take_fingerprints
from .model_home import ModelHome, RemoteRepository

log: Final = structlog.get_logger("deuteron.repository")

CONFIG_NAME: Final = "config.pbtxt"
CONFIGS_NAME: Final = "configs"
"""The directory of a model's other configurations, of which the operator may prefer one by name."""
MAX_LABEL_BYTES: Final = 16 << 20
"""A label file may have this many bytes; the largest label sets in use have about one."""


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """The directory of one model in a repository."""

    path: Path
    namespace: str = ""
    """The repository, where models of the same name in several of them are told apart."""

    @property
    def name(self) -> str:
        """The model's name."""
        return self.path.name

    @property
    def id(self) -> ModelId:
        """Which model this is."""
        return ModelId(self.name, self.namespace)

    @property
    def on_disk(self) -> bool:
        """Return True: the files are all there is."""
        return True

    def versions(self) -> tuple[int, ...]:
        """Return the versions that have a directory, ascending; only plain numbers are versions."""
        return tuple(sorted(int(each.name) for each in self.path.iterdir() if _is_version(each)))

    def draft(self, preferred: str = "", *, required: bool = False) -> Draft:
        """Return the configuration, preferably that in `configs/<preferred>.pbtxt`; raises InferError.

        One that is not there is empty, unless it is required or nothing else tells what the model is.
        """
        file, files = self._config_file(preferred), self.first_version_files()
        if file is None and required:
            raise InferError(
                Fault.NOT_FOUND,
                f"model '{self.name}' has no config.pbtxt, and auto-complete is disabled",
            )
        if file is None and not (files and (files.files or files.directories)) and "." not in self.name:
            raise InferError(
                Fault.NOT_FOUND,
                f"model '{self.name}' has neither a configuration, {CONFIG_NAME}, nor model files in a "
                "version directory such as 1",
            )
        text = _read_bounded(file) if file is not None else b""
        return read_config(text, str(file or self.path / CONFIG_NAME), self.name, files)

    def fingerprints(self) -> Fingerprints:
        """Return what the files of the model are now; blocks. Raises OSError where they cannot be listed."""
        return take_fingerprints(self.path, self.versions(), {CONFIG_NAME, CONFIGS_NAME})

    def first_version_files(self) -> VersionFiles | None:
        """Return what lies in the first version directory, by name; None where there is no version."""
        first = min(
            (each for each in self.path.iterdir() if _is_version(each)),
            key=lambda each: each.name,
            default=None,
        )
        if first is None:
            return None
        present = list(first.iterdir())
        return VersionFiles(
            files=frozenset(each.name for each in present if each.is_file()),
            directories=frozenset(each.name for each in present if each.is_dir()),
        )

    def labels(self, config: ModelConfig) -> Mapping[str, tuple[str, ...]]:
        """Return the lines of every output's label file; raises InferError where one cannot be used."""
        return {
            output.name: self._label_lines(output.name, output.label_filename)
            for output in config.outputs
            if output.label_filename
        }

    def _config_file(self, preferred: str) -> Path | None:
        candidates = [self.path / CONFIG_NAME]
        if preferred:
            candidates.insert(0, self.path / CONFIGS_NAME / f"{preferred}.pbtxt")
        return next((file for file in candidates if file.is_file()), None)

    def _label_lines(self, output: str, filename: str) -> tuple[str, ...]:
        path = (self.path / filename).resolve()
        if not path.is_relative_to(self.path.resolve()):
            raise InferError(
                Fault.UNSUPPORTED,
                f"label file path '{filename}' for output '{output}' in model '{self.name}' "
                "is outside model directory",
            )
        try:
            if path.stat().st_size > MAX_LABEL_BYTES:
                raise invalid(
                    f"label file '{filename}' of model '{self.name}' has more than {MAX_LABEL_BYTES} bytes"
                )
            return tuple(path.read_text(encoding="utf-8", errors="replace").splitlines())
        except OSError as error:
            raise invalid(
                f"unable to read label file '{filename}' of model '{self.name}': {error.strerror}"
            ) from None


@dataclass(frozen=True, slots=True)
class Listing:
    """The models found in a set of repositories."""

    found: Mapping[ModelId, ModelHome]
    """The home of each; none of those that stand in more than one repository."""
    ambiguous: frozenset[ModelId] = frozenset()
    """Those that do, and are not served; none where repositories tell names apart."""

    def named(self, name: str) -> tuple[ModelId, ...]:
        """Return the models of a name."""
        return tuple(each for each in self.found if each.name == name)


def _read_bounded(file: Path) -> bytes:
    """Return what a configuration file says, up to one byte more than it may, so that too much shows."""
    with file.open("rb") as opened:
        return opened.read(MAX_TEXT_BYTES + 1)


def list_repositories(
    repositories: Iterable[Path | RemoteRepository], *, namespacing: bool = False
) -> Listing:
    """Return every model there is; raises InferError for a repository that is no directory.

    Of a remote one that is every model there was when it was last looked at. With `namespacing` equal names
    in two repositories are two models.
    """
    found: dict[ModelId, ModelHome] = {}
    ambiguous: set[ModelId] = set()
    for repository in repositories:
        namespace = str(repository) if namespacing else ""
        for home in _models_of(repository, namespace):
            if home.id in found:
                ambiguous.add(home.id)
            found[home.id] = home
    return Listing({id_: found[id_] for id_ in found if id_ not in ambiguous}, frozenset(ambiguous))


def _models_of(repository: Path | RemoteRepository, namespace: str) -> Iterable[ModelHome]:
    if isinstance(repository, Path):
        return model_directories(repository, namespace)
    return repository.models(namespace)


def look_again(repositories: Iterable[Path | RemoteRepository]) -> None:
    """Look what there is in the remote ones now; blocks.

    One that cannot be looked at stays what it was: an outage takes nothing away. Raises InferError where it
    was never seen.
    """
    for repository in repositories:
        if isinstance(repository, Path):
            continue
        try:
            repository.refresh()
        except InferError as error:
            if not repository.seen:
                raise
            log.warning("model repository stays as it was last seen", reason=error.message)


def model_directories(repository: Path, namespace: str = "") -> list[ModelDirectory]:
    """Return the models in a directory; raises InferError where it is none."""
    if not repository.is_dir():
        raise InferError(Fault.INTERNAL, f"repository path '{repository}' is not a valid directory")
    return [
        ModelDirectory(entry, namespace)
        for entry in sorted(repository.iterdir())
        if entry.is_dir() and not entry.name.startswith(".")
    ]


def is_version_name(name: str) -> bool:
    """Whether a directory of this name is a version: a plain number."""
    return name.isascii() and name.isdigit() and (name == "0" or not name.startswith("0"))


def _is_version(entry: Path) -> bool:
    return is_version_name(entry.name) and entry.is_dir()
