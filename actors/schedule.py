"""What a schedule is: events and a time go in, orders come out.

A schedule decides which waiting requests run together, when, and on which instance. It is pure: it owns no
task, no timer and no clock, so it can be tested in virtual time, one event after another. The router round it
does what the orders say.

Readiness is credit. The router hands a schedule its credits, each the id of an instance that can take one
more batch, the longest idle first; each `Dispatch` spends one. Without credit nothing is dispatched, so
batches are cut as late as can be and windows, priorities and cancellations stay true until the last moment.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..proto.errors import InferError, invalid
from ..proto.message import Request
from .clock import Instant
from .reply import Reply
from .statistics import Execution

InstanceId = int


@dataclass(slots=True, eq=False)
class Job:
    """A request on its way through a model: what was asked, whom to answer, and what happened."""

    request: Request
    reply: Reply
    arrived: Instant
    """When the door handed the request over."""
    queued: Instant = 0
    """When the schedule took it."""
    level: int = 0
    """The priority level it waits at; 1 is served first, 0 where the model knows no levels."""
    deadline: Instant | None = None
    """When its wait becomes too long; None where it may wait for ever."""
    signature: object = None
    """What must be equal among requests of one batch; see `batching`."""
    answered: bool = False
    """Whether its final response was sent."""
    step: int = 0
    """How often it came again after it had run, because its model wanted another step."""
    responses: int = 0
    """Responses that were handed on, where a model gives them one by one."""
    responded: Instant = 0
    """When the last of these was handed on; 0 before the first."""
    empty_row: bool = False
    """Whether it stands where a batch has a row and no request; nobody asked it and nothing counts it."""
    execution: Execution | None = None
    """How long the phases of the batch took that it ran in; written before it is answered, where all of its
    responses come at once."""
    on_settled: Callable[[], None] | None = None
    """What to do as soon as `execution` is written, for a model whose responses come one by one."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Run these jobs as one batch on this instance."""

    instance: InstanceId
    jobs: Sequence[Job]
    empty_rows: int = 0
    """How many of the jobs are rows without a request."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Answer this job with this error; it never ran."""

    job: Job
    error: InferError
    reason: str
    """The failure reason that metrics count it under."""


@dataclass(frozen=True, slots=True)
class Forget:
    """Tell this instance that a sequence which it has served was abandoned."""

    instance: InstanceId
    correlation_id: int | str
    slot: int


Order = Dispatch | Reject | Forget


class Schedule(Protocol):
    """A policy of batching and order; every method returns at once."""

    @property
    def prompt(self) -> bool:
        """Whether an idle model serves a request at once; a batcher would rather see who comes with it."""

    def __len__(self) -> int:
        """Jobs that wait."""

    def admit(self, job: Job, now: Instant) -> None:
        """Take a job into the queue; raises InferError(UNAVAILABLE) when there is no room for it."""

    def resume(self, job: Job, now: Instant) -> None:
        """Take a job back that has run, for another step; raises InferError where that cannot be."""

    def withdraw(self, request: Request) -> Job | None:
        """Give back the waiting job of a request, if it waits here."""

    def plan(self, credits_: Sequence[InstanceId], now: Instant) -> Iterable[Order]:
        """Decide what happens now; spends at most the credits given, in their order."""

    def wake_at(self) -> Instant | None:
        """When `plan` should be asked again though nothing happened; None for never."""

    def returned(self, instance: InstanceId) -> None:
        """Hear that an instance came, or came back; its credits follow with the next `plan`."""

    def lost(self, instance: InstanceId) -> Sequence[Job]:
        """Hear that an instance broke; give back the waiting jobs that only it could have served."""

    def retire(self, instance: InstanceId) -> None:
        """Hear that an instance is to leave: what is bound to it goes on there, and nothing more is bound."""

    def holds(self, instance: InstanceId) -> bool:
        """Whether anything is bound to an instance."""

    def clear(self) -> list[Job]:
        """Give back every waiting job, because the model ends."""

    def check(self) -> None:
        """Raise AssertionError when the schedule contradicts itself; for tests, after each step."""


def not_iterative() -> InferError:
    """Return the error of a request whose model wants another step, and is not configured for that."""
    return invalid(
        "Request is released with TRITONSERVER_REQUEST_RELEASE_RESCHEDULE, while the model is not configured "
        "to handle such a flag."
    )
