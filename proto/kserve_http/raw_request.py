"""A raw binary request: the body is the data of the model's only input, and the model says what shape it has.

Of the shape one dimension may be variable; it is what remains of the bytes. A BYTES input has one element,
the whole body. The outputs of such a request come back as binary tensors.
"""

import struct
from typing import Final

from ..config.model_config import InputSpec
from ..datatypes import Datatype
from ..errors import InferError, invalid, request_prefix
from ..message import Request
from ..sizes import size_within_bounds
from ..target import Target
from ..tensor import Raw, Shape, Tensor

_WILDCARD: Final = -1
_MAX_ELEMENT: Final = 2**32 - 1
"""Bytes that the length before a BYTES element can count."""

_length = struct.Struct("<I")


def decode_raw_request(body: Raw, target: Target, max_input_size: int) -> Request:
    """Return the request that a body without any JSON makes of a model; raises InferError."""
    size = len(body)
    largest = min(max_input_size, _MAX_ELEMENT)
    if size > largest:
        raise invalid(
            f"Raw input has a byte_size ({size} bytes) that exceeds the maximum allowed value of {largest} "
            "bytes. Use --http-max-input-size to increase the limit."
        )
    inputs = target.config.inputs
    if len(inputs) != 1:
        raise _refusal(
            f"Raw request must only have 1 input (found 1) to be deduced but got {len(inputs)} inputs in "
            f"'{target.name}' model configuration"
        )
    spec = inputs[0]
    shape = _deduce_shape(spec, size)
    if spec.datatype is Datatype.BYTES:
        body = b"".join((_length.pack(size), body))
    if target.config.max_batch_size > 0:
        shape = (1, *shape)
    return Request(target.name, target.version, inputs={spec.name: Tensor(spec.datatype, shape, body)})


def _deduce_shape(spec: InputSpec, size: int) -> Shape:
    """Return the shape of one row of an input that has so many bytes; raises InferError."""
    variable = spec.dims.count(_WILDCARD)
    if variable > 1:
        raise _refusal(
            f"The shape of the raw input '{spec.name}' can not be deduced because there are more than one "
            "variable-sized dimension"
        )
    fixed = tuple(dim for dim in spec.dims if dim != _WILDCARD)
    if spec.datatype is Datatype.BYTES:
        if variable or size_within_bounds(fixed, 1) != 1:
            raise _refusal(f"For BYTE datatype raw input '{spec.name}', the model must have input shape [1]")
        return spec.dims
    rest = size // (size_within_bounds(fixed, spec.datatype.item_size) or size + 1)
    return tuple(rest if dim == _WILDCARD else dim for dim in spec.dims)


def _refusal(message: str) -> InferError:
    return invalid(request_prefix("") + message)
