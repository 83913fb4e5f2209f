"""Loading and unloading for clients: only in explicit mode, only by a plain name."""

from collections.abc import Collection

from ..proto.errors import Fault, InferError, invalid
from .doorway import Doorway
from .information import check_serving
from .settings import ControlMode


async def load(doorway: Doorway, name: str, parameters: Collection[str]) -> None:
    """Load a model, or load it anew; raises InferError with the reason where it cannot be loaded."""
    _check_allowed(doorway)
    trimmed = name.strip()
    if not trimmed:
        raise invalid("Model name cannot be empty. Please enter a valid name to deploy.")
    if trimmed == ".." or "/" in trimmed:
        raise invalid(
            f"invalid model name '{trimmed}', model name must not contain path traversal characters"
        )
    if parameters:
        raise _absent(f"load parameter '{min(parameters)}'")
    await doorway.repository.load(trimmed)


async def unload(doorway: Doorway, name: str, *, dependents: bool) -> None:
    """Begin to unload a model; raises InferError where that is not allowed."""
    _check_allowed(doorway)
    if dependents:
        raise _absent("unload parameter 'unload_dependents'")
    await doorway.repository.unload(name)


def _check_allowed(doorway: Doorway) -> None:
    check_serving(doorway.repository)
    if doorway.control_mode is not ControlMode.EXPLICIT:
        raise InferError(
            Fault.UNAVAILABLE, "explicit model load / unload is not allowed if polling is enabled"
        )


def _absent(what: str) -> InferError:
    return InferError(Fault.UNSUPPORTED, f"{what} is not available in this version of deuteron")
