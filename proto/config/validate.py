"""All rules in one row: what is wrong with a configuration, in the order in which Triton would find it."""

from collections.abc import Iterator

from ..schema import model_config_pb2 as pb
from .complaint import Complaint
from .normalise import Gpus
from .rules.batching import check_dynamic_batching
from .rules.ensemble import check_ensemble
from .rules.identity import check_identity, check_metrics, check_response_cache
from .rules.instances import check_instance_groups
from .rules.sequence import check_initial_states, check_sequence_batching
from .rules.tensors import check_tensors
from .rules.warmup import check_warmup


def validate_declared(config: pb.ModelConfig) -> list[Complaint]:
    """Return what is wrong with a normalised configuration that its backend has not completed yet."""
    return list(_check_declared(config))


def validate(config: pb.ModelConfig, gpus: Gpus | None = None) -> list[Complaint]:
    """Return what is wrong with a configuration that is complete, its instance groups included."""
    return [
        *_check_declared(config),
        *check_instance_groups(config, gpus),
        *check_tensors(config),
        *check_initial_states(config),
        *check_warmup(config),
    ]


def _check_declared(config: pb.ModelConfig) -> Iterator[Complaint]:
    yield from check_identity(config)
    yield from check_dynamic_batching(config)
    yield from check_sequence_batching(config)
    yield from check_ensemble(config)
    yield from check_response_cache(config)
    yield from check_metrics(config)
