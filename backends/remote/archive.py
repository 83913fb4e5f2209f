"""A model repository in an archive on a web server: fetched whole, and again only when it has changed.

The server tells by `ETag` or `Last-Modified` whether it has. What comes out of an archive has bounds, and
stays beneath its directory; the directory is renamed into place when all of it is there.
"""

import hashlib
import http.client
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

from ...proto.errors import Fault, InferError
from ..model_directory import ModelDirectory, model_directories
from .address import Address

log: Final = structlog.get_logger("deuteron.repository")

MAX_UNPACKED: Final = 256 << 30
"""Bytes that the files of an archive may have in all."""
MAX_MEMBERS: Final = 1_000_000
TIMEOUT_S: Final = 30.0
_NOT_MODIFIED: Final = 304


class ArchiveRepository:
    """One repository; threads of loads and polls may use it at the same time."""

    def __init__(self, address: Address, cache: Path) -> None:
        self.address = address
        self._home = cache / "archives" / hashlib.blake2b(address.text.encode(), digest_size=20).hexdigest()
        self._seen: dict[str, str] = {}
        """What to tell the server of what is here."""
        self._root: Path | None = None

    def __str__(self) -> str:
        return str(self.address)

    @property
    def seen(self) -> bool:
        """Whether it was ever looked at."""
        return self._root is not None

    def refresh(self) -> None:
        """Fetch the archive if it has changed; blocks. Raises InferError where it cannot be had."""
        request = urllib.request.Request(self.address.text, headers=self._seen)  # noqa: S310 - http(s) only
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
                self._take(response)
        except urllib.error.HTTPError as error:
            if error.code != _NOT_MODIFIED:
                raise self._unavailable(error) from error
        except (OSError, EOFError, http.client.HTTPException, tarfile.TarError, zipfile.BadZipFile) as error:
            raise self._unavailable(error) from error

    def models(self, namespace: str) -> Iterable[ModelDirectory]:
        """Return the models by the last look."""
        return () if self._root is None else model_directories(self._root, namespace)

    def _take(self, response: http.client.HTTPResponse) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._home, prefix=".making-") as making:
            file = Path(making, "archive")
            with file.open("wb") as opened:
                shutil.copyfileobj(response, opened, 1 << 20)
            announced = response.headers["Content-Length"]
            size = file.stat().st_size
            if announced is not None and int(announced) != size:
                raise OSError(f"{size} of {announced} bytes arrived")
            log.info("fetched repository", repository=str(self.address), bytes=size)
            root = self._home / _digest_of(file)
            if not root.is_dir():
                unpacked = Path(making, "unpacked")
                unpacked.mkdir()
                _unpack(file, unpacked)
                unpacked.rename(root)
        for old in self._home.iterdir():
            if old not in (root, self._root):  # engines may still read from the one before
                shutil.rmtree(old, ignore_errors=True)
        self._root = root
        self._seen = {
            asked: response.headers[told]
            for asked, told in (("If-None-Match", "ETag"), ("If-Modified-Since", "Last-Modified"))
            if response.headers[told]
        }

    def _unavailable(self, error: Exception) -> InferError:
        return InferError(Fault.UNAVAILABLE, f"repository '{self.address}' cannot be fetched: {error}")


def _digest_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _unpack(file: Path, directory: Path) -> None:
    """Unpack an archive; raises OSError, TarError or BadZipFile for what is none or has no bounds."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as packed:
            _check([each.file_size for each in packed.infolist()])
            packed.extractall(directory)  # noqa: S202 - it strips what leads upwards
        return
    with tarfile.open(file) as packed:
        _check([each.size for each in packed])
        packed.extractall(directory, filter="data")


def _check(sizes: list[int]) -> None:
    if len(sizes) > MAX_MEMBERS or sum(sizes) > MAX_UNPACKED:
        raise OSError(f"{len(sizes)} files with {sum(sizes)} bytes are more than may be unpacked")
