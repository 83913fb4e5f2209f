"""From a function and what is said of it to a binding, checked before anybody is asked."""

from collections.abc import Callable, Sequence

from ...backends.bindings import Binding, Function
from ...backends.callables.specs import Description, ModelConfig, Tensor
from ...proto.config import validated
from ...proto.errors import invalid

Functions = Function | Sequence[Function]
"""One function, or one for each instance."""


def describe(
    name: str, functions: Functions, inputs: Sequence[Tensor], outputs: Sequence[Tensor], config: ModelConfig
) -> Description:
    """Return the description of a model, with an instance for each function."""
    return Description(name, inputs, outputs, config, len(_each(functions)))


def binding_of(
    description: Description,
    functions: Functions,
    version: int,
    unrecoverable: Callable[[BaseException], None],
    *,
    strict: bool,
) -> Binding:
    """Return the binding; raises InferError or ValueError with all that is wrong with it."""
    name = description.name
    if not name or name in (".", "..") or "/" in name:
        raise invalid(f"'{name}' is not the name of a model")
    if version < 1:
        raise invalid(f"model '{name}' cannot have version {version}")
    if not _each(functions):
        raise invalid(f"model '{name}' is bound to no function")
    binding = Binding(name, version, description.as_json(), _each(functions), strict, unrecoverable)
    validated(binding.draft())
    return binding


def _each(functions: Functions) -> tuple[Function, ...]:
    return tuple(functions) if isinstance(functions, Sequence) else (functions,)
