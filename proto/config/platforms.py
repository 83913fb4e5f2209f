"""The backends that are known by name: their platforms, and the files by which they are recognised.

`fill_backend` completes the fields `name`, `platform`, `backend` and `default_model_filename` from each other
and from the names of files, before any backend is asked. Precedence follows Triton's
`AutoCompleteBackendFields` (core, `model_config_utils.cc`), with one gap closed: a model of the PyTorch
backend that has a `model.pt2` and no `model.pt` gets the platform of that file.
"""

from dataclasses import dataclass
from typing import Final, Literal

from ..schema import model_config_pb2 as pb
from .complaint import Complaint, ConfigError

ENSEMBLE: Final = "ensemble"
TENSORRT_PLAN: Final = "tensorrt_plan"


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """What lies in the first version directory of a model: the names of files and of directories."""

    files: frozenset[str] = frozenset()
    directories: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of model: what it is recognised by, and what is filled in."""

    backend: str
    platform: str
    """Filled in where none is configured; empty where the backend has no platform."""
    filename: str
    lies_as: Literal["file", "directory", "either"]
    other_platform: str = ""
    """A second name of the platform, which betrays the backend but does not pass for its platform."""

    def lies_in(self, version: VersionFiles) -> bool:
        """Tell whether the model's file or directory is there."""
        as_file = self.lies_as != "directory" and self.filename in version.files
        return as_file or (self.lies_as != "file" and self.filename in version.directories)


# The first kind that fits is taken.
_KINDS: Final = (
    _Kind("tensorflow", "tensorflow_graphdef", "model.graphdef", "file"),
    _Kind("tensorflow", "tensorflow_savedmodel", "model.savedmodel", "directory"),
    _Kind("tensorrt", TENSORRT_PLAN, "model.plan", "file"),
    _Kind("onnxruntime", "onnxruntime_onnx", "model.onnx", "either"),
    _Kind("openvino", "", "model.xml", "either"),
    _Kind("pytorch", "pytorch_libtorch", "model.pt", "file", other_platform="libtorch"),
    _Kind("pytorch", "torch_aoti", "model.pt2", "file"),
    _Kind("python", "", "model.py", "either"),
)

BACKEND_OF_PLATFORM: Final = {kind.platform: kind.backend for kind in _KINDS if kind.platform}
"""The platforms that belong to one backend, and to no other."""


def default_filename(backend: str) -> str:
    """Return the file that models of a backend are, unless they name another; empty for none."""
    return next((kind.filename for kind in _KINDS if kind.backend == backend), "")


def fill_backend(config: pb.ModelConfig, directory_name: str, version: VersionFiles | None) -> pb.ModelConfig:
    """Return the configuration with name, backend, platform and file name filled in as far as they show.

    `version` is None where the model has no version directory. Raises ConfigError when nothing at all tells
    what the backend is.
    """
    filled = pb.ModelConfig()
    filled.CopyFrom(config)
    filled.name = config.name or directory_name
    kind = _recognise(config, version)
    if kind is not None:
        filled.backend = config.backend or kind.backend
        filled.platform = config.platform or kind.platform
        filled.default_model_filename = config.default_model_filename or kind.filename
    elif not (config.backend or config.platform or config.default_model_filename):
        _, dot, backend = directory_name.partition(".")
        if not dot:
            message = (
                f"Invalid model name: Could not determine backend for model '{directory_name}' with no "
                f"backend in model configuration. Expected model name of the form 'model.<backend_name>'."
            )
            raise ConfigError([Complaint(message)])
        filled.backend = backend
        filled.default_model_filename = f"model.{backend}"
    return filled


def _recognise(config: pb.ModelConfig, version: VersionFiles | None) -> _Kind | None:
    """Return the kind of model that platform, file name or files betray, else the backend's default."""
    kinds = [kind for kind in _KINDS if config.backend in ("", kind.backend)]
    named = config.platform or config.default_model_filename
    for kind in kinds:
        if (
            (config.platform and config.platform in (kind.platform, kind.other_platform))
            or config.default_model_filename == kind.filename
            or (version is not None and not named and kind.lies_in(version))
        ):
            return kind
    if config.backend and config.backend != "tensorflow":  # TensorFlow has no default among its two.
        return next(iter(kinds), None)
    return None
