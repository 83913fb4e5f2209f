"""The faces of an engine: what a backend must offer, and what it may count on.

A `Backend` turns a model's files into a `Plan`, once for each device; a plan is what instances share, such as
weights. A plan seats an `Engine` for each instance; an engine is what one instance owns, such as an execution
context. All of it runs on lanes, never on the event loop: every call may block, and calls to one engine never
overlap.

Errors: an `InferError` raised from `execute` refuses the batch, and the engine lives on. Any other exception
says that the engine is broken: its batch fails and the instance gets a new engine.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..proto.config import ModelConfig
from ..proto.errors import InferError
from ..proto.schema.model_config_pb2 import ModelConfig as ConfigMessage
from .batch import Batch, Emit
from .device import Device, Stream

__all__ = [
    "Backend",
    "Batch",
    "Done",
    "Emit",
    "Engine",
    "Lost",
    "ModelFiles",
    "Plan",
    "RemembersSequences",
    "RemoteEngine",
    "Seat",
    "Settings",
    "Soon",
    "TellsReadiness",
]

Settings = Mapping[str, str]
"""The `--backend-config` settings of one backend, the global ones included."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where the files of one version of a model lie."""

    directory: Path
    """The model directory, which holds `config.pbtxt` and the version directories."""
    version: int

    @property
    def version_directory(self) -> Path:
        """The directory of this version."""
        return self.directory / str(self.version)


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of one instance: its name, its number within the model, its device and its stream."""

    name: str
    index: int
    device: Device
    stream: Stream


class Engine(Protocol):
    """What one instance runs on."""

    def execute(self, batch: Batch, emit: Emit) -> None:
        """Run a batch; raises InferError to refuse it."""

    def close(self) -> None:
        """Give back everything the engine holds; called once, also after `execute` broke."""


Done = Callable[[InferError | None], None]
"""Hears that a batch has returned: None where it was executed, an error where it was refused."""
Lost = Callable[[InferError], None]
"""Hears that an engine is gone, and why; its batches do not return any more."""


Soon = Callable[[Callable[[], None]], object]
"""Has something called when all that is to be done in this turn was begun; on the thread that hears."""


@runtime_checkable
class RemoteEngine(Engine, Protocol):
    """An engine whose work is done in another process, so that nobody has to wait for it on a thread.

    Its owner watches `fileno()` and calls `hear()` when it can be read, always on the same thread. There it
    is told what became of its batches.
    """

    patience_s: float
    """Seconds that a batch may take; 0 is for ever."""

    def fileno(self) -> int:
        """Return the descriptor that can be read when there is something to hear."""

    def begin(self, batch: Batch, emit: Emit, done: Done) -> None:
        """Send a batch on its way and return at once; raises InferError to refuse it."""

    def hear(self) -> bool:
        """Take what the other process has sent, without waiting for more; return whether more may come."""

    def serve(self, lost: Lost, soon: Soon) -> None:
        """Be watched from now on; `lost` is called once, from any thread, if the process ends by itself."""

    def has_begun(self, batch: Batch) -> bool:
        """Tell whether the process has begun a batch that it did not return; the others come to no harm."""

    def overdue(self, batch: Batch) -> None:
        """End the process, for a batch has taken longer than `patience_s`."""

    def is_heavy(self, batch: Batch) -> bool:
        """Tell whether to `begin` a batch takes so long that others should not wait for it."""


@runtime_checkable
class TellsReadiness(Protocol):
    """An engine that may say it is not ready for requests, though it takes them."""

    def is_ready(self) -> bool:
        """Tell whether requests are welcome; may block, and is called while `execute` runs."""


@runtime_checkable
class RemembersSequences(Protocol):
    """An engine that keeps something from one request of a sequence to the next."""

    def forget_sequence(self, correlation_id: int | str, slot: int) -> None:
        """Hear that a sequence which was served here was abandoned; called between batches, where they begin.

        It had this slot, which another sequence may get next.
        """


class Plan(Protocol):
    """What all instances of a model on one device share."""

    def engine(self, seat: Seat) -> Engine:
        """Make the engine of one instance; raises InferError when it cannot."""

    def close(self) -> None:
        """Give back what is shared; called once, after all engines closed."""


class Backend(Protocol):
    """A kind of model: how its files become engines."""

    def complete(self, config: ConfigMessage, files: ModelFiles) -> ConfigMessage:
        """Return the configuration with what the model's files tell filled in; raises InferError."""

    def load(self, config: ModelConfig, files: ModelFiles, device: Device) -> Plan:
        """Read the model's files; raises InferError when they are missing or do not fit the configuration."""
