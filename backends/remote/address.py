"""Addresses of remote repositories: Triton's `s3://`, `gs://` and `as://`, and archives on the web."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

ARCHIVES: Final = (".zip", ".tar", ".tar.gz", ".tgz")


class Kind(Enum):
    """What holds a repository; the values are the beginnings of its addresses."""

    S3 = "s3"
    GOOGLE = "gs"
    AZURE = "as"
    ARCHIVE = "http"


class AddressError(ValueError):
    """A text that is no address of a repository; the message says what one looks like."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a remote repository is."""

    text: str
    """As the operator wrote it."""
    kind: Kind
    container: str = ""
    """The bucket or container; the whole address of an archive."""
    prefix: str = ""
    """The path of the repository in it, without slashes at its ends."""
    account: str = ""
    """The storage account that an Azure container belongs to."""
    endpoint: str = ""
    """The server, where it is not the provider's own."""

    def __str__(self) -> str:
        return self.text


_S3: Final = re.compile(r"s3://(?:(?:(https?)://)?([^/:]+:[0-9]+)/)?([^/]+)(?:/(.*))?")
_GOOGLE: Final = re.compile(r"gs://([^/]+)(?:/(.*))?")
_AZURE: Final = re.compile(r"as://([^/]+)/([^/]+)(?:/(.*))?")


def is_remote(text: str) -> bool:
    """Whether a text looks like an address rather than a path."""
    return "://" in text


def parse_address(text: str) -> Address:
    """Return the address that a text spells; raises AddressError."""
    scheme = text.partition("://")[0]
    match scheme:
        case "s3":
            found = _fullmatch(_S3, text, "s3://[http://host:port/]bucket[/path]")
            security, host, bucket, path = found.groups()
            endpoint = f"{security or 'https'}://{host}" if host else ""
            return Address(text, Kind.S3, bucket, _bare(path), endpoint=endpoint)
        case "gs":
            bucket, path = _fullmatch(_GOOGLE, text, "gs://bucket[/path]").groups()
            return Address(text, Kind.GOOGLE, bucket, _bare(path))
        case "as":
            account, container, path = _fullmatch(_AZURE, text, "as://account/container[/path]").groups()
            return Address(text, Kind.AZURE, container, _bare(path), account.partition(".")[0])
        case "http" | "https":
            if not text.partition("?")[0].endswith(ARCHIVES):
                raise AddressError(f"an archive must end in one of {', '.join(ARCHIVES)}. Got {text}")
            return Address(text, Kind.ARCHIVE, text)
    raise AddressError(f"a remote repository is at s3://, gs://, as:// or http(s)://. Got {text}")


def _fullmatch(pattern: re.Pattern[str], text: str, form: str) -> re.Match[str]:
    found = pattern.fullmatch(text)
    if found is None:
        raise AddressError(f"expected {form}. Got {text}")
    return found


def _bare(path: str | None) -> str:
    return (path or "").strip("/")
