"""The `parameters` of a request message: those with a meaning are checked, the others go to the model."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..bounds import MAX_PARAMETERS, check_number_of
from ..errors import invalid
from ..message import ParameterValue, Request
from ..reserved_parameters import RESERVED_PREFIX, assign_reserved, checked_correlation_text
from ..schema import grpc_service_pb2 as pb

Parameters = Mapping[str, pb.InferParameter]

EMPTY_FINAL: Final = "triton_enable_empty_final_response"
"""Asks a stream to close each request with a response, even one that has nothing else to say."""

_CUSTOM: Final = frozenset({"int64_param", "bool_param", "string_param", "double_param"})


def _as_correlation_id(choice: str | None, value: ParameterValue) -> int | str:
    if choice == "int64_param" and isinstance(value, int):
        return value % 2**64  # Triton keeps it without a sign
    if choice == "string_param" and isinstance(value, str):
        return checked_correlation_text(value)
    raise invalid("invalid value type for 'sequence_id' parameter, expected int64_param or string_param.")


def _as_priority(choice: str | None, value: ParameterValue) -> int:
    if choice not in ("int64_param", "uint64_param") or not isinstance(value, int):
        raise invalid("invalid value type for 'priority' parameter, expected int64_param or uint64_param.")
    if value < 0:
        raise invalid("invalid value for 'priority', expected value >= 0.")
    return value


def _as_timeout(choice: str | None, value: ParameterValue) -> int:
    if choice != "int64_param" or not isinstance(value, int):
        raise invalid("invalid value type for 'timeout' parameter, expected int64_param.")
    return value % 2**64  # Triton keeps it without a sign


def _as_flag(name: str) -> Callable[[str | None, ParameterValue], bool]:
    def read(choice: str | None, value: ParameterValue) -> bool:
        if choice != "bool_param":
            raise invalid(f"invalid value type for '{name}' parameter, expected bool_param.")
        return bool(value)

    return read


_RESERVED: Final[Mapping[str, Callable[[str | None, ParameterValue], Any]]] = {
    "sequence_id": _as_correlation_id,
    "sequence_start": _as_flag("sequence_start"),
    "sequence_end": _as_flag("sequence_end"),
    "priority": _as_priority,
    "timeout": _as_timeout,
    EMPTY_FINAL: _as_flag(EMPTY_FINAL),
}


def read_parameters(parameters: Parameters, request: Request) -> bool:
    """Write parameters into a request; return whether it wants an empty final response; raises InferError."""
    check_number_of("parameters", len(parameters), MAX_PARAMETERS)
    reserved: dict[str, Any] = {}
    custom: dict[str, ParameterValue] = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        value = getattr(parameter, choice) if choice else ""
        read = _RESERVED.get(name)
        if read is not None:
            reserved[name] = read(choice, value)
        elif name.startswith(RESERVED_PREFIX):
            raise invalid(
                "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following "
                f"keys starting with 'triton_' are allowed: {EMPTY_FINAL}"
            )
        elif choice in _CUSTOM:
            custom[name] = value
        else:
            raise invalid(
                f"invalid value type for '{name}' parameter, expected int64_param, bool_param, or "
                "string_param."
            )
    empty_final: bool = reserved.pop(EMPTY_FINAL, False)
    if reserved:
        assign_reserved(request, reserved)
    if custom:
        request.parameters = custom
    return empty_final
