"""Golden cases: how they are read, and what counts as the same answer."""

from typing import Any

import numpy as np
import orjson
import pytest

from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import InferError
from deuteron.proto.golden import GoldenCase, difference, read_case
from deuteron.proto.tensor import Tensor

REQUEST = {"inputs": [{"name": "IN", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}


def output(datatype: str = "FP32", data: Any = (1.0, 2.0)) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON holds
    return {"name": "OUT", "datatype": datatype, "shape": [len(data)], "data": list(data)}


def case(**members: Any) -> GoldenCase:  # noqa: ANN401 - as above
    """Return a case with one output, or with these members instead of its own."""
    text = orjson.dumps({"request": REQUEST, "response": {"outputs": [output()]}, **members})
    return read_case("a", text)


def outputs(*values: Any, datatype: Datatype | None = None) -> list[dict[str, Tensor]]:  # noqa: ANN401 - as above
    numpy_type = np.float32 if datatype is None else datatype.numpy_type
    return [{"OUT": Tensor.from_numpy(np.array(values, numpy_type), datatype)}]


def test_a_case_holds_a_request_and_the_outputs_of_the_response() -> None:
    read = case(rtol=0.1)
    assert orjson.loads(read.request) == REQUEST
    assert read.responses[0]["OUT"].numpy().tolist() == [1.0, 2.0]
    assert (read.tolerance.rtol, read.tolerance.atol) == (0.1, 1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "cannot be read"),
        (b"[]", "an object with a member 'request'"),
        (b'{"request": {}}', "has no member 'response'"),
        (b'{"request": {}, "response": {}}', "has no member 'outputs'"),
        (b'{"request": {}, "response": {"outputs": [7]}}', "cannot be read"),
        (
            b'{"request": {}, "response": {"outputs": []}, "tolerance": 1}',
            "nobody knows its member 'tolerance'",
        ),
        (b'{"request": {}, "response": {"outputs": []}, "rtol": "much"}', "could not convert"),
        (
            orjson.dumps({"request": {}, "response": {"outputs": [{**output(), "shape": [3]}]}}),
            "cannot be read",
        ),
    ],
)
def test_what_is_no_case_is_told_with_its_name(text: bytes, words: str) -> None:
    with pytest.raises(InferError, match="self-test 'a' ") as caught:
        read_case("a", text)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("got", "told"),
    [
        ((1.0, 2.0), ""),
        ((1.0009, 1.9981), ""),
        ((1.0, 2.1), "output 'OUT' differs in 1 of 2 elements; at [1] expected 2.0, got 2.0"),
        ((float("nan"), 2.0), "output 'OUT' differs in 1 of 2 elements; at [0] expected 1.0, got nan"),
    ],
)
def test_fractions_may_differ_a_little(got: tuple[float, ...], told: str) -> None:
    assert difference(case(), outputs(*got)).startswith(told)
    assert bool(difference(case(), outputs(*got))) is bool(told)


def test_the_tolerance_is_that_of_the_case() -> None:
    assert difference(case(atol=0.2), outputs(1.1, 2.1)) == ""
    assert difference(case(rtol=0, atol=0), outputs(1.0000001, 2.0)) != ""


def test_whole_numbers_and_strings_are_to_be_equal() -> None:
    numbers = case(response={"outputs": [output("INT32", [1, 2])]}, rtol=1.0)
    assert difference(numbers, outputs(1, 2, datatype=Datatype.INT32)) == ""
    assert "differs" in difference(numbers, outputs(1, 3, datatype=Datatype.INT32))
    strings = case(response={"outputs": [output("BYTES", ["a", "b"])]})
    tensor = Tensor.from_numpy(np.array([b"a", b"c"], np.object_), Datatype.BYTES)
    assert "at [1] expected b'b', got b'c'" in difference(strings, [{"OUT": tensor}])


def test_form_counts_as_well() -> None:
    assert difference(case(), [{}]) == "output 'OUT' is missing"
    assert "is FP32 of shape [3], expected FP32 of shape [2]" in difference(case(), outputs(1, 2, 3))
    assert "is INT32" in difference(case(), outputs(1, 2, datatype=Datatype.INT32))


def test_a_decoupled_model_has_as_many_responses_as_it_should() -> None:
    two = case(responses=[{"outputs": [output()]}, {"outputs": [output(data=(3.0,))]}])
    assert difference(two, [*outputs(1, 2), *outputs(3)]) == ""
    assert difference(two, outputs(1, 2)) == "expected 2 responses, got 1"
    assert "output 'OUT' of response 1 differs" in difference(two, [*outputs(1, 2), *outputs(4)])
