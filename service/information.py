"""What both doors tell about the server and its models, as plain members that are the same on both wires."""

from typing import Any

from ..actors.repository import Repository
from ..proto import metadata
from ..proto.config.json_form import to_json
from ..proto.errors import Fault, InferError, invalid
from ..proto.message import LATEST
from .doorway import Doorway

Members = dict[str, Any]


def check_serving(repository: Repository) -> None:
    """Raise InferError while the server has not started, or is about to stop."""
    if not repository.live or repository.stopping:
        raise InferError(Fault.UNAVAILABLE, "Server not ready")


def check_not_exiting(repository: Repository) -> None:
    """Raise InferError when the server is about to stop."""
    if repository.stopping:
        raise InferError(Fault.UNAVAILABLE, "Server exiting")


def server_metadata(doorway: Doorway) -> Members:
    """Return name, version and extensions of this server."""
    return metadata.server_metadata(doorway.server_id, doorway.version)


def model_metadata(repository: Repository, name: str, version: int) -> Members:
    """Return what a model takes and gives; all its versions, or the one that was asked for."""
    servable = repository.find(name, version)
    versions = repository.versions(name) if version == LATEST else (version,)
    return metadata.model_metadata(servable.config, versions)


def model_config(repository: Repository, name: str, version: int) -> Members:
    """Return a model's whole configuration."""
    return to_json(repository.find(name, version).config.message)


def statistics(repository: Repository, name: str, version: int) -> list[Members]:
    """Return the counters of a version, of all versions of a model, or of all models for no name."""
    check_serving(repository)
    if name:
        versions = repository.versions(name)
        if not versions:
            raise invalid(f"requested model '{name}' is not available")
        if version != LATEST and version not in versions:
            raise invalid(f"requested model version is not available for model '{name}'")
    return [
        {"name": servable.name, "version": str(servable.version), **servable.statistics.as_dict()}
        for servable in repository.served()
        if not name or (servable.name == name and version in (LATEST, servable.version))
    ]


def repository_index(repository: Repository, *, ready_only: bool) -> list[Members]:
    """Return what lies in the repositories and what became of it; a member that says nothing is left out."""
    return [
        {
            "name": entry.name,
            **({} if entry.version is None else {"version": str(entry.version)}),
            **({"state": entry.state} if entry.state else {}),
            **({"reason": entry.reason} if entry.reason else {}),
        }
        for entry in repository.index(ready_only=ready_only)
    ]
