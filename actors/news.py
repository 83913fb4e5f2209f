"""What a router hears: the messages of its mailbox, from doors, instances and whoever ends the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..proto.errors import InferError
from ..proto.message import Request
from .schedule import InstanceId, Job


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Forget a request: nobody waits for its answer."""

    request: Request


@dataclass(frozen=True, slots=True)
class Returned:
    """An instance can take batches, this many at a time."""

    instance: InstanceId
    credits: int


@dataclass(frozen=True, slots=True)
class Finished:
    """An instance has done a batch and can take another; some of its jobs are to come again."""

    instance: InstanceId
    rescheduled: Sequence[Job] = ()
    is_idle: bool = False
    """Whether it has no other batch, so that whoever waits keeps it waiting too."""


@dataclass(frozen=True, slots=True)
class Lost:
    """An instance broke; it takes nothing until it returned. These jobs it never began."""

    instance: InstanceId
    unbegun: Sequence[Job] = ()
    batches: int = 1
    """How many batches it had that will not be finished, the unbegun one included."""


@dataclass(frozen=True, slots=True)
class Allow:
    """An instance may have this many batches at a time from now on."""

    instance: InstanceId
    credits: int


@dataclass(frozen=True, slots=True)
class Retire:
    """Let an instance go as soon as nothing is bound to it, and say so; batches may still run there then."""

    instance: InstanceId
    let_go: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Drain:
    """Serve what waits, then end."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """Fail what waits, then end: nothing can serve it any more."""

    error: InferError


@dataclass(frozen=True, slots=True)
class Offered:
    """Resources are free that an instance waits for: take a turn, for there is nothing else to do."""


Message = Job | Withdraw | Returned | Finished | Lost | Allow | Retire | Offered | Drain | Abandon
