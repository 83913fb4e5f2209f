"""The faces of an engine: what a backend must offer, and what it may count on.

A `Backend` turns a model's files into a `Plan`, once for each device; a plan is what instances share, such as
weights. A plan seats an `Engine` for each instance; an engine is what one instance owns, such as an execution
context. All of it runs on lanes, never on the event loop: every call may block, and calls to one engine never
overlap.

Errors: an `InferError` raised from `execute` refuses the batch, and the engine lives on. Any other exception
says that the engine is broken: its batch fails and the instance gets a new engine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..proto.config import ModelConfig
from ..proto.message import Request, Response
from ..proto.schema.model_config_pb2 import ModelConfig as ConfigMessage
from .device import Device, Stream

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


@dataclass(slots=True)
class Batch:
    """Requests that execute together, side by side.

    The two marks are the engine's to set, in nanoseconds of `time.monotonic_ns`, where it can tell the phases
    of its work apart; an engine that cannot leaves them 0 and all its time counts as inference.
    """

    requests: Sequence[Request]
    size: int
    """Rows of all requests together, each counting at least 1."""
    inputs_ready: int = field(default=0, compare=False)
    outputs_started: int = field(default=0, compare=False)
    rescheduled: Sequence[int] = field(default=(), compare=False)
    """Rows whose requests are to come again, for another step; the engine's to set before `execute` returns.
    Such a row may have got responses, but none that is final."""


class Emit(Protocol):
    """Answers one request of a batch; may be called from any thread, also after `execute` returned.

    Each request gets any number of responses and exactly one that is final. One that is still unanswered when
    `execute` returns stays open: the engine that left it so must answer it later, or fail it. A row that is
    rescheduled is answered no more: its request comes again, as a row of another batch.
    """

    def __call__(self, row: int, response: Response) -> None:
        """Send a response to the request at index `row` of the batch."""


class Engine(Protocol):
    """What one instance runs on."""

    def execute(self, batch: Batch, emit: Emit) -> None:
        """Run a batch; raises InferError to refuse it."""

    def close(self) -> None:
        """Give back everything the engine holds; called once, also after `execute` broke."""


@runtime_checkable
class TellsReadiness(Protocol):
    """An engine that may say it is not ready for requests, though it takes them."""

    def is_ready(self) -> bool:
        """Tell whether requests are welcome; may block, and is called while `execute` runs."""


@runtime_checkable
class RemembersSequences(Protocol):
    """An engine that keeps something from one request of a sequence to the next."""

    def forget_sequence(self, correlation_id: int | str, slot: int) -> None:
        """Hear that a sequence which was served here was abandoned; called on the lane, between batches.

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
