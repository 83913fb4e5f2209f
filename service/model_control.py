"""Loading and unloading for clients: only in explicit mode, only by a plain name."""

from collections.abc import Mapping

from ..backends.private_directory import FILE_PREFIX, Override
from ..proto.errors import Fault, InferError, invalid
from .doorway import Doorway
from .information import check_serving
from .settings import ControlMode

CONFIG_PARAMETER = "config"
"""The load parameter with a configuration, as JSON."""


def is_load_parameter(name: str) -> bool:
    """Whether a load parameter is one that means something."""
    return name == CONFIG_PARAMETER or name.startswith(FILE_PREFIX)


async def load(doorway: Doorway, name: str, parameters: Mapping[str, str | bytes]) -> None:
    """Load a model, or load it anew, as the repository or the parameters have it.

    The parameters are `config`, a string, and files such as `file:1/model.py`, bytes. Raises InferError with
    the reason where it cannot be loaded.
    """
    _check_allowed(doorway)
    trimmed = name.strip()
    if not trimmed:
        raise invalid("Model name cannot be empty. Please enter a valid name to deploy.")
    if trimmed == ".." or "/" in trimmed:
        raise invalid(
            f"invalid model name '{trimmed}', model name must not contain path traversal characters"
        )
    config = parameters.get(CONFIG_PARAMETER)
    files = {parameter: value for parameter, value in parameters.items() if isinstance(value, bytes)}
    await doorway.repository.load(trimmed, Override(config if isinstance(config, str) else None, files))


async def unload(doorway: Doorway, name: str, *, dependents: bool) -> None:
    """Begin to unload a model, with `dependents` the models it is made of too; raises InferError."""
    _check_allowed(doorway)
    await doorway.repository.unload(name, dependents=dependents)


def _check_allowed(doorway: Doorway) -> None:
    check_serving(doorway.repository)
    if doorway.control_mode is not ControlMode.EXPLICIT:
        raise InferError(
            Fault.UNAVAILABLE, "explicit model load / unload is not allowed if polling is enabled"
        )
