"""The helper functions of the API: finding tensors and configurations by name, and datatypes by number."""

import struct
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ....proto.byte_strings import decode_byte_strings, encode_byte_strings
from ....proto.datatypes import VALID_DATATYPES, Datatype
from .request import InferenceRequest
from .response import InferenceResponse
from .tensor import Tensor

_NUMPY_TYPES: Final = {
    datatype.value: datatype.numpy_type.type for datatype in VALID_DATATYPES if datatype is not Datatype.BF16
}

TRITON_STRING_TO_NUMPY: Final[dict[str, type]] = {
    datatype.config_name: bool if datatype is Datatype.BOOL else datatype.numpy_type.type
    for datatype in VALID_DATATYPES
    if datatype is not Datatype.BF16
}


def get_input_tensor_by_name(inference_request: InferenceRequest, name: str) -> Tensor | None:
    """Return the input of that name, None where the request has none."""
    for tensor in inference_request.inputs():
        if tensor.label == name:
            return tensor
    return None


def get_output_tensor_by_name(inference_response: InferenceResponse, name: str) -> Tensor | None:
    """Return the output of that name, None where the response has none."""
    for tensor in inference_response.tensors:
        if tensor.label == name:
            return tensor
    return None


def get_input_config_by_name(model_config: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return the properties of an input in a configuration, None where it has none of that name."""
    return _named(model_config.get("input", ()), name)


def get_output_config_by_name(model_config: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return the properties of an output in a configuration, None where it has none of that name."""
    return _named(model_config.get("output", ()), name)


def using_decoupled_model_transaction_policy(model_config: Mapping[str, Any]) -> bool:
    """Tell whether a configuration says that a request may have any number of responses."""
    policy = model_config.get("model_transaction_policy")
    return bool(policy["decoupled"]) if policy is not None else False


def triton_to_numpy_type(data_type: int) -> type | None:
    """Return the numpy type of a datatype's number, None where there is none."""
    return _NUMPY_TYPES.get(data_type)


def numpy_to_triton_type(data_type: npt.DTypeLike) -> int | None:
    """Return the number of the datatype that a numpy type has, None where there is none."""
    dtype = np.dtype(data_type)
    if dtype.type is np.bytes_:
        return Datatype.BYTES.value
    return next((number for number, numpy_type in _NUMPY_TYPES.items() if dtype == numpy_type), None)


def triton_string_to_numpy(triton_type_string: str) -> type:
    """Return the numpy type of a configuration's datatype; raises KeyError where there is none."""
    return TRITON_STRING_TO_NUMPY[triton_type_string]


def serialize_byte_tensor(input_tensor: npt.NDArray[Any]) -> bytes | tuple[()] | None:
    """Return one buffer with all elements of a BYTES array: `()` for none, None for other arrays."""
    if input_tensor.size == 0:
        return ()
    if input_tensor.dtype != np.object_ and input_tensor.dtype.type is not np.bytes_:
        return None
    return encode_byte_strings(input_tensor)


def deserialize_bytes_tensor(encoded_tensor: bytes) -> npt.NDArray[np.object_]:
    """Return the elements that a buffer spells, in one dimension; raises struct.error if it is cut off."""
    try:
        elements = decode_byte_strings(encoded_tensor)
    except ValueError as error:
        raise struct.error(str(error)) from None
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((entry for entry in entries if entry["name"] == name), None)
