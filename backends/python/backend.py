"""The python backend: models that are a class `TritonPythonModel` in a file `model.py`.

Each instance's code runs in a worker process, unless the model or the server is configured otherwise: then it
runs in this process, on the lane the instance is seated on, so no tensor crosses a process on its way, and
what the model does to the process is done to the server. The code that runs models is the same in both forms.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
import structlog

from ...proto.config import ModelConfig
from ...proto.config.json_form import from_json, to_json
from ...proto.errors import Fault, InferError, invalid
from ...proto.schema.model_config_pb2 import ModelConfig as ConfigMessage
from .. import parameters
from ..api import Engine, ModelFiles, Seat, Settings
from ..artifact import find_artifact
from ..device import Device
from ..house import House
from .arrived import Terms
from .completion import complete
from .engine import PythonEngine
from .environments.execution_env import PARAMETER as EXECUTION_ENV_PATH
from .environments.interpreters import find_interpreter
from .environments.requirements import find_requirements
from .environments.store import SETTING as ENVIRONMENTS_DIRECTORY
from .environments.store import Store
from .ipc.arena import DEFAULT_LIMIT
from .model_code import ModelCode
from .remote import completion as remote_completion
from .remote.assignment import Assignment
from .remote.engine import WorkerEngine
from .remote.fork_servers import Interpreter, held, hold, let_go
from .remote.process import Launch

log: Final = structlog.stdlib.get_logger("deuteron.environments")

_ODD: Final = frozenset(";|&$`<>()[]{}\\\"'*?~#!")

DEFAULT_FILENAME: Final = "model.py"
START_SECONDS: Final = 30
"""How long a worker process may take to be there; Triton's default."""
CLOSE_SECONDS: Final = 30
"""How long a model may take to finalise in its worker."""


@dataclass(frozen=True, slots=True)
class Form:
    """Where the code of a model runs, and within which bounds."""

    in_process: bool
    interpreter: Interpreter
    """What its workers run on."""
    start_s: int
    patience_s: float
    """Seconds that a batch may take in a worker; 0 is for ever."""
    limit: int
    """Bytes of memory that a worker shares with the server in each direction."""

    @property
    def launch(self) -> Launch:
        """How workers are started."""
        return Launch(self.interpreter, self.start_s, CLOSE_SECONDS)


class PythonBackend:
    """Makes models of Python code."""

    def __init__(self, settings: Settings, house: House | None = None) -> None:
        """Take the settings of all models, and whom models may ask; raises InferError."""
        self._settings = settings
        self._house = house
        self._environments = Store(settings.get(ENVIRONMENTS_DIRECTORY, ""))

    def complete(self, config: ConfigMessage, files: ModelFiles) -> ConfigMessage:
        """Return the configuration as the model's `auto_complete_config` completes it; raises InferError."""
        given = {key: value.string_value for key, value in config.parameters.items()}
        form = self._form(given, files, config.name)
        path = _model_file(config.default_model_filename, files, config.name)
        current = json.dumps(to_json(config))
        if form.in_process:
            completed = _complete_here(path, files, current, config.name)
        else:
            assignment = Assignment(
                config.name, config.name, str(path), str(files.directory), form.launch, form.limit
            )
            with held(form.interpreter):
                completed = remote_completion.complete(assignment, current, form.patience_s)
        return config if completed is None else from_json(completed)

    def load(self, config: ModelConfig, files: ModelFiles, device: Device) -> "PythonPlan":
        """Find the model's file; raises InferError. Its code is run by each instance for itself."""
        form = self._form(config.parameters, files, config.name)
        path = _model_file(config.default_model_filename, files, config.name)
        return PythonPlan(config, files, path, form, self._house)

    def _form(self, given: Mapping[str, str], files: ModelFiles, name: str) -> Form:
        """Return how a model with these parameters runs; raises InferError for what means nothing.

        One that has an environment of its own runs in a worker, and its environment is made ready here.
        """
        _check_name(name)
        _check_parameters(given)
        settings = {**self._settings, **given}
        patience_s = _seconds(settings, "execution_timeout_seconds")
        in_process = parameters.boolean(settings, "in_process", default=False)
        interpreter = None
        if not in_process:
            interpreter = find_interpreter(given, files, name, self._environments)
        elif EXECUTION_ENV_PATH in given:
            raise invalid(
                f"model '{name}' runs in the server's process, which has one environment: in_process and "
                f"{EXECUTION_ENV_PATH} exclude each other"
            )
        elif find_requirements(files.version_directory, files.directory) is not None:
            log.warning("requirements have no effect on a model in the server's process", model=name)
        return Form(
            in_process,
            interpreter or Interpreter(),
            parameters.integer(self._settings, "stub-timeout-seconds", START_SECONDS),
            patience_s,
            parameters.integer(self._settings, "shm-limit-byte-size", DEFAULT_LIMIT),
        )


class PythonPlan:
    """What the instances of one model share: its file and what its configuration says."""

    def __init__(
        self, config: ModelConfig, files: ModelFiles, path: Path, form: Form, house: House | None
    ) -> None:
        self._house = house
        self._files = files
        self._path = path
        self._form = form
        hold(form.interpreter)
        self._max_batch_size = config.max_batch_size
        self._terms = Terms(config.decoupled, tuple(sorted(output.name for output in config.outputs)))
        self._arguments = {
            "model_config": orjson.dumps(to_json(config.message)).decode(),
            "model_repository": str(files.directory),
            "model_version": str(files.version),
            "model_name": config.name,
        }

    def engine(self, seat: Seat) -> Engine:
        """Run the model's code and initialise one instance; raises InferError with what the model raised."""
        arguments = {
            **self._arguments,
            "model_instance_kind": seat.device.kind,
            "model_instance_name": seat.name,
            "model_instance_device_id": str(seat.device.ordinal),
        }
        return (self._seat_here if self._form.in_process else self._seat_worker)(seat.name, arguments)

    def close(self) -> None:
        """Let the interpreter go, which may have been there for this model alone."""
        let_go(self._form.interpreter)

    def _seat_here(self, name: str, arguments: Mapping[str, str]) -> Engine:
        code = ModelCode(self._path, self._files.directory)
        code.caller.model, code.caller.instance = arguments["model_name"], name
        code.caller.version = arguments["model_version"]
        code.caller.house = self._house
        try:
            return PythonEngine(code, name, arguments, self._terms, self._max_batch_size)
        except InferError:
            code.close()
            raise

    def _seat_worker(self, name: str, arguments: Mapping[str, str]) -> Engine:
        form, terms = self._form, self._terms
        assignment = Assignment(
            arguments["model_name"],
            name,
            str(self._path),
            str(self._files.directory),
            form.launch,
            form.limit,
            form.patience_s,
            arguments,
            terms.decoupled,
            terms.outputs,
            self._max_batch_size,
        )
        return WorkerEngine(assignment, self._house)


def _complete_here(path: Path, files: ModelFiles, config: str, model_name: str) -> str | None:
    code = ModelCode(path, files.directory)
    try:
        return complete(code, config, model_name)
    finally:
        code.close()


def _model_file(filename: str, files: ModelFiles, model_name: str) -> Path:
    return find_artifact(files, filename or DEFAULT_FILENAME, model_name)


def _check_name(model_name: str) -> None:
    """Raise InferError for names that Triton starts no process under: shells would misread them."""
    if not _ODD.isdisjoint(model_name):
        raise invalid("Invalid stub name: contains invalid characters")


def _check_parameters(given: Mapping[str, str]) -> None:
    """Raise InferError for parameters that ask for what is not there, or mean nothing."""
    force = given.get("FORCE_CPU_ONLY_INPUT_TENSORS", "yes")
    if force not in ("yes", "no"):
        raise InferError(Fault.UNSUPPORTED, f"Incorrect value for FORCE_CPU_ONLY_INPUT_TENSORS: {force}")


def _seconds(given: Mapping[str, str], key: str) -> float:
    """Return the seconds under a key, 0 where there are none; raises InferError where the text is no time."""
    text = given.get(key, "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise invalid(f"failed to convert '{text}' of {key} to a number of seconds")
    return seconds
