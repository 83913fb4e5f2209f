"""What server and models say of themselves, in members that have the same names in JSON and in protobuf."""

from collections.abc import Sequence
from typing import Any, Final

from .config import ModelConfig
from .config.model_config import InputSpec, OutputSpec

Members = dict[str, Any]

EXTENSIONS: Final = (
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "cuda_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
)
"""The extensions of the protocol, by the names and in the order Triton lists them."""


def server_metadata(name: str, version: str) -> Members:
    """Return what a server is and what it can."""
    return {"name": name, "version": version, "extensions": list(EXTENSIONS)}


def model_metadata(config: ModelConfig, versions: Sequence[int]) -> Members:
    """Return what a model takes and gives, and which of its versions do so.

    Shapes are those that clients send and get: with a batch dimension, before any reshape.
    """
    batch = [-1] if config.max_batch_size > 0 else []
    return {
        "name": config.name,
        "versions": [str(version) for version in versions],
        "platform": config.platform or config.backend,
        "inputs": [_tensor(spec, batch) for spec in config.inputs],
        "outputs": [_tensor(spec, batch) for spec in config.outputs],
    }


def _tensor(spec: InputSpec | OutputSpec, batch: list[int]) -> Members:
    return {"name": spec.name, "datatype": spec.datatype.wire_name, "shape": [*batch, *spec.dims]}
