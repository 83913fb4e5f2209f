"""Conditions: whether a step of an ensemble runs, told by the one element of an ensemble tensor.

A condition compares that element with a constant: `ROUTE == 1`, `SCORE < 0.5`, `LANGUAGE == "en"`, `BRIEF !=
true`. Numbers know all six comparisons, strings and booleans are equal or not. Elements are compared as they
are: the FP32 nearest to 0.1 is not equal to 0.1. A tensor that is absent satisfies no condition, not even
`!=`.

Steps that exclude each other may write the same ensemble tensor. Whether they do is found out when the model
is loaded: what a comparison says changes at its constant only, so two of them exclude each other if no
constant, and no point beside or between the constants, satisfies both.
"""

import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Self

from ..datatypes import Datatype
from ..errors import invalid
from ..tensor import Tensor

Literal = bool | int | float | str

_FORM: Final = re.compile(r"\s*(?P<tensor>[^\s=!<>\"]+)\s*(?P<sign>==|!=|<=|>=|<|>)\s*(?P<literal>\S.*?)\s*")

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_FLOATS: Final = frozenset({Datatype.FP16, Datatype.FP32, Datatype.FP64})


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of an ensemble tensor's only element with a constant."""

    tensor: str
    sign: str
    literal: Literal
    text: str
    """As the configuration spells it."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a condition; raises ValueError, with what is expected, for a text that is none."""
        parts = _FORM.fullmatch(text)
        if parts is None:
            raise ValueError("expected a tensor, a comparison and a constant, such as 'SCORE>0.5'")
        literal = _literal(parts["literal"])
        if isinstance(literal, bool | str) and parts["sign"] not in ("==", "!="):
            raise ValueError("strings and booleans are equal or not, they have no order")
        return cls(parts["tensor"], parts["sign"], literal, text.strip())

    def suits(self, datatype: Datatype) -> bool:
        """Whether the constant can be an element of that datatype."""
        if datatype is Datatype.BOOL:
            return isinstance(self.literal, bool)
        if datatype is Datatype.BYTES:
            return isinstance(self.literal, str)
        if datatype is Datatype.BF16 or isinstance(self.literal, bool | str):
            return False
        return datatype in _FLOATS or isinstance(self.literal, int)

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor satisfies it; raises InferError where that is no single element."""
        if tensor.element_count != 1:
            shape = ",".join(map(str, tensor.shape))
            raise invalid(
                f"the condition '{self.text}' needs a single element, and tensor '{self.tensor}' has shape "
                f"[{shape}]"
            )
        found = tensor.numpy().item()
        literal = self.literal.encode() if isinstance(self.literal, str) else self.literal
        return _COMPARISONS[self.sign](found, literal)

    def excludes(self, other: "Condition") -> bool:
        """Whether no element satisfies both."""
        if self.tensor != other.tensor or _kind(self.literal) is not _kind(other.literal):
            return False
        return not any(
            _COMPARISONS[self.sign](point, self.literal) and _COMPARISONS[other.sign](point, other.literal)
            for point in _telling(self.literal, other.literal)
        )


def _literal(text: str) -> Literal:
    try:
        literal = json.loads(text)
    except (ValueError, RecursionError):
        literal = None
    if not isinstance(literal, Literal) or (isinstance(literal, float) and not math.isfinite(literal)):
        raise ValueError(f"expected a number, true, false or a string in double quotes, got {text}")
    return literal


def _kind(literal: Literal) -> type:
    """Return what comparisons with a constant compare: float stands for numbers of all kinds."""
    return type(literal) if isinstance(literal, bool | str) else float


def _telling(one: Literal, other: Literal) -> list[Any]:
    """Return points of all that no comparison with two constants of one kind can tell apart."""
    if isinstance(one, str) or isinstance(other, str):
        return [one, other, f"{one}{other}."]
    if isinstance(one, bool):
        return [True, False]
    low, high = sorted((Fraction(one), Fraction(other)))
    return [low - 1, low, (low + high) / 2, high, high + 1]
