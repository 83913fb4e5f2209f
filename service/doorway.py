"""What both doors stand before: the repository, and who this server is."""

from dataclasses import dataclass

from ..actors.repository import Repository
from .settings import ControlMode


@dataclass(frozen=True, slots=True)
class Doorway:
    """What a door needs of the house."""

    repository: Repository
    control_mode: ControlMode
    server_id: str
    version: str
