"""TorchScript: a `forward` with an argument for each input, or with one dictionary of them all.

A file knows the names of its arguments and that they are tensors, but neither their datatypes nor their
shapes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeGuard

import torch

from ...proto.config import ModelConfig
from ...proto.config.model_config import InputSpec, OutputSpec
from ...proto.datatypes import Datatype
from ...proto.errors import internal
from ...proto.sequence_controls import model_inputs
from .names import places
from .program import Program, Value, check_arguments, execute_failure, load_failure

_ARGUMENT_KINDS: Final = ("TensorType", "ListType")


def load_torchscript(path: Path, config: ModelConfig, device: torch.device | None) -> Program:
    """Read a TorchScript file; raises InferError where it does not fit the configuration."""
    try:
        module = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
        arguments = [argument for argument in module.forward.schema.arguments if argument.name != "self"]
    except Exception as error:
        raise load_failure(config.name, error) from error
    names = [spec.name for spec in model_inputs(config)]
    takes_dictionary = [argument.type.kind() for argument in arguments] == ["DictType"]
    if takes_dictionary:
        inputs = places(names, names)
    else:
        _check_types(arguments)
        inputs = places(names, [argument.name for argument in arguments])
        check_arguments(config, inputs, len(arguments))
    _check_strings(config)

    def run(values: Sequence[Value]) -> Sequence[Value]:
        if takes_dictionary:
            return _results(module.forward(dict(zip(names, values, strict=True))))
        return _results(module.forward(*values))

    return Program(
        run=run,
        inputs=inputs,
        outputs=places([spec.name for spec in config.outputs]),
        writes_arguments=any("!" in node.schema() for node in _nodes(module.inlined_graph)),
    )


def _check_types(arguments: Sequence[Any]) -> None:
    kinds = [argument.type.kind() for argument in arguments]
    if "DictType" in kinds[1:]:
        raise internal(
            "Multiple inputs of kind DictType were detected. Only a single input of type Dict(str, Tensor) "
            "is supported."
        )
    for argument, kind in zip(arguments, kinds, strict=True):
        if kind not in _ARGUMENT_KINDS:
            raise internal(
                f"An input of type '{argument.type.str()}' was detected in the model. Only a single input of "
                "type Dict(str, Tensor) or input(s) of type Tensor are supported."
            )


def _check_strings(config: ModelConfig) -> None:
    for kind, specs in (("input", config.inputs), ("output", config.outputs)):
        if not specs:
            raise internal(f"model configuration must contain at least one {kind}, none were specified.")
        for spec in specs:
            if spec.datatype is Datatype.BYTES and _rank(config, spec) > 1:
                raise internal(
                    f"Triton only supports 1 dimensional List of String as {kind} for '{spec.name}' for "
                    f"model '{config.name}'"
                )


def _rank(config: ModelConfig, spec: InputSpec | OutputSpec) -> int:
    dims = spec.dims if spec.reshape is None else spec.reshape
    return len(dims) + (config.max_batch_size > 0)


def _nodes(block: Any) -> Iterator[Any]:  # noqa: ANN401 - blocks and nodes of a graph have no type PyTorch shows
    """Yield all nodes of a graph, also those inside of branches and loops."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _results(returned: object) -> Sequence[Value]:
    """Return what `forward` returned as results in order; raises InferError for what cannot be one."""
    if isinstance(returned, tuple):
        for place, each in enumerate(returned):
            if not _is_result(each):
                raise execute_failure(
                    f"output at index {place} must be of type Tensor or List[str], received {_type(each)}"
                )
        return returned
    if _is_result(returned):
        return (returned,)
    if isinstance(returned, list):
        raise execute_failure(f"output must be of type Tensor or List[str], received {_type(returned)}")
    raise execute_failure(
        "output must be of type Tensor, List[str] or Tuple containing one of these two types. It should "
        "not be a List / Dictionary of Tensors or a Scalar"
    )


def _is_result(value: object) -> TypeGuard[Value]:
    return isinstance(value, torch.Tensor) or (isinstance(value, list) and _type(value) == "List[str]")


def _type(value: object) -> str:
    if isinstance(value, list):
        return f"List[{type(value[0]).__name__ if value else 'str'}]"
    return type(value).__name__
