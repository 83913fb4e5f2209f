"""A model repository in an object store: what is in it by the last look, and its models at home there.

Only `refresh` asks the store what there is; everything else works with the last answer. So the index of the
repository never waits for a network, and while the store is away what was known stays known. A model's
objects are fetched when its configuration is first read.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ...proto.config import Draft, ModelConfig
from ...proto.config.platforms import VersionFiles
from ...proto.model_id import ModelId
from ..fingerprints import Fingerprints
from ..model_directory import CONFIG_NAME, CONFIGS_NAME, ModelDirectory, is_version_name
from .address import Address
from .mirror import Mirror
from .objects import Entry, Objects

_DIGEST_BYTES: Final = 16


class ObjectRepository:
    """One repository; threads of loads and polls may use it at the same time."""

    def __init__(self, address: Address, cache: Path) -> None:
        """Raise InferError where the client is not installed or the credentials cannot be read."""
        self.address = address
        self._objects = Objects(address)
        self._mirror = Mirror(self._objects, cache)
        self._found: Mapping[str, Sequence[Entry]] | None = None

    def __str__(self) -> str:
        return str(self.address)

    @property
    def seen(self) -> bool:
        """Whether it was ever looked at."""
        return self._found is not None

    def refresh(self) -> None:
        """Ask the store what there is now; blocks. Raises InferError where it does not answer."""
        found: dict[str, list[Entry]] = {}
        for entry in sorted(self._objects.list(), key=lambda each: each.path):
            model, _, rest = entry.path.partition("/")
            if rest:
                found.setdefault(model, []).append(entry)
        self._found = found

    def models(self, namespace: str) -> "Iterable[RemoteModel]":
        """Return the models by the last look."""
        found = self._found or {}
        return [RemoteModel(name, namespace, entries, self._mirror) for name, entries in found.items()]


class RemoteModel:
    """A model as it was at one look."""

    def __init__(self, name: str, namespace: str, entries: Sequence[Entry], mirror: Mirror) -> None:
        self.name = name
        self.id = ModelId(name, namespace)
        self._entries = entries
        self._mirror = mirror

    @property
    def on_disk(self) -> bool:
        """Return True: the objects are all there is."""
        return True

    @property
    def path(self) -> Path:
        """The snapshot on this machine; fetched when it is first asked for. Raises InferError."""
        return self._mirror.snapshot(self.name, self._entries)

    def draft(self, preferred: str = "", *, required: bool = False) -> Draft:
        """Return the configuration, as `ModelDirectory.draft`."""
        return self._directory.draft(preferred, required=required)

    def first_version_files(self) -> VersionFiles | None:
        """Return what lies in the first version directory, by name; None where there is none."""
        return self._directory.first_version_files()

    def labels(self, config: ModelConfig) -> Mapping[str, tuple[str, ...]]:
        """Return the lines of every output's label file; raises InferError where one cannot be used."""
        return self._directory.labels(config)

    def fingerprints(self) -> Fingerprints:
        """Return what the objects were at this look; nothing is fetched for it."""
        lines: dict[str, list[str]] = {}
        for entry in self._entries:
            part = entry.path.split("/")[1]
            lines.setdefault(part, []).append(f"{entry.path} {entry.size} {entry.tag}")
        configuration = [CONFIG_NAME, CONFIGS_NAME]
        versions = [part for part in lines if is_version_name(part)]
        others = [part for part in lines if part not in configuration and part not in versions]
        return Fingerprints(
            configuration=_digest(lines, configuration),
            versions={int(version): _digest(lines, [version]) for version in versions},
            others=_digest(lines, others),
        )

    @property
    def _directory(self) -> ModelDirectory:
        return ModelDirectory(self.path, self.id.namespace)


def _digest(lines: Mapping[str, Sequence[str]], parts: Iterable[str]) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in sorted(parts):
        for line in lines.get(part, ()):
            digest.update(f"{line}\n".encode())
    return digest.digest()
