"""The mirror: models of remote repositories as directories here, each a snapshot that never changes.

    <cache>/contents/<digest>                 the bytes of one object, by what it was when it was read
    <cache>/models/<digest>/<model name>/…    links to them, as a model directory

A snapshot is made beside and renamed into place, so there is either all of it or nothing; making it again
costs a look whether it is there. Contents are shared by all snapshots, and a file that has not changed
between two of them keeps its time, so only what has changed is loaded anew. Of each model the last few
snapshots are kept.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from ...proto.errors import Fault, InferError
from .objects import Entry, Objects

log: Final = structlog.get_logger("deuteron.repository")

KEPT: Final = 3
"""Snapshots of one model that stay: engines may still read from the one before the current one."""
ATTEMPTS: Final = 3
LARGE: Final = 64 << 20
"""Bytes from which fetching an object is worth a line in the log."""


class Mirror:
    """Snapshots of the models of one repository; threads of several loads may ask at the same time."""

    def __init__(self, objects: Objects, cache: Path) -> None:
        self._objects = objects
        self._contents = cache / "contents"
        self._models = cache / "models"

    def snapshot(self, model: str, entries: Sequence[Entry]) -> Path:
        """Return the directory of a model with these objects, their paths beginning with its name; blocks.

        Raises InferError where they cannot be fetched.
        """
        place = self._models / _digest(str(self._objects.address), model, *map(_line, entries))
        directory = place / model
        if directory.is_dir():
            os.utime(place)
            return directory
        try:
            return self._make(place, model, entries)
        except OSError as error:
            raise InferError(
                Fault.UNAVAILABLE, f"model '{model}' cannot be kept in '{self._models.parent}': {error}"
            ) from error

    def _make(self, place: Path, model: str, entries: Sequence[Entry]) -> Path:
        self._models.mkdir(parents=True, exist_ok=True)
        size = sum(entry.size for entry in entries)
        log.info(
            "fetching model",
            model=model,
            files=len(entries),
            bytes=size,
            repository=str(self._objects.address),
        )
        with tempfile.TemporaryDirectory(dir=self._models, prefix=".making-") as making:
            root = Path(making, model)
            root.mkdir()
            for entry in entries:
                file = root / entry.path.partition("/")[2]
                file.parent.mkdir(parents=True, exist_ok=True)
                os.link(self._content(entry), file)
            (Path(making) / _OWNER).write_text(f"{self._objects.address}\n{model}\n")
            Path(making).chmod(0o755)
            try:
                Path(making).rename(place)
            except OSError:
                if not (place / model).is_dir():  # somebody else was quicker
                    raise
            else:
                Path(making).mkdir()  # for who takes the temporary directory away
        self._prune(model)
        return place / model

    def _content(self, entry: Entry) -> Path:
        """Return the file with the bytes of an object, fetched if need be."""
        path = self._contents / _digest(str(self._objects.address), _line(entry))
        if path.is_file() and path.stat().st_size == entry.size:
            return path
        self._contents.mkdir(parents=True, exist_ok=True)
        sums: set[str] = set()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._fetch(entry, path, sums)
            except InferError as error:
                if attempt == ATTEMPTS:
                    raise
                log.warning("object is fetched again", object=entry.path, reason=error.message)
        raise AssertionError("unreachable")

    def _fetch(self, entry: Entry, path: Path, sums: set[str]) -> Path:
        """Fetch an object; `sums` are the checksums with which it arrived before, and was not believed."""
        if entry.size >= LARGE:
            log.info("fetching file", object=entry.path, bytes=entry.size)
        checksum = hashlib.md5(usedforsecurity=False)
        size = 0
        with tempfile.NamedTemporaryFile(dir=self._contents, prefix=".fetching-", delete=False) as file:
            try:
                for piece in self._objects.read(entry):
                    file.write(piece)
                    checksum.update(piece)
                    size += len(piece)
                _check(entry, size, checksum.hexdigest(), sums)
            except BaseException:
                Path(file.name).unlink()
                raise
        Path(file.name).chmod(0o444)  # all snapshots share it
        Path(file.name).rename(path)
        return path

    def _prune(self, model: str) -> None:
        """Take away the oldest snapshots of a model, and contents that no snapshot has any more."""
        owner = f"{self._objects.address}\n{model}\n"
        mine = [place for place in self._models.iterdir() if _owner_of(place) == owner]
        mine.sort(key=lambda place: place.stat().st_mtime_ns, reverse=True)
        for place in mine[KEPT:]:
            shutil.rmtree(place, ignore_errors=True)
        for content in self._contents.iterdir() if len(mine) > KEPT else ():
            if content.stat().st_nlink == 1 and not content.name.startswith("."):
                content.unlink(missing_ok=True)


_OWNER: Final = ".owner"


def _owner_of(place: Path) -> str:
    try:
        return (place / _OWNER).read_text()
    except OSError:
        return ""


def _check(entry: Entry, size: int, checksum: str, sums: set[str]) -> None:
    """Raise InferError unless the bytes are those that were listed.

    The tag of an object is its MD5 sum, unless it is encrypted or came in parts. A tag that only looks like a
    sum shows by this: the object arrives twice with the same other one.
    """
    tag = entry.tag
    is_sum = len(tag) == len(checksum) and all(letter in "0123456789abcdef" for letter in tag)
    if size == entry.size and (not is_sum or tag == checksum or checksum in sums):
        return
    sums.add(checksum)
    raise InferError(
        Fault.UNAVAILABLE,
        f"'{entry.path}' arrived with {size} bytes and MD5 {checksum}, expected {entry.size} and {tag}",
    )


def _line(entry: Entry) -> str:
    return f"{entry.path} {entry.size} {entry.tag}"


def _digest(*lines: str) -> str:
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=20).hexdigest()
