"""The `parameters` of a JSON request: those with a meaning are checked, the others go to the model."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from ..bounds import MAX_PARAMETERS, check_number_of
from ..errors import internal, invalid
from ..message import ParameterValue, Request
from ..reserved_parameters import RESERVED_PREFIX, assign_reserved, checked_correlation_text
from .members import as_boolean, as_string, as_unsigned, is_unsigned


def _as_correlation_id(value: object) -> int | str:
    if is_unsigned(value):
        return value
    return checked_correlation_text(as_string(value, "Unable to parse 'sequence_id'"))


_RESERVED: Final[Mapping[str, Callable[[object], Any]]] = {
    "sequence_id": _as_correlation_id,
    "sequence_start": partial(as_boolean, task="Unable to parse 'sequence_start'"),
    "sequence_end": partial(as_boolean, task="Unable to parse 'sequence_end'"),
    "priority": partial(as_unsigned, task="Unable to parse 'priority'"),
    "timeout": partial(as_unsigned, task="Unable to parse 'timeout'"),
    "binary_data_output": partial(as_boolean, task="Unable to parse 'binary_data_output'"),
}


def read_parameters(parameters: object, request: Request) -> bool:
    """Write parameters into a request; return whether outputs are binary by default; raises InferError."""
    if type(parameters) is not dict:
        raise internal("failed to get request params.: attempt to get members for non-object")
    check_number_of("parameters", len(parameters), MAX_PARAMETERS)
    reserved: dict[str, Any] = {}
    custom: dict[str, ParameterValue] = {}
    for name, value in parameters.items():
        read = _RESERVED.get(name)
        if read is not None:
            reserved[name] = read(value)
        elif name.startswith(RESERVED_PREFIX):
            raise invalid(
                "parameter keys starting with 'triton_' are reserved for Triton usage and should not be "
                "specified."
            )
        else:
            custom[name] = read_custom_parameter(name, value)
    binary: bool = reserved.pop("binary_data_output", False)
    if reserved:
        assign_reserved(request, reserved)
    if custom:
        request.parameters = custom
    return binary


def read_custom_parameter(name: str, value: object) -> ParameterValue:
    """Return the value of a parameter that the server gives no meaning to; raises InferError.

    An integer that needs more than 63 bits and a sign becomes a double, as in Triton.
    """
    if isinstance(value, str | bool | float):
        return value
    if isinstance(value, int) and abs(value) < 2**64:
        return value if -(2**63) <= value < 2**63 else float(value)
    raise invalid(f"parameter '{name}' has invalid type. It should be either 'int', 'bool', or 'string'.")
