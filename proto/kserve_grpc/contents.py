"""The typed contents of an input: numbers that protobuf has read one by one, made into one buffer."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from ..byte_strings import encode_byte_strings
from ..datatypes import Datatype
from ..errors import invalid
from ..schema import grpc_service_pb2 as pb
from ..tensor import Raw

_FIELDS: Final[Mapping[str, tuple[Datatype, ...]]] = {
    "bool_contents": (Datatype.BOOL,),
    "int_contents": (Datatype.INT32, Datatype.INT16, Datatype.INT8),
    "int64_contents": (Datatype.INT64,),
    "uint_contents": (Datatype.UINT32, Datatype.UINT16, Datatype.UINT8),
    "uint64_contents": (Datatype.UINT64,),
    "fp32_contents": (Datatype.FP32,),
    "fp64_contents": (Datatype.FP64,),
    "bytes_contents": (Datatype.BYTES,),
}
"""The datatypes whose elements each field carries; the first is what the field is called in errors."""


def read_contents(name: str, model_name: str, datatype: Datatype, contents: pb.InferTensorContents) -> Raw:
    """Return the elements as they are spelt on a wire; raises InferError.

    Integers are cut to the width of their datatype. How many there must be is left to admission.
    """
    raw: Raw | None = None
    for field, elements in contents.ListFields():
        carried = _FIELDS[field.name]
        task = f"unexpected explicit tensor data for input tensor '{name}' for model '{model_name}'"
        if raw is not None:
            raise invalid(f"{task}, binary data was already supplied.")
        if datatype not in carried:
            raise invalid(
                f"{task} of type '{carried[0].wire_name}', expected datatype '{datatype.wire_name}'"
            )
        if datatype is Datatype.BYTES:
            raw = encode_byte_strings(np.array(elements, dtype=np.object_))
        else:
            wide = np.array(elements, dtype=carried[0].numpy_type)
            raw = wide.astype(datatype.numpy_type, copy=False).view(np.uint8).data
    return b"" if raw is None else raw
