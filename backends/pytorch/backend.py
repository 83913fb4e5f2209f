"""The PyTorch engine: files become programs, programs run on lanes.

All instances of a model on one device share one program, and so its weights; a model that keeps state in its
buffers says `ENABLE_WEIGHT_SHARING: "false"`, and each instance reads the file for itself.

Model parameters: `INTRA_OP_THREAD_COUNT` (of each instance), `INTER_OP_THREAD_COUNT` (of the process; the
first model that names it wins), `INFERENCE_MODE`, `DISABLE_OPTIMIZED_EXECUTION`, `ENABLE_WEIGHT_SHARING`, and
the switches of the TorchScript compiler, which hold for the process: `ENABLE_JIT_EXECUTOR`,
`ENABLE_JIT_PROFILING`, `ENABLE_TENSOR_FUSER`. Others mean nothing here.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch.jit._fuser import optimized_execution

from ...proto.config import ModelConfig
from ...proto.datatypes import Datatype
from ...proto.errors import InferError, invalid
from ...proto.schema.model_config_pb2 import ModelConfig as ConfigMessage
from ...proto.sequence_controls import model_inputs
from ...proto.tensor import Tensor
from ..api import Batch, Emit, ModelFiles, Seat, Settings
from ..artifact import find_artifact
from ..device import Device
from ..parameters import boolean, integer
from ..ragged import rows_of
from ..signature import DEFAULT_MAX_BATCH_SIZE, complete, names_all_tensors
from ..threads import team_size
from .exported import largest_batch, load_exported, open_exported, read_signature
from .program import Program, Value, check_results, execute_failure
from .tensors import from_torch, to_torch
from .torchscript import load_torchscript

_SUFFIX: Final = ".pt2"
_PLATFORM: Final = "torch_aoti"
"""The platform whose models Triton reads from `.pt2` files."""

_JIT_SWITCHES: Final[Mapping[str, Callable[[bool], object]]] = {
    "ENABLE_JIT_EXECUTOR": torch._C._jit_set_profiling_executor,  # noqa: SLF001 - PyTorch has no public door to it
    "ENABLE_JIT_PROFILING": torch._C._jit_set_profiling_mode,  # noqa: SLF001 - the same
    "ENABLE_TENSOR_FUSER": torch._C._jit_set_texpr_fuser_enabled,  # noqa: SLF001 - the same
}


class PyTorchBackend:
    """Makes models of `.pt` and `.pt2` files."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings; `default-max-batch-size` is the one that means something."""
        self._default_max_batch_size = integer(settings, "default-max-batch-size", DEFAULT_MAX_BATCH_SIZE)

    def complete(self, config: ConfigMessage, files: ModelFiles) -> ConfigMessage:
        """Fill in batching, inputs and outputs from an exported program; TorchScript does not know them."""
        filename = model_filename(config.default_model_filename, config.platform)
        if names_all_tensors(config) or not is_exported(filename, config.platform):
            return config
        exported = open_exported(find_artifact(files, filename, config.name), config.name)
        signature = read_signature(exported)
        size = self._default_max_batch_size
        if signature.can_batch:
            size = largest_batch(exported, at_most=size)
        return complete(config, signature, size)

    def load(self, config: ModelConfig, files: ModelFiles, device: Device) -> "PyTorchPlan":
        """Read the model file that all instances on a device share."""
        for spec in config.inputs:
            if spec.optional:
                raise invalid(
                    f"'optional' is set to true for input '{spec.name}' while the backend model doesn't "
                    "support optional input"
                )
        _set_process(config)
        path = find_artifact(
            files, model_filename(config.default_model_filename, config.platform), config.name
        )
        return PyTorchPlan(config, path, device)


def model_filename(configured: str, platform: str) -> str:
    """Return the name of the model file."""
    return configured or ("model.pt2" if platform == _PLATFORM else "model.pt")


def is_exported(filename: str, platform: str) -> bool:
    """Tell whether a model file holds an exported program, rather than TorchScript."""
    return filename.endswith(_SUFFIX) or platform == _PLATFORM


def _set_process(config: ModelConfig) -> None:
    """Set what PyTorch keeps once for the whole process."""
    for key, switch in _JIT_SWITCHES.items():
        if key in config.parameters:
            switch(boolean(config.parameters, key, default=False))
    threads = integer(config.parameters, "INTER_OP_THREAD_COUNT", 0)
    if threads > 0:
        with suppress(RuntimeError):  # it can be set once, before anything runs in parallel
            torch.set_num_interop_threads(threads)


@dataclass(frozen=True, slots=True)
class Slot:
    """An input or output of the configuration, and its place in the program."""

    name: str
    datatype: Datatype
    place: int


class PyTorchPlan:
    """The program that instances share, or the file that each reads for itself."""

    def __init__(self, config: ModelConfig, path: Path, device: Device) -> None:
        """Read the file; raises InferError where it does not fit the configuration."""
        parameters = config.parameters
        self.config = config
        self.device = torch.device("cuda", device.ordinal) if device.kind == "GPU" else torch.device("cpu")
        self.rows = rows_of(config)
        threads = integer(parameters, "INTRA_OP_THREAD_COUNT", 0)
        self.threads = threads if threads > 0 else team_size(config, device)
        self.inference_mode = boolean(parameters, "INFERENCE_MODE", default=True)
        self.optimized = not boolean(parameters, "DISABLE_OPTIMIZED_EXECUTION", default=False)
        self._path = path
        self._map_location = None if device.kind == "MODEL" else self.device
        self._program = self._read()
        self._is_shared = boolean(parameters, "ENABLE_WEIGHT_SHARING", default=True)

    def engine(self, seat: Seat) -> "PyTorchEngine":
        """Make the engine of one instance."""
        return PyTorchEngine(self, self._program if self._is_shared else self._read())

    def close(self) -> None:
        """Let go of the program."""
        del self._program

    def _read(self) -> Program:
        if is_exported(self._path.name, self.config.platform):
            return load_exported(self._path, self.config)
        return load_torchscript(self._path, self.config, self._map_location)


class PyTorchEngine:
    """Runs a program for one instance."""

    def __init__(self, plan: PyTorchPlan, program: Program) -> None:
        self._plan = plan
        self._program = program
        inputs, outputs = model_inputs(plan.config), plan.config.outputs
        self._inputs = [Slot(each.name, each.datatype, program.inputs[each.name]) for each in inputs]
        self._outputs = [Slot(each.name, each.datatype, program.outputs[each.name]) for each in outputs]
        self._input_names = [each.name for each in inputs]

    def execute(self, batch: Batch, emit: Emit) -> None:
        """Run a batch; raises InferError where the program refuses it."""
        joined = self._plan.rows.join(batch, self._input_names)
        # Rows that were joined lie in memory of their own already.
        own = self._program.writes_arguments and len(batch.requests) == 1
        values: dict[int, Value] = {
            slot.place: to_torch(joined[slot.name], slot.datatype, self._plan.device, own=own)
            for slot in self._inputs
        }
        batch.inputs_ready = time.monotonic_ns()
        results = self._run([values[place] for place in range(len(values))])
        batch.outputs_started = time.monotonic_ns()
        check_results(self._program.outputs, len(results))
        outputs = {slot.name: _output(slot, results[slot.place]) for slot in self._outputs}
        for row, response in enumerate(self._plan.rows.split(batch, outputs)):
            emit(row, response)

    def close(self) -> None:
        """Let go of the program."""
        del self._program

    def _run(self, values: Sequence[Value]) -> Sequence[Value]:
        plan = self._plan
        # OpenMP keeps a team of threads for each thread that asks, so the number is set on the lane.
        if torch.get_num_threads() != plan.threads:
            torch.set_num_threads(plan.threads)
        gradients = torch.inference_mode() if plan.inference_mode else torch.no_grad()
        optimization: AbstractContextManager[None] = (
            nullcontext() if plan.optimized else optimized_execution(should_optimize=False)
        )
        try:
            with gradients, optimization:
                return self._program.run(values)
        except InferError:
            raise
        except Exception as error:
            raise execute_failure(error) from error


def _output(slot: Slot, value: Value) -> Tensor:
    """Return a result as the output it is; raises InferError where it cannot be that."""
    tensor = from_torch(value)
    if tensor.datatype is not slot.datatype:
        raise invalid(
            f"configuration expects datatype TYPE_{slot.datatype.wire_name} for output '{slot.name}', "
            f"model provides TYPE_{tensor.datatype.wire_name}"
        )
    if not tensor.shape:
        raise invalid(f"output '{slot.name}' is a scalar which is not supported.")
    return tensor
