"""Why a model is not loaded, in the words of Triton."""

from collections.abc import Iterable, Mapping

from ..proto.errors import InferError, internal, invalid
from ..proto.model_id import ModelId
from .records import titled


def not_polled(model: ModelId) -> InferError:
    """Return the error of a model whose configuration could not be had."""
    return internal(f"failed to load '{model}', failed to poll from model repository")


def dependency_failed(ensemble: ModelId, step: ModelId, error: InferError) -> str:
    """Return why an ensemble cannot be loaded, one of whose models cannot."""
    reason = error.message.removeprefix(f"load failed for model '{step}': ").removesuffix("\n")
    return (
        f"ensemble '{ensemble}' depends on '{step}' which has no loaded version. "
        f"Model '{step}' loading failed with error: {reason}"
    )


def load_failed(model: ModelId, failures: Mapping[int, Exception]) -> InferError:
    """Return the error of a model some of whose versions could not be built."""
    reasons = "".join(
        f"version {version} is at UNAVAILABLE state: {titled(error)};\n"
        for version, error in failures.items()
    )
    return invalid(f"load failed for model '{model}': {reasons}")


def raise_first(outcomes: Iterable[BaseException | None]) -> None:
    """Raise the first error among what loads came to, if there is one."""
    for outcome in outcomes:
        if outcome is not None:
            raise outcome
