"""The `parameters` of an input or a requested output: shared memory, and classes instead of values."""

from ..errors import InferError, invalid
from ..shared_memory import RegionPart
from .parameters import Parameters

_REGION = "shared_memory_region"
_OFFSET = "shared_memory_offset"
_BYTE_SIZE = "shared_memory_byte_size"


def read_part(name: str, parameters: Parameters) -> RegionPart | None:
    """Return where in shared memory a tensor is said to lie, None for elsewhere; raises InferError."""
    region = None
    if _REGION in parameters:
        if parameters[_REGION].WhichOneof("parameter_choice") != "string_param":
            raise _mistyped(_REGION, name, "string_param")
        region = parameters[_REGION].string_param
    numbers = {_OFFSET: 0}
    for part in (_OFFSET, _BYTE_SIZE):
        if part not in parameters:
            continue
        if region is None:
            raise invalid(f"'{part}' can not be specified without '{_REGION}' parameter for tensor '{name}'")
        if parameters[part].WhichOneof("parameter_choice") != "int64_param":
            raise _mistyped(part, name, "int64_param")
        numbers[part] = parameters[part].int64_param % 2**64  # Triton keeps both without a sign
    if region is None:
        return None
    if _BYTE_SIZE not in numbers:
        raise invalid(
            f"'{_BYTE_SIZE}' must be specified along with '{_REGION}' parameter for tensor '{name}'"
        )
    return RegionPart(region, numbers[_OFFSET], numbers[_BYTE_SIZE])


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


def _mistyped(parameter: str, name: str, expected: str) -> InferError:
    return invalid(
        f"invalid value type for '{parameter}' parameter for tensor '{name}', expected {expected}."
    )
