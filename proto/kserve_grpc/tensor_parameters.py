"""The `parameters` of an input or a requested output: shared memory, and classes instead of values."""

from ..errors import Fault, InferError, invalid
from .parameters import Parameters

_REGION = "shared_memory_region"
_OFFSET = "shared_memory_offset"
_BYTE_SIZE = "shared_memory_byte_size"


def read_region(name: str, parameters: Parameters) -> str | None:
    """Return the shared-memory region that a tensor is said to lie in, None for none; raises InferError."""
    region = None
    if _REGION in parameters:
        if parameters[_REGION].WhichOneof("parameter_choice") != "string_param":
            raise _mistyped(_REGION, name, "string_param")
        region = parameters[_REGION].string_param
    for part in (_OFFSET, _BYTE_SIZE):
        if part not in parameters:
            continue
        if region is None:
            raise invalid(f"'{part}' can not be specified without '{_REGION}' parameter for tensor '{name}'")
        if parameters[part].WhichOneof("parameter_choice") != "int64_param":
            raise _mistyped(part, name, "int64_param")
    if region is not None and _BYTE_SIZE not in parameters:
        raise invalid(
            f"'{_BYTE_SIZE}' must be specified along with '{_REGION}' parameter for tensor '{name}'"
        )
    return region


def read_classes(parameters: Parameters) -> int:
    """Return how many classes are wanted of an output, 0 for its values; raises InferError."""
    if "classification" not in parameters:
        return 0
    parameter = parameters["classification"]
    if parameter.WhichOneof("parameter_choice") != "int64_param":
        raise invalid("invalid value type for 'classification' parameter, expected int64_param")
    if parameter.int64_param <= 0:
        raise invalid("invalid value for 'classification' parameter, expected >= 0")
    return parameter.int64_param


def no_region(region: str) -> InferError:
    """Return the error of a tensor in shared memory: no region is registered."""
    return InferError(Fault.NOT_FOUND, f"Unable to find shared memory region: '{region}'")


def _mistyped(parameter: str, name: str, expected: str) -> InferError:
    return invalid(
        f"invalid value type for '{parameter}' parameter for tensor '{name}', expected {expected}."
    )
