"""A split: the old version of a model and the new one on trial, before those who ask for the model.

Which of them serves a request is decided once, when it comes: whoever claims the new version by a parameter
gets it, and of the others it gets its share, spread evenly. What the new version does not take (it has no
room, say) goes to the old one, and counts against the new. How each answers is counted here, and not read
from the statistics, where a response that tells of an error is a response like any other.
"""

from collections.abc import Mapping, Sequence

from ..proto.admission import Admission
from ..proto.config import ModelConfig
from ..proto.config.canary import CanaryPolicy
from ..proto.errors import Fault, InferError
from ..proto.message import Request, Response
from .canary import Answers
from .clock import now
from .reply import Reply
from .schedule import Job
from .servable import Servable


class Arm:
    """One of the two versions of a split, whose answers are counted."""

    __slots__ = (
        "_version",
        "admission",
        "answers",
        "config",
        "edition",
        "labels",
        "leases",
        "name",
        "sent",
        "statistics",
        "version",
    )

    def __init__(self, version: Servable) -> None:
        self.name = version.name
        self.version = version.version
        self.config: ModelConfig = version.config
        self.admission: Admission = version.admission
        self.labels: Mapping[str, Sequence[str]] = version.labels
        self.statistics = version.statistics
        self.leases = version.leases
        self.edition = version.edition
        self.answers = Answers()
        self.sent = 0
        """Requests that it was given, and that were not cancelled."""
        self._version = version

    def infer(self, request: Request, reply: Reply) -> Job:
        """Check a request and leave it with the version; raises InferError at once when it is refused."""
        self.admission.check(request)
        job = Job(request, reply, now())
        self.take(job)
        return job

    def take(self, job: Job) -> None:
        """Leave a checked request with the version; raises InferError where there is no room for it."""
        self.sent += 1
        job.request.model_version = self.version
        reply, job.reply = job.reply, _Counted(self, job)
        try:
            self._version.take(job)
        except InferError:
            job.reply = reply
            self.answers = self.answers.and_one(failed=True)
            raise

    def answered(self, job: Job, error: InferError | None) -> None:
        """Hear of the last response to a request, and of the error that was among all of them."""
        if job.request.cancelled or (error is not None and error.fault is Fault.CANCELLED):
            self.sent -= 1
        else:
            self.answers = self.answers.and_one(now() - job.arrived, failed=error is not None)

    def cancel(self, request: Request) -> None:
        """Hear that nobody waits for a request any more."""
        self._version.cancel(request)

    @property
    def busy(self) -> bool:
        """Whether a request waits or runs."""
        return self._version.busy

    @property
    def pending(self) -> int:
        """Requests that do not execute yet."""
        return self._version.pending

    async def is_ready(self) -> bool:
        """Tell what the version says."""
        return await self._version.is_ready()

    def drain(self) -> None:
        """Let the version drain."""
        self._version.drain()


class _Counted:
    """A reply that passes all on, and tells an arm how its request was answered."""

    __slots__ = ("_arm", "_error", "_job", "_reply")

    def __init__(self, arm: Arm, job: Job) -> None:
        self._arm = arm
        self._job = job
        self._reply = job.reply
        self._error: InferError | None = None

    def send(self, response: Response) -> None:
        """Take a response and pass it on."""
        self._error = response.error or self._error
        if response.final:
            self._arm.answered(self._job, self._error)
        self._reply.send(response)


class Split:
    """Two versions that are asked as one; it is told of as the old one."""

    __slots__ = (
        "_due",
        "_policy",
        "admission",
        "config",
        "edition",
        "labels",
        "leases",
        "name",
        "new",
        "old",
        "statistics",
        "version",
    )

    def __init__(self, old: Servable, new: Servable, policy: CanaryPolicy) -> None:
        self.old = Arm(old)
        self.new = Arm(new)
        self.name = old.name
        self.version = old.version
        self.config: ModelConfig = old.config
        self.admission: Admission = old.admission
        self.labels: Mapping[str, Sequence[str]] = old.labels
        self.statistics = old.statistics
        self.leases = old.leases
        self.edition = old.edition
        self._policy = policy
        self._due = 0.0

    def choose(self, request: Request) -> Arm:
        """Return the version that is to serve a request."""
        if self._policy.claims(request.parameters):
            return self.new
        self._due += self._policy.share
        if self._due < 1:
            return self.old
        self._due -= 1
        return self.new

    def infer(self, request: Request, reply: Reply) -> Job:
        """Check a request and leave it with one of the two; raises InferError where neither takes it."""
        self.admission.check(request)
        job = Job(request, reply, now())
        self.take(job)
        return job

    def take(self, job: Job) -> None:
        """Leave a checked request with one of the two; raises InferError where neither takes it."""
        if self.choose(job.request) is self.new:
            try:
                self.new.take(job)
            except InferError:
                pass  # it has been counted
            else:
                return
        self.old.take(job)

    def cancel(self, request: Request) -> None:
        """Tell whichever has the request."""
        self.new.cancel(request)
        self.old.cancel(request)

    @property
    def busy(self) -> bool:
        """Whether a request waits or runs."""
        return self.old.busy or self.new.busy

    @property
    def pending(self) -> int:
        """Requests that do not execute yet."""
        return self.old.pending + self.new.pending

    async def is_ready(self) -> bool:
        """Tell what the old version says."""
        return await self.old.is_ready()

    def drain(self) -> None:
        """Let both drain."""
        self.new.drain()
        self.old.drain()


def chosen(models: Sequence[Servable], request: Request) -> list[Servable]:
    """Return models with one version in the place of each split, the same wherever it occurs."""
    arms = {model: model.choose(request) for model in dict.fromkeys(models) if isinstance(model, Split)}
    return [arms[model] if isinstance(model, Split) else model for model in models]
