"""The datatypes of KServe and Triton: names on wires and in configurations, sizes, numpy form.

BF16 has no numpy type of its own. On the host it travels as `uint16`: the upper half of a float32, bit for
bit. BYTES elements are Python `bytes` in an object array; how they are spelt in one buffer is told in
`byte_strings`.
"""

from enum import Enum
from typing import Any, Final

import numpy as np


class Datatype(Enum):
    """One KServe datatype.

    The value is the number of the datatype in Triton's configuration schema (`DataType` in
    `model_config.proto`).
    """

    INVALID = 0
    BOOL = 1
    UINT8 = 2
    UINT16 = 3
    UINT32 = 4
    UINT64 = 5
    INT8 = 6
    INT16 = 7
    INT32 = 8
    INT64 = 9
    FP16 = 10
    FP32 = 11
    FP64 = 12
    BYTES = 13
    BF16 = 14

    # Members are compared by identity and used as dictionary keys on the hot path; Enum's own hash is Python
    # code.
    __hash__ = object.__hash__

    wire_name: str
    """The name in requests and metadata: `FP32`, `BYTES`; `<invalid>` for a name nobody knows."""
    config_name: str
    """The name in model configurations: `TYPE_FP32`, `TYPE_STRING`."""
    item_size: int
    """Bytes of one element; 0 where elements differ in size (BYTES) or there are none (INVALID)."""
    numpy_type: np.dtype[Any]
    """The numpy type that holds elements on the host."""


_NUMPY_TYPES: Final = {
    Datatype.INVALID: np.dtype(np.void),
    Datatype.BOOL: np.dtype(np.bool_),
    Datatype.UINT8: np.dtype(np.uint8),
    Datatype.UINT16: np.dtype(np.uint16),
    Datatype.UINT32: np.dtype(np.uint32),
    Datatype.UINT64: np.dtype(np.uint64),
    Datatype.INT8: np.dtype(np.int8),
    Datatype.INT16: np.dtype(np.int16),
    Datatype.INT32: np.dtype(np.int32),
    Datatype.INT64: np.dtype(np.int64),
    Datatype.FP16: np.dtype(np.float16),
    Datatype.FP32: np.dtype(np.float32),
    Datatype.FP64: np.dtype(np.float64),
    Datatype.BYTES: np.dtype(np.object_),
    Datatype.BF16: np.dtype(np.uint16),
}

for _datatype, _numpy_type in _NUMPY_TYPES.items():
    _sized = _datatype not in (Datatype.BYTES, Datatype.INVALID)
    _datatype.wire_name = _datatype.name if _datatype is not Datatype.INVALID else "<invalid>"
    _datatype.config_name = f"TYPE_{_datatype.name if _datatype is not Datatype.BYTES else 'STRING'}"
    _datatype.item_size = _numpy_type.itemsize if _sized else 0
    _datatype.numpy_type = _numpy_type

VALID_DATATYPES: Final = tuple(datatype for datatype in Datatype if datatype is not Datatype.INVALID)

_BY_WIRE_NAME: Final = {datatype.wire_name: datatype for datatype in VALID_DATATYPES}
_BY_NUMPY_KIND: Final = {
    (datatype.numpy_type.kind, datatype.numpy_type.itemsize): datatype
    for datatype in VALID_DATATYPES
    if datatype not in (Datatype.BYTES, Datatype.BF16)
}


def datatype_of_wire(name: str) -> Datatype:
    """Return the datatype of a wire name, `Datatype.INVALID` for an unknown one."""
    return _BY_WIRE_NAME.get(name, Datatype.INVALID)


def datatype_of_numpy(numpy_type: np.dtype[Any]) -> Datatype:
    """Return the datatype that numpy elements have on a wire, `Datatype.INVALID` where there is none.

    Arrays of objects, of bytes and of str are BYTES; BF16 is never guessed from `uint16`.
    """
    if numpy_type.kind in "OSU":
        return Datatype.BYTES
    return _BY_NUMPY_KIND.get((numpy_type.kind, numpy_type.itemsize), Datatype.INVALID)
