"""Conditions on steps of ensembles: how they are spelt, when they hold, and which exclude each other."""

import random

import numpy as np
import pytest

from deuteron.proto.config.conditions import Condition
from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import InferError
from deuteron.proto.tensor import Tensor


@pytest.mark.parametrize(
    ("text", "element", "holds"),
    [
        ("a == 1", np.int32(1), True),
        ("a != 1", np.int32(1), False),
        (" a<2 ", np.uint64(2**63), False),
        ("a <= -1.5", np.float32(-1.5), True),
        ("a > 0.1", np.float32(0.1), True),  # the FP32 nearest to it is a little more
        ("a >= 1e3", np.float64(1000), True),
        ("a == true", np.True_, True),
        ("a != true", np.True_, False),
        ("a == 9007199254740993", np.int64(2**53), False),
        ("a < 1", np.float32("nan"), False),
    ],
)
def test_an_element_satisfies_a_condition_or_not(text: str, element: np.generic, *, holds: bool) -> None:
    assert Condition.parse(text).holds(Tensor.from_numpy(np.array([[element]]))) is holds


@pytest.mark.parametrize(("text", "holds"), [('a == "é"', True), ('a != "é"', False), ('a == "e"', False)])
def test_strings_are_compared_as_their_bytes(text: str, *, holds: bool) -> None:
    tensor = Tensor.from_numpy(np.array(["é".encode()], np.object_))
    assert Condition.parse(text).holds(tensor) is holds


@pytest.mark.parametrize("shape", [(0,), (2,), (1, 2)])
def test_a_condition_needs_a_single_element(shape: tuple[int, ...]) -> None:
    with pytest.raises(InferError, match="the condition 'a == 1' needs a single element"):
        Condition.parse("a == 1").holds(Tensor.from_numpy(np.ones(shape, np.int32)))


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "a ==", "== 1", "a = 1", "a == b", "a == nul", "a == null", "a == [1]", "a == 1e999"),
        *("a == NaN", "a b == 1", 'a < "x"', "a == 'x'", "a == 1 and b == 2", "a == " + "[" * 5000),
    ],
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|no order"):
        Condition.parse(text)


@pytest.mark.parametrize(
    ("literal", "suits"),
    [
        ("1", {Datatype.INT8, Datatype.UINT64, Datatype.FP16, Datatype.FP64}),
        ("0.5", {Datatype.FP32, Datatype.FP64}),
        ("true", {Datatype.BOOL}),
        ('"x"', {Datatype.BYTES}),
    ],
)
def test_a_constant_suits_some_datatypes(literal: str, suits: set[Datatype]) -> None:
    condition = Condition.parse(f"a == {literal}")
    every = (Datatype.INT8, Datatype.UINT64, Datatype.FP16, Datatype.FP32, Datatype.FP64, Datatype.BOOL)
    assert {each for each in (*every, Datatype.BYTES, Datatype.BF16) if condition.suits(each)} >= suits
    assert not condition.suits(Datatype.BF16)
    assert condition.suits(Datatype.INT8) is (literal == "1")


def test_conditions_exclude_each_other_if_no_number_satisfies_both() -> None:
    """Compared with a search through many numbers, and those between them."""
    dice = random.Random(0)
    for _ in range(2000):
        signs = ("==", "!=", "<", "<=", ">", ">=")
        one, other = (Condition.parse(f"a {dice.choice(signs)} {dice.randint(-2, 2)}") for _ in range(2))
        points = [Tensor.from_numpy(np.array([number / 4])) for number in range(-40, 41)]
        both = any(one.holds(point) and other.holds(point) for point in points)
        assert one.excludes(other) is not both, (one.text, other.text)


@pytest.mark.parametrize(
    ("one", "other", "excluded"),
    [
        ('a == "x"', 'a == "y"', True),
        ('a == "x"', 'a != "x"', True),
        ('a != "x"', 'a != "y"', False),
        ("a == true", "a == false", True),
        ("a == true", "a != false", False),
        ("a == 1", "b == 2", False),
        ('a == "1"', "a == 1", False),
        ("a < 1", "a > 1.0", True),
    ],
)
def test_strings_and_booleans_exclude_each_other_too(one: str, other: str, *, excluded: bool) -> None:
    assert Condition.parse(one).excludes(Condition.parse(other)) is excluded
