"""The frozen configuration of a model: the facts that the rest of the house reads, plainly typed.

It is made once, from a message that was normalised and validated, and never changes; what it does not name is
found in its `message`. Sizes are element counts, -1 in `dims` means any size, and names of durations end in
their unit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Self

from ..datatypes import Datatype
from ..schema import model_config_pb2 as pb
from .conditions import Condition


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a model expects of one input."""

    name: str
    datatype: Datatype
    dims: tuple[int, ...]
    """The shape that clients send, without the batch dimension."""
    reshape: tuple[int, ...] | None = None
    """The shape that the model sees instead of `dims`."""
    optional: bool = False
    allow_ragged_batch: bool = False
    """Whether requests with different shapes may share a batch."""
    is_shape_tensor: bool = False

    @classmethod
    def from_message(cls, message: pb.ModelInput) -> Self:
        """Read the facts of one input."""
        return cls(
            name=message.name,
            datatype=Datatype(message.data_type),
            dims=tuple(message.dims),
            reshape=tuple(message.reshape.shape) if message.HasField("reshape") else None,
            optional=message.optional,
            allow_ragged_batch=message.allow_ragged_batch,
            is_shape_tensor=message.is_shape_tensor,
        )


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """What a model promises of one output."""

    name: str
    datatype: Datatype
    dims: tuple[int, ...]
    """The shape that clients get, without the batch dimension."""
    reshape: tuple[int, ...] | None = None
    """The shape that the model makes instead of `dims`."""
    label_filename: str = ""
    is_shape_tensor: bool = False

    @classmethod
    def from_message(cls, message: pb.ModelOutput) -> Self:
        """Read the facts of one output."""
        return cls(
            name=message.name,
            datatype=Datatype(message.data_type),
            dims=tuple(message.dims),
            reshape=tuple(message.reshape.shape) if message.HasField("reshape") else None,
            label_filename=message.label_filename,
            is_shape_tensor=message.is_shape_tensor,
        )


@dataclass(frozen=True, slots=True)
class Latest:
    """Serve the highest versions."""

    count: int

    def select(self, present: Iterable[int]) -> tuple[int, ...]:
        """Return the versions to serve, ascending."""
        return tuple(sorted(present, reverse=True)[: self.count][::-1])


@dataclass(frozen=True, slots=True)
class AllVersions:
    """Serve every version there is."""

    def select(self, present: Iterable[int]) -> tuple[int, ...]:
        """Return the versions to serve, ascending."""
        return tuple(sorted(present))


@dataclass(frozen=True, slots=True)
class Specific:
    """Serve the named versions, as far as they are there."""

    versions: tuple[int, ...]

    def select(self, present: Iterable[int]) -> tuple[int, ...]:
        """Return the versions to serve, ascending."""
        return tuple(sorted(set(self.versions).intersection(present)))


VersionPolicy = Latest | AllVersions | Specific


def version_policy(message: pb.ModelVersionPolicy) -> VersionPolicy:
    """Read a version policy."""
    match message.WhichOneof("policy_choice"):
        case "latest":
            return Latest(message.latest.num_versions)
        case "specific":
            return Specific(tuple(message.specific.versions))
        case _:
            return AllVersions()


class TimeoutAction(Enum):
    """What becomes of a request that waited too long."""

    REJECT = pb.ModelQueuePolicy.REJECT
    DELAY = pb.ModelQueuePolicy.DELAY
    """It is served after all that did not time out."""


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How one priority level waits."""

    timeout_action: TimeoutAction = TimeoutAction.REJECT
    default_timeout_us: int = 0
    """Microseconds until a request times out; 0 means never."""
    allow_timeout_override: bool = False
    """Whether a request may bring a shorter timeout of its own."""
    max_queue_size: int = 0
    """Requests that may wait; 0 means any number."""

    @classmethod
    def from_message(cls, message: pb.ModelQueuePolicy) -> Self:
        """Read the policy of one queue."""
        return cls(
            timeout_action=TimeoutAction(message.timeout_action),
            default_timeout_us=message.default_timeout_microseconds,
            allow_timeout_override=message.allow_timeout_override,
            max_queue_size=message.max_queue_size,
        )


@dataclass(frozen=True, slots=True)
class DynamicBatching:
    """How requests are put side by side."""

    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_us: int = 0
    preserve_ordering: bool = False
    priority_levels: int = 0
    """Levels 1 (the highest) to this one; 0 means that requests have no priorities."""
    default_priority_level: int = 0
    default_queue_policy: QueuePolicy = QueuePolicy()
    priority_queue_policy: Mapping[int, QueuePolicy] = field(default_factory=lambda: MappingProxyType({}))
    """The levels that do not follow the default policy."""

    @classmethod
    def from_message(cls, message: pb.ModelDynamicBatching) -> Self:
        """Read the settings of the dynamic batcher."""
        return cls(
            preferred_batch_sizes=tuple(message.preferred_batch_size),
            max_queue_delay_us=message.max_queue_delay_microseconds,
            preserve_ordering=message.preserve_ordering,
            priority_levels=message.priority_levels,
            default_priority_level=message.default_priority_level,
            default_queue_policy=QueuePolicy.from_message(message.default_queue_policy),
            priority_queue_policy=MappingProxyType(
                {
                    level: QueuePolicy.from_message(policy)
                    for level, policy in message.priority_queue_policy.items()
                }
            ),
        )


@dataclass(frozen=True, slots=True)
class EnsembleStep:
    """One model of an ensemble, and the ensemble tensors that it reads and writes."""

    model_name: str
    model_version: int
    """-1 means the latest."""
    input_map: Mapping[str, str]
    """The step's input → the ensemble tensor."""
    output_map: Mapping[str, str]
    """The step's output → the ensemble tensor."""
    when: Condition | None = None
    """What must hold for the step to run; None where it always does."""

    @property
    def reads(self) -> frozenset[str]:
        """The ensemble tensors that it waits for."""
        own = frozenset(self.input_map.values())
        return own if self.when is None else own | {self.when.tensor}

    @classmethod
    def from_message(cls, message: pb.ModelEnsembling.Step) -> Self:
        """Read one step."""
        return cls(
            model_name=message.model_name,
            model_version=message.model_version,
            input_map=MappingProxyType(dict(sorted(message.input_map.items()))),
            output_map=MappingProxyType(dict(sorted(message.output_map.items()))),
            when=Condition.parse(message.when) if message.HasField("when") else None,
        )


@dataclass(frozen=True, slots=True)
class Ensemble:
    """The steps of a model that is made of other models."""

    steps: tuple[EnsembleStep, ...]
    max_inflight_requests: int = 0
    """Requests of all clients that may be on their way through each step; 0 means any number."""

    @classmethod
    def from_message(cls, message: pb.ModelEnsembling) -> Self:
        """Read the steps of an ensemble."""
        return cls(tuple(map(EnsembleStep.from_message, message.step)), message.max_inflight_requests)


class InstanceKind(Enum):
    """What an instance runs on."""

    AUTO = pb.ModelInstanceGroup.KIND_AUTO
    """Not decided yet; normalisation decides."""
    GPU = pb.ModelInstanceGroup.KIND_GPU
    CPU = pb.ModelInstanceGroup.KIND_CPU
    MODEL = pb.ModelInstanceGroup.KIND_MODEL
    """The model places itself."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What each execution of an instance holds of what is shared, and how urgent it is."""

    resources: tuple[tuple[str, bool, int], ...] = ()
    """Names, whether all devices share it, and how many."""
    priority: int = 1
    """1 is the most urgent; 2 runs half as often."""

    @classmethod
    def from_message(cls, message: pb.ModelRateLimiter) -> Self:
        """Read the limits of a group."""
        resources = tuple((each.name, getattr(each, "global"), each.count) for each in message.resources)
        return cls(resources, max(1, message.priority))


@dataclass(frozen=True, slots=True)
class InstanceGroup:
    """Instances of one kind."""

    name: str
    kind: InstanceKind
    count: int
    """Instances on each GPU, or in all where the group has no GPUs."""
    gpus: tuple[int, ...] = ()
    passive: bool = False
    """Whether the instances are loaded, but given no requests."""
    rate_limit: RateLimit = RateLimit()

    @classmethod
    def from_message(cls, message: pb.ModelInstanceGroup) -> Self:
        """Read one instance group."""
        kind = InstanceKind(message.kind)
        limit = RateLimit.from_message(message.rate_limiter)
        return cls(message.name, kind, message.count, tuple(message.gpus), message.passive, limit)


class WarmupData(Enum):
    """Where the data of a warm-up input comes from."""

    ZERO = "zero_data"
    RANDOM = "random_data"
    FILE = "input_data_file"


@dataclass(frozen=True, slots=True)
class WarmupInput:
    """One input of a warm-up sample."""

    datatype: Datatype
    dims: tuple[int, ...]
    data: WarmupData
    file: str = ""
    """The file below the model's `warmup` directory, where the data comes from one."""

    @classmethod
    def from_message(cls, message: pb.ModelWarmup.Input) -> Self:
        """Read one input of a sample."""
        return cls(
            datatype=Datatype(message.data_type),
            dims=tuple(message.dims),
            data=WarmupData(message.WhichOneof("input_data_type")),
            file=message.input_data_file,
        )


@dataclass(frozen=True, slots=True)
class WarmupSample:
    """A batch that each instance runs before it is ready."""

    name: str
    batch_size: int
    """Requests in the batch, one row each."""
    inputs: Mapping[str, WarmupInput]
    count: int
    """How often it runs, at least once."""

    @classmethod
    def from_message(cls, message: pb.ModelWarmup) -> Self:
        """Read one sample."""
        inputs = {name: WarmupInput.from_message(each) for name, each in message.inputs.items()}
        return cls(message.name, message.batch_size, MappingProxyType(inputs), max(1, message.count))


@dataclass(frozen=True, slots=True, eq=False)
class ModelConfig:
    """The configuration of one model."""

    name: str
    platform: str
    backend: str
    """Empty for ensembles."""
    runtime: str
    version_policy: VersionPolicy
    max_batch_size: int
    """0 means that tensors have no batch dimension."""
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    dynamic_batching: DynamicBatching | None
    """This, `sequence_batching` and `ensemble` exclude each other; without all three there is no batching."""
    sequence_batching: pb.ModelSequenceBatching | None
    ensemble: Ensemble | None
    instance_groups: tuple[InstanceGroup, ...]
    default_model_filename: str
    parameters: Mapping[str, str]
    decoupled: bool
    """Whether a request may have any number of responses."""
    response_cache: bool
    warmup: tuple[WarmupSample, ...]
    """The samples to run; those of batch size 0 are left out."""
    message: pb.ModelConfig = field(repr=False)
    """The whole configuration; nobody writes to it."""

    @classmethod
    def from_message(cls, message: pb.ModelConfig) -> Self:
        """Read a normalised and validated configuration; the message is copied."""
        own = pb.ModelConfig()
        own.CopyFrom(message)
        scheduling = own.WhichOneof("scheduling_choice")
        dynamic, sequence, steps = own.dynamic_batching, own.sequence_batching, own.ensemble_scheduling
        return cls(
            name=own.name,
            platform=own.platform,
            backend=own.backend,
            runtime=own.runtime,
            version_policy=version_policy(own.version_policy),
            max_batch_size=own.max_batch_size,
            inputs=tuple(map(InputSpec.from_message, own.input)),
            outputs=tuple(map(OutputSpec.from_message, own.output)),
            dynamic_batching=(
                DynamicBatching.from_message(dynamic) if scheduling == "dynamic_batching" else None
            ),
            sequence_batching=sequence if scheduling == "sequence_batching" else None,
            ensemble=Ensemble.from_message(steps) if scheduling == "ensemble_scheduling" else None,
            instance_groups=tuple(map(InstanceGroup.from_message, own.instance_group)),
            default_model_filename=own.default_model_filename,
            parameters=MappingProxyType({key: each.string_value for key, each in own.parameters.items()}),
            decoupled=own.model_transaction_policy.decoupled,
            response_cache=own.response_cache.enable,
            warmup=tuple(WarmupSample.from_message(each) for each in own.model_warmup if each.batch_size),
            message=own,
        )
