"""JSON in strings: a decorator that parses inputs and spells outputs; the function sees plain values."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import numpy as np
import orjson

from ...proto.errors import invalid
from ...proto.tensor import Array
from .outcomes import Outcome, then

Value = Any


def json_values(*names: str) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """Parse each string of the inputs named, and spell each element of the outputs named; below `batch`.

    A function so gets and returns object arrays of dictionaries, lists, numbers. A string that is no JSON is
    the fault of the client that sent it.
    """

    def decorate(function: Callable[..., Value]) -> Callable[..., Value]:
        @wraps(function)
        def plain(*bound: Value, **inputs: Value) -> Outcome:
            parsed = {name: _parsed(name, inputs[name]) for name in names if name in inputs}
            return then(function(*bound, **{**inputs, **parsed}), spelt)

        return plain

    def spelt(outputs: Value) -> Value:
        if not isinstance(outputs, Mapping):
            return outputs
        return {name: _spelt(value) if name in names else value for name, value in outputs.items()}

    return decorate


def _parsed(name: str, strings: Array) -> Array:
    values = np.empty(strings.shape, np.object_)
    flat = values.reshape(-1)
    for place, each in enumerate(strings.reshape(-1)):
        try:
            flat[place] = orjson.loads(each)
        except orjson.JSONDecodeError as error:
            raise invalid(f"input '{name}' is no JSON: {error}") from None
    return values


def _spelt(values: object) -> Array:
    array = values if isinstance(values, np.ndarray) else _objects(values)
    strings = np.empty(array.shape, np.object_)
    strings.reshape(-1)[:] = [
        orjson.dumps(each, option=orjson.OPT_SERIALIZE_NUMPY) for each in array.reshape(-1)
    ]
    return strings


def _objects(values: Value) -> Array:
    """Return a list of values as an array of one dimension: numpy would look into them."""
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array
