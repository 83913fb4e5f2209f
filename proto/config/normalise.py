"""Defaults written out: what Triton adds to a configuration, so that its readers need not know the defaults.

Every function takes a message and returns another. `normalise` is run when a configuration was read and again
when a backend completed it; `normalise_instance_groups` needs to know the machine and comes after.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..schema import model_config_pb2 as pb

DEFAULT_SEQUENCE_IDLE_MICROSECONDS: Final = 1_000_000

DEFAULT_CPU_COUNT: Final = {"onnxruntime": 2, "tensorflow": 2}
"""Instances of a CPU group without `count`, where it is not 1."""

PREFERRED_GROUPS: Final = (
    pb.ModelInstanceGroup(kind=pb.ModelInstanceGroup.KIND_GPU),
    pb.ModelInstanceGroup(kind=pb.ModelInstanceGroup.KIND_CPU),
)
"""What a backend that runs on either prefers."""


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs that instances may use: their device numbers, and what they had to be capable of."""

    ids: tuple[int, ...] = ()
    min_compute_capability: float = 6.0


def normalise(config: pb.ModelConfig) -> pb.ModelConfig:
    """Return the configuration with the defaults that do not depend on the machine."""
    normal = pb.ModelConfig()
    normal.CopyFrom(config)
    if not normal.HasField("version_policy"):
        normal.version_policy.latest.num_versions = 1
    scheduling = normal.WhichOneof("scheduling_choice")
    if scheduling == "dynamic_batching":
        _prefer_full_batches(normal.dynamic_batching, normal.max_batch_size)
    if scheduling == "sequence_batching":
        sequence = normal.sequence_batching
        sequence.max_sequence_idle_microseconds = (
            sequence.max_sequence_idle_microseconds or DEFAULT_SEQUENCE_IDLE_MICROSECONDS
        )
        if sequence.HasField("oldest"):
            _prefer_full_batches(sequence.oldest, normal.max_batch_size)
    if scheduling != "ensemble_scheduling":
        for memory in "input_pinned_memory", "output_pinned_memory":
            if not normal.optimization.HasField(memory):
                getattr(normal.optimization, memory).enable = True
    return normal


def _prefer_full_batches(
    batching: pb.ModelDynamicBatching | pb.ModelSequenceBatching.StrategyOldest, max_batch_size: int
) -> None:
    if not batching.preferred_batch_size and max_batch_size > 0:
        batching.preferred_batch_size.append(max_batch_size)


def normalise_instance_groups(
    config: pb.ModelConfig,
    gpus: Gpus | None,
    preferred: Sequence[pb.ModelInstanceGroup] = PREFERRED_GROUPS,
) -> pb.ModelConfig:
    """Return the configuration with at least one instance group, each with name, kind, count and GPUs.

    `gpus` is None on a server that runs on CPUs only; `preferred` are the groups that the backend would like,
    the best first. Ensembles have no instances and stay as they are.
    """
    normal = pb.ModelConfig()
    normal.CopyFrom(config)
    if normal.HasField("ensemble_scheduling"):
        return normal
    available = gpus.ids if gpus is not None else ()
    if not normal.instance_group:
        normal.instance_group.append(_preferred_group(preferred, available))
        normal.instance_group[0].name = normal.name
    for index, group in enumerate(normal.instance_group):
        group.name = group.name or f"{normal.name}_{index}"
        if group.kind == pb.ModelInstanceGroup.KIND_AUTO:
            on_gpu = available and set(available).issuperset(group.gpus)
            group.kind = pb.ModelInstanceGroup.KIND_GPU if on_gpu else pb.ModelInstanceGroup.KIND_CPU
        _follow_preferences(group, preferred, available)
        if group.count < 1:
            on_cpu = group.kind == pb.ModelInstanceGroup.KIND_CPU
            group.count = DEFAULT_CPU_COUNT.get(normal.backend, 1) if on_cpu else 1
        if group.kind == pb.ModelInstanceGroup.KIND_GPU and not group.gpus:
            group.gpus.extend(available)
    return normal


def _preferred_group(
    preferred: Sequence[pb.ModelInstanceGroup], available: tuple[int, ...]
) -> pb.ModelInstanceGroup:
    """Return the first group that the backend prefers and the machine has; KIND_AUTO if there is none."""
    group = pb.ModelInstanceGroup()
    for preference in preferred:
        if preference.kind == pb.ModelInstanceGroup.KIND_GPU:
            if not available:
                continue
            group.gpus.extend(gpu for gpu in preference.gpus if gpu in available)
        elif preference.kind == pb.ModelInstanceGroup.KIND_AUTO:
            group.gpus.extend(preference.gpus)
        group.kind = preference.kind
        group.count = preference.count
        break
    return group


def _follow_preferences(
    group: pb.ModelInstanceGroup, preferred: Sequence[pb.ModelInstanceGroup], available: tuple[int, ...]
) -> None:
    """Take over GPUs and count from the preferences of the same kind, where the group says nothing itself."""
    for preference in preferred:
        if preference.kind != group.kind:
            continue
        if group.kind == pb.ModelInstanceGroup.KIND_GPU and preference.gpus and not group.gpus:
            group.gpus.extend(gpu for gpu in preference.gpus if gpu in available)
            if not group.gpus:
                continue
        if group.count < 1 and preference.count > 0:
            group.count = preference.count
