"""ONNX models, run by ONNX Runtime.

All instances of a model on one device share one session: it holds the weights once, and may be run by many
threads at a time. Its threads do not spin while they wait, unless the model asks for it: they share the cores
with the event loop, and spinning costs a small model ten times the processor time of its own computation.

Model parameters: `intra_op_thread_count`, `inter_op_thread_count`, `execution_mode` (0 sequential, 1
parallel), `enable_mem_arena`, `enable_mem_pattern`, `memory.enable_memory_arena_shrinkage`, and every session
option of ONNX Runtime under its own name, `session.…`.
"""

import ctypes
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as native

from ..proto.config import ModelConfig
from ..proto.datatypes import Datatype
from ..proto.errors import Fault, InferError, internal, invalid
from ..proto.schema.model_config_pb2 import ModelConfig as ConfigMessage
from ..proto.tensor import Array, Shape, Tensor
from .api import Batch, Emit, ModelFiles, Seat, Settings
from .artifact import find_artifact
from .device import Device
from .parameters import boolean, integer
from .ragged import rows_of
from .signature import (
    ANY_SIZE,
    DEFAULT_MAX_BATCH_SIZE,
    Signature,
    TensorInfo,
    check,
    complete,
    names_all_tensors,
)
from .threads import pool_size

MODEL_FILE: Final = "model.onnx"

_DATATYPES: Final = {
    "tensor(bool)": Datatype.BOOL,
    "tensor(uint8)": Datatype.UINT8,
    "tensor(uint16)": Datatype.UINT16,
    "tensor(uint32)": Datatype.UINT32,
    "tensor(uint64)": Datatype.UINT64,
    "tensor(int8)": Datatype.INT8,
    "tensor(int16)": Datatype.INT16,
    "tensor(int32)": Datatype.INT32,
    "tensor(int64)": Datatype.INT64,
    "tensor(float16)": Datatype.FP16,
    "tensor(float)": Datatype.FP32,
    "tensor(double)": Datatype.FP64,
    "tensor(string)": Datatype.BYTES,
    "tensor(bfloat16)": Datatype.BF16,
}
_NON_TENSORS: Final = {
    "seq": "ONNX_TYPE_SEQUENCE",
    "map": "ONNX_TYPE_MAP",
    "opaque": "ONNX_TYPE_OPAQUE",
    "sparse_tensor": "ONNX_TYPE_SPARSETENSOR",
}
_OPTIMIZATION_LEVELS: Final = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_BFLOAT16: Final = 16
"""The number of bfloat16 in the enumeration of ONNX, `TensorProto.DataType`."""
_SHRINKAGE: Final = "memory.enable_memory_arena_shrinkage"
_LOG_NOTHING: Final = 4
"""The severity above all that ONNX Runtime prints: what fails is raised, and told once, by this house."""

# What onnxruntime raises: its own classes have no common base, and what its bindings find wrong is built in.
_FOREIGN_ERRORS: Final = (
    native.EPFail,
    native.EngineError,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.ModelLoaded,
    native.NoModel,
    native.NoSuchFile,
    native.NotImplemented,
    native.RuntimeException,
    RuntimeError,
    ValueError,
)
_FOREIGN_TEXT: Final = re.compile(r"\[ONNXRuntimeError\] : (\d+) : \w+ : (.*)", re.DOTALL)


class OnnxRuntimeBackend:
    """Makes models of `.onnx` files."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings; `default-max-batch-size` is the one that means something."""
        self._default_max_batch_size = integer(settings, "default-max-batch-size", DEFAULT_MAX_BATCH_SIZE)

    def complete(self, config: ConfigMessage, files: ModelFiles) -> ConfigMessage:
        """Fill in batching, inputs and outputs from the file, where the configuration names no tensors."""
        if names_all_tensors(config):
            return config
        options = ort.SessionOptions()
        options.log_severity_level = _LOG_NOTHING
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        session = open_session(model_path(files, config.default_model_filename, config.name), options)
        return complete(config, read_signature(session), self._default_max_batch_size)

    def load(self, config: ModelConfig, files: ModelFiles, device: Device) -> "OnnxPlan":
        """Open the session that all instances on a device share."""
        options = session_options(config, device)
        path = model_path(files, config.default_model_filename, config.name)
        session = open_session(path, options, providers(device))
        signature = read_signature(session)
        check(config, signature)
        return OnnxPlan(config, session, signature)


def model_path(files: ModelFiles, filename: str, model_name: str) -> Path:
    """Return the path of the ONNX file; one that has its weights in further files may lie in a directory."""
    filename = filename or MODEL_FILE
    path = find_artifact(files, filename, model_name)
    return find_artifact(files, f"{filename}/{MODEL_FILE}", model_name) if path.is_dir() else path


def open_session(
    path: Path, options: ort.SessionOptions, providers: tuple[Any, ...] = ("CPUExecutionProvider",)
) -> ort.InferenceSession:
    """Read an ONNX file; raises InferError where ONNX Runtime cannot use it."""
    try:
        return ort.InferenceSession(str(path), options, providers=list(providers))
    except _FOREIGN_ERRORS as error:
        raise translated(error) from error


def providers(device: Device) -> tuple[Any, ...]:
    """Return the execution providers of a device; raises InferError where this build has none for it."""
    if device.kind != "GPU":
        return ("CPUExecutionProvider",)
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise InferError(
            Fault.UNAVAILABLE,
            f"the installed onnxruntime cannot use {device}: pip install onnxruntime-gpu in its place",
        )
    return (("CUDAExecutionProvider", {"device_id": device.ordinal}), "CPUExecutionProvider")


def session_options(config: ModelConfig, device: Device) -> ort.SessionOptions:
    """Return the options a configuration asks for; raises InferError for what ONNX Runtime has not got."""
    parameters = config.parameters
    _refuse_unknown(config)
    options = ort.SessionOptions()
    options.log_severity_level = _LOG_NOTHING
    options.graph_optimization_level = _OPTIMIZATION_LEVELS.get(
        config.message.optimization.graph.level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    )
    mode = integer(parameters, "execution_mode", 0)
    if mode not in (0, 1):
        raise invalid(
            "Invalid configuration value provided. Expected values for  execution_mode are 0 or 1 but got "
            f"{mode} ."
        )
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if mode else ort.ExecutionMode.ORT_SEQUENTIAL
    threads = integer(parameters, "intra_op_thread_count", 0)
    options.intra_op_num_threads = threads if threads > 0 else pool_size(config, device)
    options.inter_op_num_threads = max(0, integer(parameters, "inter_op_thread_count", 0))
    options.enable_cpu_mem_arena = boolean(parameters, "enable_mem_arena", default=True)
    options.enable_mem_pattern = boolean(parameters, "enable_mem_pattern", default=True)
    entries = {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"}
    entries |= {key: value for key, value in parameters.items() if key.startswith("session.")}
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return options


def _refuse_unknown(config: ModelConfig) -> None:
    optimization = config.message.optimization.execution_accelerators
    for accelerator in (*optimization.gpu_execution_accelerator, *optimization.cpu_execution_accelerator):
        raise invalid(f"unknown Execution Accelerator '{accelerator.name}' is requested")
    if config.message.model_operations.op_library_filename:
        text = f"model '{config.name}' asks for libraries of custom operators, which are not supported"
        raise InferError(Fault.UNSUPPORTED, text)


def read_signature(session: ort.InferenceSession) -> Signature:
    """Return what a session says about the tensors of its model."""
    return Signature(
        inputs=tuple(map(_tensor_info, session.get_inputs())),
        outputs=tuple(map(_tensor_info, session.get_outputs())),
        defaulted=tuple(map(_tensor_info, session.get_overridable_initializers())),
    )


def _tensor_info(described: ort.NodeArg) -> TensorInfo:
    kind = described.type.partition("(")[0]
    if kind != "tensor":
        found = _NON_TENSORS.get(kind, "ONNX_TYPE_UNKNOWN")
        raise InferError(
            Fault.UNSUPPORTED,
            f"Unsupported ONNX Type '{found}' for I/O '{described.name}', expected 'ONNX_TYPE_TENSOR'.",
        )
    shape = tuple(size if isinstance(size, int) else ANY_SIZE for size in described.shape)
    return TensorInfo(described.name, _DATATYPES.get(described.type, Datatype.INVALID), shape)


def translated(error: Exception) -> InferError:
    """Return an error of ONNX Runtime as the client will see it."""
    known = _FOREIGN_TEXT.fullmatch(str(error))
    return internal(f"onnx runtime error {known[1]}: {known[2]}" if known else f"onnx runtime error: {error}")


class OnnxPlan:
    """One session, and what all instances need to know about it."""

    def __init__(self, config: ModelConfig, session: ort.InferenceSession, signature: Signature) -> None:
        infos = {info.name: info for info in signature.outputs}
        given = (*signature.inputs, *signature.defaulted)
        self.session = session
        self.inputs: Mapping[str, TensorInfo] = {info.name: info for info in given}
        self.outputs = tuple(infos[spec.name] for spec in config.outputs)
        self.output_names = [info.name for info in self.outputs]
        self.scalar_shapes: Mapping[str, Shape] = {
            spec.name: spec.dims if spec.reshape is None else spec.reshape
            for spec in config.outputs
            if not infos[spec.name].shape
        }
        self.rows = rows_of(config)
        self.shrinkage = config.parameters.get(_SHRINKAGE, "")
        self.has_bf16 = any(info.datatype is Datatype.BF16 for info in (*given, *self.outputs))

    def engine(self, seat: Seat) -> "OnnxEngine":
        """Make the engine of one instance."""
        return OnnxEngine(self)

    def close(self) -> None:
        """Let go of the session."""
        del self.session


class OnnxEngine:
    """Runs the shared session for one instance."""

    def __init__(self, plan: OnnxPlan) -> None:
        self._plan = plan
        self._run_options = ort.RunOptions()
        self._run_options.log_severity_level = _LOG_NOTHING
        if plan.shrinkage:
            self._run_options.add_run_config_entry(_SHRINKAGE, plan.shrinkage)

    def execute(self, batch: Batch, emit: Emit) -> None:
        """Run a batch; raises InferError where ONNX Runtime refuses it."""
        plan = self._plan
        joined = plan.rows.join(batch, plan.inputs)
        feeds = {name: _to_onnx(array, plan.inputs[name]) for name, array in joined.items()}
        batch.inputs_ready = time.monotonic_ns()
        try:
            results = self._run_values(feeds) if plan.has_bf16 else self._run(feeds)
        except _FOREIGN_ERRORS as error:
            raise translated(error) from error
        batch.outputs_started = time.monotonic_ns()
        outputs = {}
        for info, result in zip(plan.outputs, results, strict=True):
            array = _from_onnx(result, info)
            shape = plan.scalar_shapes.get(info.name)
            outputs[info.name] = Tensor.from_numpy(
                array if shape is None else array.reshape(shape), info.datatype
            )
        for row, response in enumerate(plan.rows.split(batch, outputs)):
            emit(row, response)

    def close(self) -> None:
        """Give back nothing: the session belongs to the plan."""

    def _run(self, feeds: Mapping[str, Array]) -> list[Array]:
        results: list[Array] = self._plan.session.run(self._plan.output_names, feeds, self._run_options)
        return results

    def _run_values(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Run a model with BF16 tensors, which ONNX Runtime does not take from numpy, nor give to it."""
        values = {
            name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
                np.require(array, requirements=("C", "A")), _BFLOAT16
            )
            if self._plan.inputs[name].datatype is Datatype.BF16
            else ort.OrtValue.ortvalue_from_numpy(array)
            for name, array in feeds.items()
        }
        results = self._plan.session.run_with_ort_values(self._plan.output_names, values, self._run_options)
        return [
            _read_bf16(value) if info.datatype is Datatype.BF16 else value.numpy()
            for info, value in zip(self._plan.outputs, results, strict=True)
        ]


def _to_onnx(array: Array, info: TensorInfo) -> Array:
    if info.datatype is Datatype.BYTES:
        return _decode_strings(array, info.name)
    return array if info.shape else array.reshape(())


def _decode_strings(array: Array, name: str) -> Array:
    decoded = np.empty(array.size, np.object_)
    try:
        decoded[:] = [element.decode() for element in array.flat]
    except UnicodeDecodeError as error:
        raise invalid(f"input '{name}' has an element that is not text in UTF-8: {error}") from error
    return decoded.reshape(array.shape)


def _from_onnx(array: Array, info: TensorInfo) -> Array:
    if info.datatype is not Datatype.BYTES:
        return array
    encoded = np.empty(array.size, np.object_)
    encoded[:] = [element.encode() for element in array.flat]
    return encoded.reshape(array.shape)


def _read_bf16(value: ort.OrtValue) -> Array:
    """Copy the words of a BF16 value, whose memory ONNX Runtime takes back."""
    words = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(words, np.uint16).reshape(value.shape())
