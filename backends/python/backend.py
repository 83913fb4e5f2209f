"""The python backend: models that are a class `TritonPythonModel` in a file `model.py`.

They run in this process, each instance on the lane it is seated on. So no tensor crosses a process on its
way, and what a model does to the process is done to the server. What they see of Triton's API lies in `api`
and does not know where it runs.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from ...proto.config import ModelConfig
from ...proto.config.json_form import from_json, to_json
from ...proto.errors import Fault, InferError, internal
from ...proto.schema.model_config_pb2 import ModelConfig as ConfigMessage
from ..api import ModelFiles, Seat, Settings
from ..artifact import find_artifact
from ..device import Device
from ..house import House
from .api.auto_complete import ModelConfig as CompletableConfig
from .arrived import Terms
from .engine import PythonEngine
from .exception_text import exception_text
from .model_code import ModelCode

DEFAULT_FILENAME: Final = "model.py"


class PythonBackend:
    """Makes models of Python code."""

    def __init__(self, settings: Settings, house: House | None = None) -> None:
        """Take whom models may ask; the settings are about worker processes, and there are none."""
        self._house = house

    def complete(self, config: ConfigMessage, files: ModelFiles) -> ConfigMessage:
        """Return the configuration as the model's `auto_complete_config` completes it; raises InferError."""
        _check_parameters({key: value.string_value for key, value in config.parameters.items()})
        code = ModelCode(_model_file(config.default_model_filename, files, config.name), files.directory)
        try:
            completed = _auto_complete(code, config)
        finally:
            code.close()
        return config if completed is None else from_json(completed)

    def load(self, config: ModelConfig, files: ModelFiles, device: Device) -> "PythonPlan":
        """Find the model's file; raises InferError. Its code is run by each instance for itself."""
        _check_parameters(config.parameters)
        path = _model_file(config.default_model_filename, files, config.name)
        return PythonPlan(config, files, path, self._house)


class PythonPlan:
    """What the instances of one model share: its file and what its configuration says."""

    def __init__(self, config: ModelConfig, files: ModelFiles, path: Path, house: House | None) -> None:
        self._house = house
        self._files = files
        self._path = path
        self._max_batch_size = config.max_batch_size
        self._terms = Terms(config.decoupled, tuple(sorted(output.name for output in config.outputs)))
        self._arguments = {
            "model_config": orjson.dumps(to_json(config.message)).decode(),
            "model_repository": str(files.directory),
            "model_version": str(files.version),
            "model_name": config.name,
        }

    def engine(self, seat: Seat) -> PythonEngine:
        """Run the model's code and initialise one instance; raises InferError with what the model raised."""
        arguments = {
            **self._arguments,
            "model_instance_kind": seat.device.kind,
            "model_instance_name": seat.name,
            "model_instance_device_id": str(seat.device.ordinal),
        }
        code = ModelCode(self._path, self._files.directory)
        code.caller.model, code.caller.instance = arguments["model_name"], seat.name
        code.caller.house = self._house
        try:
            return PythonEngine(code, seat, arguments, self._terms, self._max_batch_size)
        except InferError:
            code.close()
            raise

    def close(self) -> None:
        """Give back nothing."""


def _model_file(filename: str, files: ModelFiles, model_name: str) -> Path:
    return find_artifact(files, filename or DEFAULT_FILENAME, model_name)


def _check_parameters(parameters: Mapping[str, str]) -> None:
    """Raise InferError for parameters that ask for what is not there, or mean nothing."""
    if "EXECUTION_ENV_PATH" in parameters:
        raise InferError(
            Fault.UNSUPPORTED,
            "parameter EXECUTION_ENV_PATH is not available: Python models run in the server's environment",
        )
    force = parameters.get("FORCE_CPU_ONLY_INPUT_TENSORS", "yes")
    if force not in ("yes", "no"):
        raise InferError(Fault.UNSUPPORTED, f"Incorrect value for FORCE_CPU_ONLY_INPUT_TENSORS: {force}")


def _auto_complete(code: ModelCode, config: ConfigMessage) -> str | None:
    """Return the JSON form of what the model proposes, None if it has no say; raises InferError."""
    try:
        complete: Any = getattr(code.model_class(), "auto_complete_config", None)
        if complete is None:
            return None
        proposed = complete(CompletableConfig(json.dumps(to_json(config))))
        if isinstance(proposed, CompletableConfig):
            return json.dumps(proposed.as_dict())
    except InferError:
        raise
    except BaseException as error:
        raise internal(exception_text(error)) from error
    raise internal(
        f"auto_complete_config function in model '{config.name}' must return a valid pb.ModelConfig object."
    )
