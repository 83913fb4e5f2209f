"""What both doors stand before: the repository, who this server is, and what watches it."""

from dataclasses import dataclass, field

from ..actors.cache import Store
from ..actors.repository import Repository
from .logs import ServerLog
from .observer import Observer
from .settings import ControlMode, LogSettings
from .shared_memory import SharedMemory


@dataclass(frozen=True, slots=True)
class Doorway:
    """What a door needs of the house."""

    repository: Repository
    control_mode: ControlMode
    server_id: str
    version: str
    log: ServerLog = field(default_factory=lambda: ServerLog(LogSettings()))
    shared_memory: SharedMemory = field(default_factory=SharedMemory)
    observer: Observer = field(default_factory=Observer)
    cache: Store | None = None
    """Where responses are kept, if anywhere."""
