"""What is in the files of one version of a model: equal on two machines that serve the same.

Fingerprints (see `fingerprints`) say cheaply whether files have changed on one machine, by their times. A
cache that servers share needs more: what it holds for one of them must be true for the other. So here the
files are read, all that the version may depend on: its own, and those that stand beside the versions.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..proto.config import ModelConfig
from ..proto.schema.model_config_pb2 import ModelConfig as ConfigMessage
from .api import ModelFiles
from .model_directory import CONFIG_NAME, CONFIGS_NAME, ModelDirectory

_LEFT_BY_PYTHON: Final = "__pycache__"


def digest_contents(config: ModelConfig, files: ModelFiles) -> bytes:
    """Return what tells one version of a model from all others; blocks. Raises OSError if a file is gone."""
    digest = hashlib.sha256(_meaning(config))
    others = {
        str(version) for version in ModelDirectory(files.directory).versions() if version != files.version
    }
    for path in _files(files.directory, others | {CONFIG_NAME, CONFIGS_NAME}):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        name = os.fsencode(path.relative_to(files.directory))
        digest.update(f"{len(name)}:".encode() + name + content)
    return digest.digest()


def _meaning(config: ModelConfig) -> bytes:
    """Return the configuration without what each machine decides for itself."""
    message = ConfigMessage()
    message.CopyFrom(config.message)
    message.ClearField("instance_group")
    return message.SerializeToString(deterministic=True)


def _files(directory: Path, without: set[str], above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield every file beneath a directory; a link that leads back up is not followed."""
    own = directory.resolve()
    if own in above:
        return
    for entry in sorted(directory.iterdir()):
        if entry.name in without or entry.name.startswith(".") or entry.name == _LEFT_BY_PYTHON:
            continue
        if entry.is_dir():
            yield from _files(entry, set(), (*above, own))
        elif entry.is_file():
            yield entry
