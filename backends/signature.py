"""What a model file says about its own tensors, held against what the configuration says.

Some formats name the tensors of a model with their datatypes and shapes. Such a *signature* completes a
configuration that leaves them out, and refuses one that contradicts them before any request can fail on it.
Shapes here include the batch dimension, and -1 stands for any size.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ..proto.batch_tensors import batch_outputs, made_inputs
from ..proto.config import ModelConfig
from ..proto.config.model_config import InputSpec, OutputSpec
from ..proto.datatypes import Datatype
from ..proto.errors import InferError, internal, invalid
from ..proto.schema.model_config_pb2 import ModelConfig as ConfigMessage
from ..proto.schema.model_config_pb2 import ModelInput, ModelOutput
from ..proto.sequence_controls import control_inputs
from ..proto.tensor import Shape

ANY_SIZE: Final = -1
DEFAULT_MAX_BATCH_SIZE: Final = 4
"""The batch size of a model that can batch, where neither configuration nor command line names one."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output as a model file describes it."""

    name: str
    datatype: Datatype
    shape: Shape


@dataclass(frozen=True, slots=True)
class Signature:
    """All tensors of a model file, in its order."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    defaulted: tuple[TensorInfo, ...] = ()
    """Inputs that the model has values for, and that a request may leave out."""

    @property
    def can_batch(self) -> bool:
        """Whether each tensor begins with a dimension of any size."""
        return all(info.shape[:1] == (ANY_SIZE,) for info in (*self.inputs, *self.outputs))


def names_all_tensors(config: ConfigMessage) -> bool:
    """Tell whether a configuration names its inputs and its outputs, so that there is nothing to complete."""
    return bool(config.input or config.batch_input) and bool(config.output)


def complete(config: ConfigMessage, signature: Signature, default_max_batch_size: int) -> ConfigMessage:
    """Return a copy of a configuration with batching, inputs and outputs as the signature has them.

    What the configuration says already stays. Raises InferError if it asks for batches of a model that has no
    batch dimension.
    """
    completed = ConfigMessage()
    completed.CopyFrom(config)
    if signature.can_batch:
        if completed.max_batch_size == 0:
            completed.max_batch_size = max(default_max_batch_size, 0)
        if completed.max_batch_size > 1 and completed.WhichOneof("scheduling_choice") is None:
            completed.dynamic_batching.SetInParent()
    elif completed.max_batch_size != 0:
        raise invalid(
            f"autofill failed for model '{config.name}': model does not support batching while non-zero "
            "max_batch_size is specified"
        )
    batching = completed.max_batch_size > 0
    if not (config.input or config.batch_input):
        for info in signature.inputs:
            _describe(completed.input.add(), info, batching=batching)
    if not config.output:
        for info in signature.outputs:
            _describe(completed.output.add(), info, batching=batching)
    return completed


def _describe(io: ModelInput | ModelOutput, info: TensorInfo, *, batching: bool) -> None:
    dims = info.shape[1:] if batching else info.shape
    io.name = info.name
    io.data_type = info.datatype.value
    # A configuration cannot have empty dims: what is a scalar to the model is one element to the client.
    io.dims.extend(dims or (1,))
    if batching and not dims:
        io.reshape.SetInParent()


def check(config: ModelConfig, signature: Signature) -> None:
    """Raise InferError if a configuration contradicts the signature of the model it is for."""
    controls = control_inputs(config)
    made = made_inputs(config)
    required = sum(not spec.optional for spec in config.inputs) + len(made) + len(controls)
    if required != len(signature.inputs):
        raise _misfit(
            config, f"configuration expects {required} inputs, model provides {len(signature.inputs)}"
        )
    inputs = {info.name: info for info in (*signature.inputs, *signature.defaulted)}
    for spec in config.inputs:
        if spec.optional and config.max_batch_size:
            text = f"optional input '{spec.name}' is not supported for models that support batching"
            raise _misfit(config, text)
        _check_tensor(config, "input", spec, inputs)
    for spec in made:
        _check_datatype(config, "input", spec, inputs)
    for control in controls:
        _check_control(config, control, inputs)
    outputs = {info.name: info for info in signature.outputs}
    dealt_out = {name for each in batch_outputs(config) for name in each.targets}
    for output in config.outputs:
        if output.name in dealt_out:
            _check_datatype(config, "output", output, outputs)
        else:
            _check_tensor(config, "output", output, outputs)


def _check_datatype(
    config: ModelConfig, kind: str, spec: InputSpec | OutputSpec, infos: Mapping[str, TensorInfo]
) -> TensorInfo:
    """Return what the model says of a tensor; raises InferError if that is another datatype, or nothing."""
    info = infos.get(spec.name)
    if info is None:
        allowed = ", ".join(sorted(infos))
        raise invalid(f"unexpected inference {kind} '{spec.name}', allowed {kind}s are: {allowed}")
    if spec.datatype is not info.datatype:
        raise _misfit(
            config,
            f"configuration expects datatype {spec.datatype.config_name} for {kind} '{spec.name}', "
            f"model provides TYPE_{info.datatype.wire_name}",
        )
    return info


def _check_tensor(
    config: ModelConfig, kind: str, spec: InputSpec | OutputSpec, infos: Mapping[str, TensorInfo]
) -> None:
    info = _check_datatype(config, kind, spec, infos)
    if isinstance(spec, InputSpec) and spec.allow_ragged_batch:
        _check_ragged(config, spec, info)
        return
    dims = spec.dims if spec.reshape is None else spec.reshape
    if info.shape:
        _check_dims(config, info, dims, exactly=kind == "output")
    elif any(size != 1 for size in dims):
        raise _misfit(
            config,
            f"scalar tensor '{spec.name}', should only provide 1 in the model configuration when the model "
            f"doesn't support batching. Model configuration provided: {_spell(dims)}.",
        )


def _check_ragged(config: ModelConfig, spec: InputSpec, info: TensorInfo) -> None:
    if info.shape != (ANY_SIZE,):
        raise _misfit(
            config,
            f"configuration expects model provides input with shape [-1] for ragged input '{spec.name}', "
            f"model provides {_spell(info.shape)}",
        )


def _check_control(config: ModelConfig, control: InputSpec, infos: Mapping[str, TensorInfo]) -> None:
    info = infos.get(control.name)
    if info is None:
        raise internal(
            f"configuration specified sequence control '{control.name}', but model does not provide that "
            "input"
        )
    own = info.shape[1:] if config.max_batch_size > 0 else info.shape
    if own != control.dims:
        raise _misfit(
            config,
            f"sequence control '{control.name}' in model has dims {_spell(own)} but dims [1] is expected",
        )
    if info.datatype is not control.datatype:
        raise _misfit(
            config,
            f"sequence control '{control.name}', the model expects data-type TYPE_{info.datatype.wire_name} "
            f"but the model configuration specifies data-type {control.datatype.config_name}",
        )


def _check_dims(config: ModelConfig, info: TensorInfo, dims: Shape, *, exactly: bool) -> None:
    """Compare shapes: any size in the model allows every size of an input, but of an output only the same."""
    where = f"model '{config.name}', tensor '{info.name}': "
    batching = config.max_batch_size > 0
    if batching and info.shape[0] != ANY_SIZE:
        raise invalid(
            f"{where}for the model to support batching the shape should have at least 1 dimension and the "
            f"first dimension must be -1; but shape expected by the model is {_spell(info.shape)}"
        )
    full = (ANY_SIZE, *dims) if batching else dims
    fits = len(full) == len(info.shape) and all(
        theirs == ours or (theirs == ANY_SIZE and not exactly)
        for theirs, ours in zip(info.shape, full, strict=True)
    )
    if not fits:
        how = (
            "an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, "
            f"making complete shape {_spell(full)}"
            if batching
            else f"shape {_spell(full)}"
        )
        raise invalid(
            f"{where}the model expects {len(info.shape)} dimensions (shape {_spell(info.shape)}) but the "
            f"model configuration specifies {len(full)} dimensions ({how})"
        )


def _misfit(config: ModelConfig, text: str) -> InferError:
    return invalid(f"unable to load model '{config.name}', {text}")


def _spell(shape: Iterable[int]) -> str:
    return f"[{','.join(map(str, shape))}]"
