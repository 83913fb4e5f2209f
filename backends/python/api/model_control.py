"""What model code may ask of the model repository; it is not available yet, and says so."""

from collections.abc import Mapping
from typing import NoReturn

from .errors import not_available


def load_model(
    model_name: str,
    config: str = "",  # noqa: ARG001 - the signature is Triton's
    files: Mapping[str, bytes] | None = None,  # noqa: ARG001 - the signature is Triton's
) -> NoReturn:
    """Load a model; raises TritonModelException."""
    raise not_available(f"Failed to load model: loading '{model_name}' from model code")


def unload_model(
    model_name: str,
    unload_dependents: bool = False,  # noqa: ARG001, FBT001, FBT002 - the signature is Triton's
) -> NoReturn:
    """Unload a model; raises TritonModelException."""
    raise not_available(f"Failed to unload model: unloading '{model_name}' from model code")


def is_model_ready(
    model_name: str,
    model_version: str = "",  # noqa: ARG001 - the signature is Triton's
) -> NoReturn:
    """Tell whether a model is ready; raises TritonModelException."""
    raise not_available(f"Failed to check model readiness: asking for '{model_name}' from model code")
