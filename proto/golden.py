"""Golden cases: a request that a model was asked once, and the answers it is to give ever after.

A case is a JSON object. `request` is the body of an inference request, `response` the body of the response to
it, both as they go over HTTP in JSON; a decoupled model has `responses`, a list. Outputs that the case does
not name are not looked at. Numbers with a fraction may differ by `atol` plus `rtol` times the expected one,
everything else is to be equal; NaN equals NaN.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from .datatypes import Datatype, datatype_of_wire
from .errors import InferError, invalid
from .kserve_http.read_data import read_data
from .tensor import Tensor

MAX_GOLDEN_BYTES: Final = 64 << 20
"""Bytes of a case, and of each of its tensors."""
_MEMBERS: Final = frozenset({"request", "response", "responses", "rtol", "atol"})


@dataclass(frozen=True, slots=True)
class Tolerance:
    """By how much numbers with a fraction may differ."""

    rtol: float = 1e-3
    atol: float = 1e-5


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """One request and its answers."""

    name: str
    request: bytes
    """The body of the request, in JSON."""
    responses: Sequence[Mapping[str, Tensor]]
    """The outputs of each response, by name."""
    tolerance: Tolerance = Tolerance()


def read_case(name: str, text: bytes) -> GoldenCase:
    """Return the case that a file tells; raises InferError."""
    try:
        members = orjson.loads(text)
        if not isinstance(members, dict) or not isinstance(members.get("request"), dict):
            raise invalid("it is to be an object with a member 'request'")
        unknown = members.keys() - _MEMBERS
        if unknown:
            raise invalid(f"nobody knows its member '{min(unknown)}'")
        told = members["responses"] if "responses" in members else [members["response"]]
        responses = tuple({each["name"]: _tensor(each) for each in response["outputs"]} for response in told)
        tolerance = Tolerance(**{each: float(members[each]) for each in ("rtol", "atol") if each in members})
    except (KeyError, TypeError, ValueError, InferError) as error:
        reason = f"it has no member {error}" if isinstance(error, KeyError) else str(error)
        raise invalid(f"self-test '{name}' cannot be read: {reason}") from None
    return GoldenCase(name, orjson.dumps(members["request"]), responses, tolerance)


def _tensor(output: Mapping[str, Any]) -> Tensor:
    datatype = datatype_of_wire(output["datatype"])
    return read_data(output["name"], datatype, tuple(output["shape"]), output["data"], MAX_GOLDEN_BYTES)


def difference(case: GoldenCase, responses: Sequence[Mapping[str, Tensor]]) -> str:
    """Return in what responses differ from those of a case; empty where in nothing."""
    if len(responses) != len(case.responses):
        return f"expected {len(case.responses)} responses, got {len(responses)}"
    for number, (expected, outputs) in enumerate(zip(case.responses, responses, strict=True)):
        for name, tensor in expected.items():
            told = _difference(tensor, outputs.get(name), case.tolerance)
            if told:
                which = f" of response {number}" if len(responses) > 1 else ""
                return f"output '{name}'{which} {told}"
    return ""


def _difference(expected: Tensor, got: Tensor | None, tolerance: Tolerance) -> str:
    if got is None:
        return "is missing"
    if (got.datatype, got.shape) != (expected.datatype, expected.shape):
        return (
            f"is {got.datatype.wire_name} of shape {list(got.shape)}, expected "
            f"{expected.datatype.wire_name} of shape {list(expected.shape)}"
        )
    wanted, given = _comparable(expected), _comparable(got)
    if wanted.dtype.kind == "f":
        same = np.isclose(given, wanted, rtol=tolerance.rtol, atol=tolerance.atol, equal_nan=True)
    else:
        same = np.asarray(given == wanted)
    if same.all():
        return ""
    first = tuple(int(index) for index in np.argwhere(~same)[0])
    return (
        f"differs in {int((~same).sum())} of {same.size} elements; at {list(first)} expected "
        f"{wanted[first]!s}, got {given[first]!s}"
    )


def _comparable(tensor: Tensor) -> npt.NDArray[Any]:
    array = tensor.numpy()
    if tensor.datatype is Datatype.BF16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64) if array.dtype.kind == "f" else array
