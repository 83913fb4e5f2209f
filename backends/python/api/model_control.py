"""What model code may ask of the model repository; the server has to run in explicit mode."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from ....proto.errors import InferError, invalid
from ....proto.message import LATEST
from ...house import House
from .caller import find_caller
from .errors import TritonModelException

T = TypeVar("T")


def load_model(model_name: str, config: str = "", files: Mapping[str, bytes] | None = None) -> None:
    """Load a model, or load it anew, and wait until it is ready; raises TritonModelException."""
    if files is not None and not isinstance(files, dict):
        raise TritonModelException(
            f"failed to load model '{model_name}', files should be a dictionary of file paths and file "
            "contents"
        )
    _ask(
        "load model",
        lambda house, waiting: house.load(model_name, config, files or {}, waiting=waiting),
    )


def unload_model(
    model_name: str,
    unload_dependents: bool = False,  # noqa: FBT001, FBT002 - the signature is Triton's
) -> None:
    """Begin to unload a model; raises TritonModelException."""
    _ask("unload model", lambda house, _: house.unload(model_name, dependents=unload_dependents))


def is_model_ready(model_name: str, model_version: str = "") -> bool:
    """Tell whether a model takes requests, whatever its version or this one; raises TritonModelException."""
    return _ask("check model readiness", lambda house, _: house.is_ready(model_name, _number(model_version)))


def _ask(what: str, wish: Callable[[House, str], T]) -> T:
    """Fulfil a wish of the model that calls; the wish is told its name while it is being loaded."""
    caller = find_caller()
    if caller is None or caller.house is None:
        raise TritonModelException(f"Failed to {what}: only a model that is being served may ask for it")
    try:
        return wish(caller.house, "" if caller.serving else caller.model)
    except InferError as error:
        raise TritonModelException(
            f"Failed to {what}: Failed to process the request for model '{caller.instance}', message: "
            f"{error.message}"
        ) from None


def _number(version: str) -> int:
    """Return the number that a version is written as; raises InferError."""
    if not version:
        return LATEST
    try:
        number = int(version)
    except ValueError:
        number = LATEST
    if number < 0:
        raise invalid(
            f"failed to get model version from specified version string '{version}', version should be an "
            "integral value > 0"
        )
    return number
