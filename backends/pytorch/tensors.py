"""Tensors between the house and PyTorch, without a copy wherever the memory allows it."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

from ...proto.datatypes import Datatype
from ...proto.tensor import Array, Tensor
from .program import Value

TORCH_TYPES: Final = {
    Datatype.BOOL: torch.bool,
    Datatype.UINT8: torch.uint8,
    Datatype.UINT16: torch.uint16,
    Datatype.UINT32: torch.uint32,
    Datatype.UINT64: torch.uint64,
    Datatype.INT8: torch.int8,
    Datatype.INT16: torch.int16,
    Datatype.INT32: torch.int32,
    Datatype.INT64: torch.int64,
    Datatype.FP16: torch.float16,
    Datatype.FP32: torch.float32,
    Datatype.FP64: torch.float64,
    Datatype.BF16: torch.bfloat16,
}
DATATYPES: Final = {torch_type: datatype for datatype, torch_type in TORCH_TYPES.items()}


def to_torch(array: Array, datatype: Datatype, device: torch.device, *, own: bool) -> Value:
    """Return the elements of an array for a model; `own` asks for memory that the model may write to."""
    if datatype is Datatype.BYTES:
        strings: list[bytes] = array.ravel().tolist()
        return strings
    if own or not (array.flags.aligned and array.flags.c_contiguous):
        array = array.copy()
    # from_numpy warns of memory that is read-only, as that of a request is; DLPack passes it on in silence.
    tensor = torch.from_numpy(array) if array.flags.writeable else from_dlpack(array)
    if datatype is Datatype.BF16:
        tensor = tensor.view(torch.bfloat16)
    return tensor.to(device)


def from_torch(value: Value) -> Tensor:
    """Return a result of a model as a tensor of the house."""
    if not isinstance(value, torch.Tensor):
        return Tensor.from_numpy(_as_array(value), Datatype.BYTES)
    datatype = DATATYPES.get(value.dtype, Datatype.INVALID)
    if datatype is Datatype.INVALID:
        return Tensor(datatype, tuple(value.shape), None)
    host = value.cpu()
    array = (host.view(torch.uint16) if datatype is Datatype.BF16 else host).numpy()
    return Tensor.from_numpy(array, datatype)


def _as_array(strings: Sequence[str | bytes]) -> Array:
    array = np.empty(len(strings), np.object_)
    array[:] = [each.encode() if isinstance(each, str) else each for each in strings]
    return array
