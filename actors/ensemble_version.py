"""One loaded version of an ensemble: requests that travel through other models.

It has neither queue nor lane. Each request has a conductor; what the ensemble itself keeps is what they
share: the graph, the form that tensors take between models, and the limits of the steps.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from ..proto.admission import Admission
from ..proto.config import ModelConfig
from ..proto.config.model_config import InputSpec, OutputSpec
from ..proto.message import Request
from ..proto.tensor import Tensor
from .clock import now
from .conductor import Conductor
from .ensemble import Answer, Step, Trip
from .graph import Graph, StepIndex
from .leases import Leases
from .mailbox import Mailbox
from .news import Drain
from .reply import Reply
from .router import stopped
from .schedule import Job
from .servable import Find, Servable
from .split import Split, chosen
from .statistics import Statistics
from .step_limit import StepLimit

log: Final = structlog.get_logger("deuteron.ensemble")

Form = tuple[int, bool]
"""The number of dimensions of a tensor, the batch apart, and whether it has a batch dimension before them."""


class EnsembleVersion:
    """One loaded version of an ensemble."""

    __slots__ = (
        "_find",
        "_graph",
        "_input_forms",
        "_limits",
        "_mailbox",
        "_output_forms",
        "_travelling",
        "admission",
        "config",
        "edition",
        "labels",
        "leases",
        "name",
        "statistics",
        "version",
    )

    def __init__(
        self,
        config: ModelConfig,
        version: int,
        labels: Mapping[str, Sequence[str]],
        statistics: Statistics,
        find: Find,
    ) -> None:
        assert config.ensemble is not None
        models = [find(step.model_name, step.model_version) for step in config.ensemble.steps]
        self.name = config.name
        self.version = version
        self.config = config
        self.admission = Admission(config)
        self.statistics = statistics
        self.edition = b""
        self._graph = Graph(config, [model.config for model in models])
        self._find = find
        self._input_forms = [_forms(model.config.inputs, model.config) for model in models]
        self._output_forms = _forms(config.outputs, config)
        most = config.ensemble.max_inflight_requests
        self._limits: Sequence[StepLimit[tuple[Conductor, Step]]] = [StepLimit(most) for _ in models if most]
        self.labels: Mapping[str, Sequence[str]] = {**_inherited_labels(self._graph, models), **labels}
        self._travelling: dict[int, Conductor] = {}
        self._mailbox: Mailbox[Drain] = Mailbox()
        self.leases = Leases(self._mailbox.close)

    def infer(self, request: Request, reply: Reply) -> Job:
        """Check a request and set out with it; raises InferError at once when it is refused."""
        self.admission.check(request)
        job = Job(request, reply, now())
        self.take(job)
        return job

    def take(self, job: Job) -> None:
        """Set out with a request that was checked; raises InferError when that cannot be any more."""
        request = job.request
        if self._mailbox.closed:
            raise stopped(request)
        models = [self._find(step.model_name, step.model_version) for step in self._graph.steps]
        if any(isinstance(model, Split) for model in models):
            models = chosen(models, request)
        conductor = Conductor(self, job, Trip(self._graph, request.requested_outputs), models)
        self._travelling[id(request)] = conductor
        conductor.begin()

    def cancel(self, request: Request) -> None:
        """End a request, and all that is on its way for it."""
        request.cancel()
        conductor = self._travelling.get(id(request))
        if conductor is not None:
            conductor.cancel()

    @property
    def pending(self) -> int:
        """Requests that wait: none does, an ensemble sets out at once."""
        return self.statistics.pending

    @property
    def busy(self) -> bool:
        """Whether a request is on its way."""
        return bool(self._travelling)

    async def is_ready(self) -> bool:
        """Tell that requests are welcome; what the models of the steps say is theirs alone."""
        return True

    def drain(self) -> None:
        """Refuse what comes when nobody holds this version any more; requests on their way arrive."""
        self.leases.drain()

    async def serve(self) -> None:
        """Live until drained and the last request has arrived."""
        while not self._mailbox.closed or self._travelling:
            await self._mailbox.wait()
            self._mailbox.take()

    # --- what conductors ask of it ---

    def inputs(self, step: Step) -> dict[str, Tensor]:
        """Return the inputs of a step, with the batch dimension that its model expects or without."""
        forms = self._input_forms[step.index]
        return {name: _fitted(tensor, *forms[name]) for name, tensor in step.inputs.items()}

    def outputs(self, answer: Answer) -> dict[str, Tensor]:
        """Return the outputs of an answer that exist, in the same way."""
        outputs: dict[str, Tensor] = {}
        for name, token in answer.items():
            if token.tensor is not None:
                outputs[name] = _fitted(token.tensor, *self._output_forms[name])
            else:
                log.debug("Composing models did not output tensor %s", name)
        return outputs

    def may_go(self, conductor: Conductor, step: Step) -> bool:
        """Tell whether a step is within its limit; where not, it waits for its turn."""
        return not self._limits or self._limits[step.index].admit((conductor, step))

    def stay(self, conductor: Conductor, step: Step) -> None:
        """Forget a step that waits for its turn."""
        self._limits[step.index].withdraw((conductor, step))

    def came_home(self, step: StepIndex) -> None:
        """Let the next one go through a step."""
        following = self._limits[step].release() if self._limits else None
        if following is not None:
            conductor, waiting = following
            conductor.go(waiting)

    def arrived(self, job: Job) -> None:
        """Hear from a conductor that its request is answered."""
        del self._travelling[id(job.request)]
        if self._mailbox.closed:
            self._mailbox.signal(Drain())


def _forms(tensors: Sequence[InputSpec | OutputSpec], config: ModelConfig) -> dict[str, Form]:
    return {spec.name: (len(spec.dims), config.max_batch_size > 0) for spec in tensors}


def _fitted(tensor: Tensor, dims: int, is_batching: bool) -> Tensor:  # noqa: FBT001 - the two of a `Form`
    """Return a tensor with the batch dimension added or removed, where it lacks nothing else."""
    rank = len(tensor.shape)
    if is_batching and rank == dims:
        return tensor.reshaped((1, *tensor.shape))
    if not is_batching and rank == dims + 1 and tensor.shape[0] == 1:
        return tensor.reshaped(tensor.shape[1:])
    return tensor


def _inherited_labels(graph: Graph, models: Sequence[Servable]) -> dict[str, Sequence[str]]:
    """Return the labels that outputs have from the models that make them, where these agree."""
    inherited: dict[str, Sequence[str]] = {}
    for output in graph.outputs:
        labels = [models[index].labels.get(name) for index, name in graph.writers_of(output)]
        if labels and labels[0] is not None and all(each == labels[0] for each in labels):
            inherited[output] = labels[0]
    return inherited
