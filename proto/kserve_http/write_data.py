"""The `data` of an output: a flat JSON array, in the shape in which orjson writes it fastest.

FP32 values are written as doubles, so 0.1 appears as 0.10000000149011612: Triton does the same, and a reader
gets back exactly the float. Two things orjson cannot write are rendered here: numbers that are not finite,
which become NaN, Infinity and -Infinity, and bytes that are no UTF-8, which go into their string as they are.
"""

import json
import math
from typing import Final

import numpy as np
import orjson

from ..byte_strings import encode_element
from ..datatypes import Datatype
from ..errors import internal, invalid
from ..tensor import Array, Tensor

WRITE_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY

_ONLY_BINARY: Final = frozenset({Datatype.FP16, Datatype.BF16})

JsonData = Array | list[str] | orjson.Fragment


def write_data(name: str, tensor: Tensor) -> JsonData:
    """Return the elements of an output as orjson can write them; raises InferError where JSON has no form."""
    datatype = tensor.datatype
    if datatype in _ONLY_BINARY:
        raise invalid(
            f"sending {datatype.wire_name} data via JSON is not supported. Please use the binary data format "
            "for output"
        )
    if datatype is Datatype.INVALID:
        raise invalid("Invalid data type for output tensor")
    try:
        array = tensor.numpy()
    except ValueError:
        task = "" if datatype is Datatype.BYTES else "Failed to write 'data' field: "
        raise internal(f"{task}output tensor shape does not match size of output for '{name}'") from None
    if datatype is Datatype.BYTES:
        return _strings([encode_element(element) for element in array.ravel()])
    if datatype in (Datatype.FP32, Datatype.FP64):
        return _numbers(array.astype(np.float64, copy=False).ravel())
    if datatype is Datatype.BOOL:
        return np.not_equal(array.view(np.uint8).ravel(), 0)  # any byte but 0 is true on the wire
    return np.ascontiguousarray(array).ravel()


def write_number(number: float) -> float | orjson.Fragment:
    """Return a number as orjson can write it."""
    return number if math.isfinite(number) else orjson.Fragment(json.dumps(number))


def _numbers(array: Array) -> JsonData:
    finite = np.isfinite(array)
    if finite.all():
        return array
    written = orjson.dumps(array, option=WRITE_OPTIONS)[1:-1].split(b",")
    for index in np.flatnonzero(~finite):
        written[index] = json.dumps(float(array[index])).encode()
    return orjson.Fragment(b"[" + b",".join(written) + b"]")


def _strings(elements: list[bytes]) -> JsonData:
    try:
        return [element.decode() for element in elements]
    except UnicodeDecodeError:
        texts = [element.decode("utf-8", "surrogateescape") for element in elements]
        written = json.dumps(texts, ensure_ascii=False, separators=(",", ":"))
        return orjson.Fragment(written.encode("utf-8", "surrogateescape"))
