"""What a model accepts as one of its inputs: datatype, dimensions, number of bytes, number of strings.

All that follows from the configuration alone is worked out once, so the usual tensor, of fixed dimensions and
the right size, costs three comparisons. The texts of refusals are those of Triton's `infer_request.cc`.
"""

import struct
from typing import Final

from .byte_strings import LENGTH_SIZE
from .config.model_config import InputSpec
from .datatypes import Datatype
from .errors import InferError, invalid, request_prefix
from .sizes import MAX_SIZE, POINTER_SIZE, WILDCARD, reshaped_dims, shape_text, size_within_bounds
from .tensor import Shape, Tensor

_BATCH_NOTE: Final = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended "
    "to each input shape. If you want to specify the full shape including the batch dim in your input dims "
    "config, try setting max_batch_size to zero. See the model configuration docs for more info on "
    "max_batch_size."
)

_length = struct.Struct("<I")


class InputRule:
    """The rule for one input of one model version."""

    __slots__ = (
        "_expected_size",
        "_fixed_dims",
        "_model_name",
        "_reshape",
        "batched",
        "datatype",
        "dims",
        "name",
    )

    name: str
    batched: bool
    """Whether the first dimension of a tensor counts rows; that of a shape tensor never does."""

    def __init__(self, spec: InputSpec, model_name: str, *, batching: bool) -> None:
        self.name = spec.name
        self.datatype = spec.datatype
        self.dims = spec.dims
        self.batched = batching and not spec.is_shape_tensor
        self._model_name = model_name
        self._reshape = spec.reshape
        self._fixed_dims = None if WILDCARD in spec.dims else spec.dims
        sized = self._fixed_dims is not None and spec.datatype is not Datatype.BYTES
        # Bytes of a row, or of a tensor without rows; None where they differ from tensor to tensor.
        self._expected_size = size_within_bounds(spec.dims, spec.datatype.item_size) if sized else None

    def check(self, tensor: Tensor, request_id: str) -> None:
        """Compare a tensor with the rule; raises InferError with the first thing that is wrong."""
        if tensor.datatype is not self.datatype:
            raise self._refusal(
                request_id,
                f"inference input '{self.name}' data-type is '{tensor.datatype.wire_name}', but model "
                f"'{self._model_name}' expects '{self.datatype.wire_name}'",
            )
        shape = tensor.shape
        if (shape[1:] if self.batched else shape) != self._fixed_dims:
            self._check_dims(shape, request_id)
        if self.datatype is Datatype.BYTES:
            self._check_strings(tensor, request_id)
            return
        expected = self._expected_size
        if expected is None:
            expected = self._size_of(shape)
        elif self.batched:
            expected *= shape[0]
        size = tensor.byte_size
        if size != expected:
            raise self._refusal(
                request_id,
                f"input byte size mismatch for input '{self.name}' for model '{self._model_name}'. "
                f"Expected {expected}, got {size}",
            )

    def reshaped(self, tensor: Tensor) -> Tensor:
        """Return a checked tensor in the shape the model wants to see."""
        if self._reshape is None:
            return tensor
        rows = 1 if self.batched else 0
        own = reshaped_dims(tensor.shape[rows:], self.dims, self._reshape)
        return tensor.reshaped(tensor.shape[:rows] + own)

    def _check_dims(self, shape: Shape, request_id: str) -> None:
        """Compare dimensions where wildcards may stand for any size; raises InferError."""
        own = shape[1:] if self.batched else shape
        fits = len(own) == len(self.dims)
        for size, dim in zip(own, self.dims, strict=False) if fits else ():
            if size == WILDCARD:
                raise self._refusal(
                    request_id,
                    f"All input dimensions should be specified for input '{self.name}' for model "
                    f"'{self._model_name}', got {shape_text(shape)}",
                )
            if dim not in (WILDCARD, size):
                fits = False
                break
        if not fits:
            expected = (WILDCARD, *self.dims) if self.batched else self.dims
            note = _BATCH_NOTE if self.batched else ""
            raise self._refusal(
                request_id,
                f"unexpected shape for input '{self.name}' for model '{self._model_name}'. "
                f"Expected {shape_text(expected)}, got {shape_text(shape)}. {note}",
            )

    def _size_of(self, shape: Shape) -> int:
        """Return the bytes that a tensor of this shape must have; raises InferError."""
        if min(shape, default=0) < 0:
            raise invalid(f"tensor '{self.name}' contains an invalid dimension {shape_text(shape)}")
        size = size_within_bounds(shape, self.datatype.item_size)
        if size is None:
            raise invalid(f"byte size for tensor '{self.name}' exceeds maximum size of {MAX_SIZE}")
        return size

    def _check_strings(self, tensor: Tensor, request_id: str) -> None:
        """Count the elements of a BYTES tensor without making them; raises InferError."""
        shape = tensor.shape
        if min(shape, default=0) < 0:
            raise invalid(f"tensor '{self.name}' contains an invalid dimension in shape {shape_text(shape)}")
        slots = size_within_bounds(shape, POINTER_SIZE)
        if slots is None:
            raise invalid(f"element count for tensor '{self.name}' exceeds maximum size of {MAX_SIZE}")
        expected = slots // POINTER_SIZE
        raw = tensor.raw
        size = tensor.byte_size
        count = offset = length = 0
        while offset < size:
            if size - offset < LENGTH_SIZE:
                raise self._refusal(
                    request_id,
                    f"incomplete string length indicator for inference input '{self.name}' for model "
                    f"'{self._model_name}', expecting {LENGTH_SIZE} bytes but only {size - offset} bytes "
                    "available. Please make sure the string length indicator is in one buffer.",
                )
            count += 1
            if count > expected:
                raise self._refusal(
                    request_id,
                    f"unexpected number of string elements {count} for inference input '{self.name}' for "
                    f"model '{self._model_name}', expecting {expected}",
                )
            (length,) = _length.unpack_from(raw, offset)
            offset += LENGTH_SIZE + length
        if count != expected:
            raise self._refusal(
                request_id,
                f"expected {expected} string elements for inference input '{self.name}' for model "
                f"'{self._model_name}', got {count}",
            )
        if offset > size:
            # Triton's core lets this pass; its backends refuse it with these words as they read the strings.
            raise invalid(
                f"incomplete string data for inference input '{self.name}', expecting string of length "
                f"{length} but only {size - offset + length} bytes available"
            )

    @staticmethod
    def _refusal(request_id: str, message: str) -> InferError:
        return invalid(request_prefix(request_id) + message)
