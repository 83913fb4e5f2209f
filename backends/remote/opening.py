"""From an address to the repository there."""

from pathlib import Path

from ..model_home import RemoteRepository
from .address import Address, Kind
from .archive import ArchiveRepository
from .repository import ObjectRepository


def open_repository(address: Address, cache: Path) -> RemoteRepository:
    """Return a remote repository, not looked at yet; what is fetched of it is kept beneath `cache`.

    Raises InferError where the client is not installed or the credentials cannot be read.
    """
    if address.kind is Kind.ARCHIVE:
        return ArchiveRepository(address, cache)
    return ObjectRepository(address, cache)
