"""All rules in one row: what is wrong with a configuration, in the order in which Triton would find it.

The rules stand in the files `*_rules.py`, one subject each. A rule looks at its subject alone and yields
every complaint it has, in the order in which Triton looks for them, so that the first is the one that Triton
would report; what only follows from an earlier complaint is left out. The texts are Triton's (core,
`model_config_utils.cc`).
"""

from collections.abc import Iterator
from typing import Final

from ..schema import model_config_pb2 as pb
from .batching_rules import check_dynamic_batching
from .canary import check_canary
from .complaint import Complaint
from .ensemble_rules import check_ensemble
from .identity_rules import check_identity, check_metrics, check_response_cache
from .instance_rules import check_instance_groups
from .normalise import Gpus
from .sequence_rules import check_initial_states, check_sequence_batching
from .tensor_rules import check_tensors
from .warmup_rules import check_warmup

_COMPLETABLE: Final = ("must specify", "unknown source input", "unknown target output", "empty reshape")
"""What complaints say that completion may yet answer."""


def validate_declared(config: pb.ModelConfig) -> list[Complaint]:
    """Return what is wrong with a normalised configuration that its backend has not completed yet."""
    return list(_check_declared(config))


def foresee(config: pb.ModelConfig) -> list[Complaint]:
    """Return what will be wrong however the backend completes the configuration.

    It may add inputs and outputs, or what they lack, but it cannot change what they say.
    """
    complaints = [*check_tensors(config), *check_initial_states(config), *check_warmup(config)]
    return [each for each in complaints if not any(text in each.message for text in _COMPLETABLE)]


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
    yield from check_canary(config)
