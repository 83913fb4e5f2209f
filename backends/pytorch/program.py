"""A model file of PyTorch as one function over values in order, whichever of the two kinds it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ...proto.config import ModelConfig
from ...proto.errors import InferError, internal, invalid

Value = torch.Tensor | list[str] | list[bytes]
"""What a model takes and gives: a tensor, or strings in a list."""


@dataclass(frozen=True, slots=True)
class Program:
    """What a model file became."""

    run: Callable[[Sequence[Value]], Sequence[Value]]
    """Computes results from arguments, both in the order of the model; many threads may call it at a time."""
    inputs: Mapping[str, int]
    """The place of each input of the configuration among the arguments."""
    outputs: Mapping[str, int]
    """The place of each output of the configuration among the results."""
    writes_arguments: bool
    """Whether it may write to the memory of its arguments."""


def load_failure(model_name: str, error: Exception) -> InferError:
    """Return what PyTorch found wrong with a model file as the client will see it."""
    return internal(f"failed to load model '{model_name}': {error}")


def execute_failure(error: object) -> InferError:
    """Return what a model raised as the client will see it."""
    return internal(f"PyTorch execute failure: {error}")


def check_arguments(config: ModelConfig, inputs: Mapping[str, int], count: int) -> None:
    """Raise InferError unless the inputs of a configuration are the arguments of a model, one for one."""
    if len(inputs) != count:
        raise invalid(
            f"unable to load model '{config.name}', configuration expects {len(inputs)} inputs, "
            f"model provides {count}"
        )
    if sorted(inputs.values()) != list(range(count)):
        names = ", ".join(inputs)
        raise invalid(
            f"unable to load model '{config.name}', input names must give each of the {count} arguments of "
            f"the model a place of its own, counted from 0: {names}"
        )


def check_results(outputs: Mapping[str, int], count: int) -> None:
    """Raise InferError if the configuration has an output for which the model has no result."""
    for name, place in outputs.items():
        if place >= count:
            raise invalid(
                f"The output {name} in the model configuration refers to an output index which doesn't "
                f"exist. This model has {count} outputs"
            )
