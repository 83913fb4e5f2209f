"""What the files of a model were at some moment, so that a later look can tell what has changed.

A fingerprint covers the names, the sizes and the modification times of the files beneath a directory, but not
what is in them. What Python leaves beside the modules it imports, and what is hidden, is nobody's change.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

Fingerprint = bytes

_DIGEST_BYTES: Final = 16
_LEFT_BY_PYTHON: Final = "__pycache__"

Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """What the parts of one model were."""

    configuration: Fingerprint = b""
    """Of `config.pbtxt` and of those in `configs`."""
    versions: Mapping[int, Fingerprint] = field(default_factory=dict)
    others: Fingerprint = b""
    """Of what all versions share: labels, warm-up data and the like."""

    def of_version(self, version: int) -> tuple[Fingerprint, Fingerprint]:
        """Return what a version depends on besides the configuration; raises KeyError if it was not there."""
        return self.versions[version], self.others


def take_fingerprints(
    directory: Path, versions: Iterable[int], configurations: Collection[str]
) -> Fingerprints:
    """Return what the files of a model are now; blocks. Raises OSError where they cannot be listed.

    `configurations` are the names under which configurations may lie.
    """
    names = {str(version) for version in versions}
    present = {entry.name for entry in directory.iterdir()}
    return Fingerprints(
        configuration=_fingerprint(directory, present.intersection(configurations)),
        versions={int(name): _fingerprint(directory, [name]) for name in names},
        others=_fingerprint(directory, present.difference(configurations, names)),
    )


def _fingerprint(directory: Path, names: Iterable[str]) -> Fingerprint:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    seen: set[Identity] = set()
    for name in sorted(names):
        for line in _walk(directory / name, seen):
            digest.update(f"{line}\n".encode(errors="surrogateescape"))
    return digest.digest()


def _walk(path: Path, seen: set[Identity]) -> Iterator[str]:
    """Yield a line for a file, or for each beneath a directory; one that was seen is not entered again."""
    if path.name.startswith(".") or path.name == _LEFT_BY_PYTHON:
        return
    try:
        status = path.stat()
        entries = sorted(path.iterdir()) if path.is_dir() else None
    except OSError:  # gone since it was listed, or a link to nothing: that too is a state of the files
        yield f"{path} is not there"
        return
    if entries is None:
        yield f"{path} {status.st_size} {status.st_mtime_ns}"
        return
    yield f"{path}/"
    identity = (status.st_dev, status.st_ino)
    if identity not in seen:
        seen.add(identity)
        for entry in entries:
            yield from _walk(entry, seen)
