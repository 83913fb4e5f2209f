"""An object store as a repository needs it: what is there, and the bytes of one object.

The client is `obstore`, the Python face of the object_store crate (docs/decisions has the reasons). It
retries what can be retried; what is still wrong then is told as an InferError that names the repository.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ...proto.errors import Fault, InferError
from .address import Address, Kind
from .credentials import credentials_of

if TYPE_CHECKING:
    from obstore.store import ObjectStore

MAX_OBJECTS: Final = 1_000_000
CHUNK: Final = 8 << 20
_TIMEOUT: Final = "30s"
_RETRIES: Final = {"max_retries": 4}


@dataclass(frozen=True, slots=True)
class Entry:
    """One object: its path beneath the repository, its size in bytes, and what changes when it does."""

    path: str
    size: int
    tag: str


class Objects:
    """The objects beneath the address of a repository."""

    def __init__(self, address: Address, environment: Mapping[str, str] | None = None) -> None:
        """Raise InferError where the client is not installed or the credentials cannot be read."""
        self.address = address
        self._store = _store(address, os.environ if environment is None else environment)

    def list(self) -> list[Entry]:
        """Return all objects; blocks. Raises InferError where the store does not answer."""
        import obstore  # noqa: PLC0415 - of an extra

        found: list[Entry] = []
        try:
            for page in obstore.list(self._store):
                found.extend(_entry(each) for each in page if _is_plain(str(each["path"])))
                if len(found) > MAX_OBJECTS:
                    break
        except Exception as error:
            raise self._unreachable("listed", error) from error
        if len(found) > MAX_OBJECTS:
            told = f"repository '{self.address}' has more than {MAX_OBJECTS} objects"
            raise InferError(Fault.UNAVAILABLE, told)
        return found

    def read(self, entry: Entry) -> Iterator[bytes]:
        """Yield the bytes of an object in pieces; blocks. Raises InferError, also where it has changed."""
        import obstore  # noqa: PLC0415 - of an extra

        try:
            got = obstore.get(self._store, entry.path)
            tag = got.meta["e_tag"]
            has_changed = tag is not None and _bare(tag) != entry.tag
            for piece in () if has_changed else got.stream(min_chunk_size=CHUNK):
                yield bytes(piece)
        except Exception as error:
            raise self._unreachable(f"read at '{entry.path}'", error) from error
        if has_changed:
            told = f"'{entry.path}' of repository '{self.address}' changed while it was read"
            raise InferError(Fault.UNAVAILABLE, told)

    def _unreachable(self, what: str, error: Exception) -> InferError:
        reason = str(error).strip().partition("\n")[0]
        return InferError(Fault.UNAVAILABLE, f"repository '{self.address}' cannot be {what}: {reason}")


def _store(address: Address, environment: Mapping[str, str]) -> "ObjectStore":
    try:
        from obstore.store import AzureStore, GCSStore, S3Store  # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise InferError(
            Fault.UNAVAILABLE,
            f"repository '{address}' needs a package that cannot be imported ({error}): "
            "pip install 'deuteron[remote]'",
        ) from error
    config: Any = dict(credentials_of(address, environment))
    options: Any = {"timeout": _TIMEOUT, "connect_timeout": "5s", "allow_http": True}
    common: dict[str, Any] = {
        "prefix": address.prefix or None,
        "client_options": options,
        "retry_config": _RETRIES,
    }
    match address.kind:
        case Kind.S3:
            if address.endpoint:
                config |= {"aws_endpoint": address.endpoint, "aws_virtual_hosted_style_request": "false"}
            return S3Store(address.container, config=config, **common)
        case Kind.GOOGLE:
            return GCSStore(address.container, config=config, **common)
        case _:
            config["azure_storage_account_name"] = address.account
            return AzureStore(address.container, config=config, **common)


def _entry(found: Mapping[str, Any]) -> Entry:
    tag = found["e_tag"] or str(found["last_modified"])
    return Entry(str(found["path"]), int(found["size"]), _bare(str(tag)))


def _bare(tag: str) -> str:
    """Return a tag without its quotes, which Azure leaves out of its listings."""
    return tag.removeprefix("W/").strip('"')


def _is_plain(path: str) -> bool:
    """Whether a path may become one of this machine: names alone, none of them hidden or leading upwards."""
    names = path.split("/")
    return all(name and not name.startswith(".") and "\\" not in name and "\0" not in name for name in names)
