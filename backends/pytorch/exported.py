"""Exported programs: what `torch.export` writes, a graph with the datatype and shape of every tensor.

Arguments and results may lie in tuples, lists and dictionaries; their tensors are counted from the left.
Beside the names that all PyTorch models share, a tensor may be named by its way through them: `ARGS[0]`,
`KWARGS[mask]`, `RESULT[scores][1]`.
"""

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from ...proto.config import ModelConfig
from ...proto.datatypes import Datatype
from ...proto.errors import Fault, InferError
from ...proto.sequence_controls import model_inputs
from ..signature import ANY_SIZE, Signature, TensorInfo, check
from .names import places
from .program import Program, Value, check_arguments, check_results, load_failure
from .tensors import DATATYPES

_COMPILED: Final = "/data/aotinductor/"
"""The directory, in an archive, of what AOTInductor has compiled."""


def open_exported(path: Path, model_name: str) -> ExportedProgram:
    """Read an exported program; raises InferError where the file holds none."""
    try:
        with zipfile.ZipFile(path) as archive:
            is_compiled = any(_COMPILED in name for name in archive.namelist())
        if not is_compiled:
            return torch.export.load(str(path))
    except Exception as error:
        raise load_failure(model_name, error) from error
    raise InferError(
        Fault.UNSUPPORTED,
        f"model '{model_name}' was compiled ahead of time for one kind of machine, which is not supported: "
        "write its program with torch.export.save",
    )


def read_signature(exported: ExportedProgram) -> Signature:
    """Return the tensors of a program; inputs have the names of the arguments, outputs are numbered."""
    nodes = {node.name: node for node in exported.graph.nodes}
    signature = exported.graph_signature
    return Signature(
        inputs=tuple(_tensor_info(str(name), nodes.get(str(name))) for name in signature.user_inputs),
        outputs=tuple(
            _tensor_info(f"OUTPUT__{place}", nodes.get(str(name)))
            for place, name in enumerate(signature.user_outputs)
        ),
    )


def load_exported(path: Path, config: ModelConfig) -> Program:
    """Read an exported program; raises InferError where it does not fit the configuration."""
    exported = open_exported(path, config.name)
    signature = read_signature(exported)
    in_spec, out_spec = exported.call_spec.in_spec, exported.call_spec.out_spec
    arguments = [info.name for info in signature.inputs]
    inputs = places([spec.name for spec in model_inputs(config)], arguments, _argument_paths(in_spec))
    outputs = places([spec.name for spec in config.outputs], _result_paths(out_spec))
    check_arguments(config, inputs, len(signature.inputs))
    check_results(outputs, len(signature.outputs))
    check(config, Signature(_renamed(signature.inputs, inputs), _renamed(signature.outputs, outputs)))
    module = exported.module()

    def run(values: Sequence[Value]) -> Sequence[Any]:
        args, kwargs = pytree.tree_unflatten(values, in_spec)
        return pytree.tree_leaves(module(*args, **kwargs))

    return Program(
        run=run,
        inputs=inputs,
        outputs=outputs,
        writes_arguments=bool(exported.graph_signature.user_inputs_to_mutate),
    )


def largest_batch(exported: ExportedProgram, at_most: int) -> int:
    """Return the largest batch size that a program was exported for, where that is less than `at_most`."""
    nodes = {node.name: node for node in exported.graph.nodes}
    first = nodes[str(exported.graph_signature.user_inputs[0])].meta["val"].shape[0]
    allowed = exported.range_constraints.get(first.node.expr)
    return at_most if allowed is None or allowed.upper >= at_most else int(allowed.upper)


def _tensor_info(name: str, node: torch.fx.Node | None) -> TensorInfo:
    value = node.meta.get("val") if node is not None else None
    if not isinstance(value, torch.Tensor):
        raise InferError(Fault.UNSUPPORTED, f"'{name}' of the exported program is not a tensor")
    # PyTorch's annotations leave out the symbols that stand for sizes not known yet.
    sizes: Iterable[object] = value.shape
    shape = tuple(size if isinstance(size, int) else ANY_SIZE for size in sizes)
    return TensorInfo(name, DATATYPES.get(value.dtype, Datatype.INVALID), shape)


def _renamed(infos: Sequence[TensorInfo], places_of: Mapping[str, int]) -> tuple[TensorInfo, ...]:
    return tuple(replace(infos[place], name=name) for name, place in places_of.items())


def _argument_paths(spec: pytree.TreeSpec) -> list[str]:
    return [("ARGS", "KWARGS")[path[0].idx] + _spell(path[1:]) for path in _paths(spec)]


def _result_paths(spec: pytree.TreeSpec) -> list[str]:
    return ["RESULT" + _spell(path) for path in _paths(spec)]


def _paths(spec: pytree.TreeSpec) -> list[Any]:
    """Return the way to each leaf of a tree, from the left."""
    leaves, _ = pytree.tree_flatten_with_path(pytree.tree_unflatten([0] * spec.num_leaves, spec))
    return [path for path, _ in leaves]


def _spell(path: Iterable[Any]) -> str:
    return "".join(f"[{_step(key)}]" for key in path)


def _step(key: pytree.KeyEntry) -> object:
    match key:
        case pytree.SequenceKey():
            return key.idx
        case pytree.MappingKey():
            return key.key
        case pytree.GetAttrKey():
            return key.name
        case _:
            return key
