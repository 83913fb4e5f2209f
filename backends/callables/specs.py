"""How a model is described in a program: its tensors and its configuration, and the JSON that they come to.

The names are those of PyTriton. What they have no word for, such as a sequence batcher, is said in the JSON
form of Triton's model configuration, in `ModelConfig.extra`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...proto.config.model_config import TimeoutAction
from ...proto.datatypes import Datatype, datatype_of_numpy

Dtype = npt.DTypeLike | Datatype
"""A numpy type in any spelling; `bytes`, `str` and `object` are strings, BF16 has only a `Datatype`."""

BACKEND = "callable"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output: its datatype, and its shape without the batch dimension; -1 is any size."""

    dtype: Dtype
    shape: Sequence[int]
    name: str | None = None
    """None stands for INPUT_1, OUTPUT_1 and so on."""
    optional: bool = False
    """Whether a request may leave the input out."""


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How requests wait."""

    timeout_action: TimeoutAction = TimeoutAction.REJECT
    default_timeout_microseconds: int = 0
    allow_timeout_override: bool = False
    max_queue_size: int = 0


@dataclass(frozen=True, slots=True)
class DynamicBatcher:
    """How requests are put side by side."""

    max_queue_delay_microseconds: int = 0
    preferred_batch_size: Sequence[int] | None = None
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_priority_level: int = 0
    default_queue_policy: QueuePolicy | None = None
    priority_queue_policy: Mapping[int, QueuePolicy] | None = None


@dataclass(frozen=True, slots=True)
class WarmupInput:
    """What one input of a warm-up sample holds: zeros, random numbers, or what lies in a file."""

    dtype: Dtype
    shape: Sequence[int]
    zero_data: bool = False
    random_data: bool = False
    input_data_file: str | None = None
    """The file beneath `warmup` in the working directory."""


@dataclass(frozen=True, slots=True)
class ModelWarmup:
    """A sample that every instance runs before it is ready."""

    name: str
    batch_size: int
    inputs: Mapping[str, WarmupInput]
    count: int = 1


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """How a model is scheduled."""

    batching: bool = True
    """Whether tensors have a batch dimension."""
    max_batch_size: int = 4
    batcher: DynamicBatcher | None = field(default_factory=DynamicBatcher)
    """None lets each request be an execution of its own."""
    response_cache: bool = False
    decoupled: bool = False
    """Whether a request may have any number of responses."""
    model_warmup: Sequence[ModelWarmup] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of Triton's model configuration, in its JSON form; they win."""


@dataclass(frozen=True, slots=True)
class Description:
    """All that a configuration is made of."""

    name: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    config: ModelConfig
    instances: int = 1

    def as_json(self) -> str:
        """Return the configuration; raises ValueError for what cannot be one."""
        config = self.config
        if config.batching and config.max_batch_size < 1:
            raise ValueError("max_batch_size must be at least 1; without batches, say batching=False")
        document: dict[str, Any] = {
            "name": self.name,
            "backend": BACKEND,
            "max_batch_size": config.max_batch_size if config.batching else 0,
            "input": _tensors(self.inputs, "INPUT"),
            "output": _tensors(self.outputs, "OUTPUT"),
            "instance_group": [{"kind": "KIND_CPU", "count": self.instances}],
            "model_transaction_policy": {"decoupled": config.decoupled},
            "response_cache": {"enable": config.response_cache},
        }
        if config.batching and config.batcher is not None and not _has_scheduler(config.extra):
            document["dynamic_batching"] = _batcher(config.batcher)
        if config.model_warmup:
            document["model_warmup"] = [_warmup(sample) for sample in config.model_warmup]
        return json.dumps({**document, **config.extra})


def _tensors(tensors: Sequence[Tensor], prefix: str) -> list[dict[str, Any]]:
    if prefix == "OUTPUT" and any(tensor.optional for tensor in tensors):
        raise ValueError("an output cannot be optional")
    names = [tensor.name or f"{prefix}_{number}" for number, tensor in enumerate(tensors, 1)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two tensors cannot share a name: {', '.join(map(repr, sorted(twice)))}")
    return [
        {
            "name": name,
            "data_type": _datatype(tensor.dtype).config_name,
            "dims": list(tensor.shape),
            **({"optional": True} if tensor.optional else {}),
        }
        for name, tensor in zip(names, tensors, strict=True)
    ]


def _datatype(dtype: Dtype) -> Datatype:
    if isinstance(dtype, Datatype):
        return dtype
    datatype = datatype_of_numpy(np.dtype(dtype))
    if datatype is Datatype.INVALID:
        raise ValueError(f"no tensor can be of type {dtype!r}")
    return datatype


def _has_scheduler(extra: Mapping[str, Any]) -> bool:
    return bool(extra.keys() & {"dynamic_batching", "sequence_batching", "ensemble_scheduling"})


def _batcher(batcher: DynamicBatcher) -> dict[str, Any]:
    document: dict[str, Any] = {
        "preferred_batch_size": list(batcher.preferred_batch_size or ()),
        "max_queue_delay_microseconds": batcher.max_queue_delay_microseconds,
        "preserve_ordering": batcher.preserve_ordering,
        "priority_levels": batcher.priority_levels,
        "default_priority_level": batcher.default_priority_level,
    }
    if batcher.default_queue_policy is not None:
        document["default_queue_policy"] = _policy(batcher.default_queue_policy)
    if batcher.priority_queue_policy:
        document["priority_queue_policy"] = {
            str(level): _policy(policy) for level, policy in batcher.priority_queue_policy.items()
        }
    return document


def _policy(policy: QueuePolicy) -> dict[str, Any]:
    return {
        "timeout_action": policy.timeout_action.name,
        "default_timeout_microseconds": policy.default_timeout_microseconds,
        "allow_timeout_override": policy.allow_timeout_override,
        "max_queue_size": policy.max_queue_size,
    }


def _warmup(sample: ModelWarmup) -> dict[str, Any]:
    return {
        "name": sample.name,
        "batch_size": sample.batch_size,
        "count": sample.count,
        "inputs": {name: _warmup_input(name, each) for name, each in sample.inputs.items()},
    }


def _warmup_input(name: str, given: WarmupInput) -> dict[str, Any]:
    sources: dict[str, Any] = {
        "zero_data": given.zero_data,
        "random_data": given.random_data,
        "input_data_file": given.input_data_file,
    }
    chosen = {source: value for source, value in sources.items() if value}
    if len(chosen) != 1:
        raise ValueError(f"warm-up input '{name}' needs one of {', '.join(sources)}")
    return {"data_type": _datatype(given.dtype).config_name, "dims": list(given.shape), **chosen}
