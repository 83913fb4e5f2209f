"""Decorators: what a function is called with, and what becomes of what it returns."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deuteron.backends.callables.context import CURRENT, Context
from deuteron.backends.callables.decorators import (
    ConstantPadder,
    batch,
    fill_optionals,
    first_value,
    group_by_keys,
    group_by_shapes,
    group_by_values,
    pad_batch,
    sample,
    triton_context,
)
from deuteron.backends.callables.json_values import json_values
from deuteron.backends.callables.request import Request
from deuteron.backends.callables.specs import Description, DynamicBatcher, ModelConfig, Tensor
from deuteron.proto.config import read_json_config, validated
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.tensor import Array

Seen = list[dict[str, Any]]


def rows(*values: float) -> Array:
    """Return so many rows of one number."""
    return np.array(values, np.float32).reshape(-1, 1)


@pytest.fixture
def served() -> Iterator[Callable[..., None]]:
    """Let functions run as if for a model with these inputs."""
    tokens = []

    def serve(*inputs: Tensor, config: ModelConfig | None = None) -> None:
        outputs = [Tensor(np.float32, (-1,))]
        text = Description("m", inputs, outputs, config or ModelConfig(max_batch_size=8)).as_json()
        tokens.append(CURRENT.set(Context(validated(read_json_config(text, "test", "m", None)))))

    yield serve
    for token in reversed(tokens):
        CURRENT.reset(token)


def lists(answers: list[dict[str, Array]]) -> list[dict[str, Any]]:
    """Return answers as plain lists."""
    return [{name: value.tolist() for name, value in each.items()} for each in answers]


# --- batch ---


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_a_batch_holds_the_rows_of_all_requests_and_each_gets_its_own_back(sizes: list[int]) -> None:
    seen: Seen = []

    @batch
    def double(x: Array) -> dict[str, Array]:
        seen.append({"x": x})
        return {"y": x * 2}

    starts = np.cumsum([0, *sizes[:-1]])
    requests = [
        Request({"x": np.arange(start, start + size).reshape(-1, 1)})
        for start, size in zip(starts, sizes, strict=True)
    ]
    answers = double(requests)
    assert seen[0]["x"].ravel().tolist() == list(range(sum(sizes)))
    for request, answer in zip(requests, answers, strict=True):
        assert (answer["y"] == request["x"] * 2).all()


def test_a_batch_of_outputs_without_names_is_split_in_their_order() -> None:
    @batch
    def both(x: Array) -> list[Array]:
        return [x, -x]

    answers = both([Request({"x": rows(1)}), Request({"x": rows(2, 3)})])
    assert [[part.ravel().tolist() for part in answer] for answer in answers] == [
        [[1], [-1]],
        [[2, 3], [-2, -3]],
    ]


def test_an_output_with_too_few_rows_is_refused() -> None:
    @batch
    def one_row(x: Array) -> dict[str, Array]:
        return {"y": x[:1]}

    with pytest.raises(ValueError, match="output y has 1 rows, and 3 came in"):
        one_row([Request({"x": rows(1)}), Request({"x": rows(2, 3)})])


def test_requests_with_different_inputs_are_not_batched() -> None:
    @batch
    def any_of(**inputs: Array) -> dict[str, Array]:
        return inputs

    with pytest.raises(ValueError, match="cannot be batched; put @group_by_keys"):
        any_of([Request({"x": rows(1)}), Request({"y": rows(2)})])


def test_methods_are_decorated_like_functions() -> None:
    class Scale:
        factor = 3

        @batch
        def __call__(self, x: Array) -> dict[str, Array]:
            return {"y": x * self.factor}

    assert lists(Scale()([Request({"x": rows(2)})])) == [{"y": [[6]]}]


async def test_coroutines_are_decorated_like_functions() -> None:
    @batch
    async def double(x: Array) -> dict[str, Array]:
        await asyncio.sleep(0)
        return {"y": x * 2}

    assert lists(await double([Request({"x": rows(2)})])) == [{"y": [[4]]}]


def test_each_answer_of_a_generator_is_split_and_closing_it_closes_the_function() -> None:
    closed = []

    @batch
    def count(x: Array) -> Iterator[dict[str, Array]]:
        try:
            for number in range(5):
                yield {"y": x + number}
        finally:
            closed.append(True)

    answers = count([Request({"x": rows(0)}), Request({"x": rows(10)})])
    assert lists(next(answers)) == [{"y": [[0]]}, {"y": [[10]]}]
    assert lists(next(answers)) == [{"y": [[1]]}, {"y": [[11]]}]
    answers.close()
    assert closed == [True]


async def test_each_answer_of_an_asynchronous_generator_is_split() -> None:
    @batch
    async def count(x: Array) -> AsyncIterator[dict[str, Array]]:
        for number in range(2):
            await asyncio.sleep(0)
            yield {"y": x + number}

    assert [lists(each) async for each in count([Request({"x": rows(0)})])] == [
        [{"y": [[0]]}],
        [{"y": [[1]]}],
    ]


# --- sample ---


def test_a_sample_is_the_one_request() -> None:
    @sample
    def negate(x: Array) -> dict[str, Array]:
        return {"y": -x}

    assert lists(negate([Request({"x": np.array([1, 2])})])) == [{"y": [-1, -2]}]
    with pytest.raises(ValueError, match="2 requests came"):
        negate([Request({}), Request({})])


# --- groups ---


def test_requests_with_the_same_inputs_are_grouped_and_answered_in_their_order() -> None:
    calls: list[list[str]] = []

    @group_by_keys
    @batch
    def any_of(**inputs: Array) -> dict[str, Array]:
        calls.append(sorted(inputs))
        return {"y": next(iter(inputs.values()))}

    asked = [Request({"a": rows(1)}), Request({"b": rows(2)}), Request({"a": rows(3)})]
    assert lists(any_of(asked)) == [{"y": [[1]]}, {"y": [[2]]}, {"y": [[3]]}]
    assert calls == [["a"], ["b"]]


def test_requests_with_rows_of_the_same_shapes_are_grouped() -> None:
    calls: list[tuple[int, ...]] = []

    @group_by_shapes
    @batch
    def total(x: Array) -> dict[str, Array]:
        calls.append(x.shape)
        return {"y": x.sum(axis=1, keepdims=True)}

    asked = [Request({"x": np.ones((rows, width))}) for rows, width in ((1, 2), (1, 3), (2, 2))]
    assert lists(total(asked)) == [{"y": [[2]]}, {"y": [[3]]}, {"y": [[2], [2]]}]
    assert calls == [(3, 2), (1, 3)]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_rows_with_the_same_values_are_grouped_and_stay_in_their_order(keys: list[int]) -> None:
    groups: list[set[float]] = []

    @batch
    @group_by_values("key")
    def tag(x: Array, key: Array) -> dict[str, Array]:
        groups.append(set(key.ravel().tolist()))
        return {"y": x * 10 + key}

    asked = [Request({"x": rows(number), "key": rows(key)}) for number, key in enumerate(keys)]
    answers = tag(asked)
    assert [answer["y"].item() for answer in answers] == [
        number * 10 + key for number, key in enumerate(keys)
    ]
    assert all(len(group) == 1 for group in groups)
    assert len(groups) == len(set(keys))


def test_groups_of_strings_are_told_apart_by_their_bytes() -> None:
    sizes: list[int] = []

    @batch
    @group_by_values("name")
    def count(name: Array) -> list[Array]:
        sizes.append(len(name))
        return [name]

    names = np.array([[b"a\x00"], [b"a"], [b"a\x00"]], np.object_)
    (answer,) = count([Request({"name": names})])
    assert answer[0].ravel().tolist() == [b"a\x00", b"a", b"a\x00"]
    assert sizes == [2, 1]


async def test_groups_of_a_coroutine_are_awaited() -> None:
    @batch
    @group_by_values("key")
    async def negate(key: Array) -> dict[str, Array]:
        await asyncio.sleep(0)
        return {"y": -key}

    assert lists(await negate([Request({"key": rows(1, 2)})])) == [{"y": [[-1], [-2]]}]


def test_groups_whose_rows_differ_in_length_are_padded() -> None:
    @batch
    @group_by_values("length", pad_fn=ConstantPadder(-1))
    def ones(length: Array) -> dict[str, Array]:
        return {"y": np.ones((len(length), int(length[0, 0])))}

    (answer,) = ones([Request({"length": rows(1, 3)})])
    assert answer["y"].tolist() == [[1, -1, -1], [1, 1, 1]]


def test_a_generator_cannot_be_grouped() -> None:
    @batch
    @group_by_values("x")
    def count(x: Array) -> Iterator[dict[str, Array]]:
        yield {"y": x}

    with pytest.raises(TypeError, match="cannot be grouped"):
        count([Request({"x": rows(1)})])


def test_grouping_by_values_above_batch_is_refused() -> None:
    @group_by_values("x")
    @batch
    def wrong(x: Array) -> dict[str, Array]:
        return {"y": x}

    with pytest.raises(TypeError, match="belongs below @batch"):
        wrong([Request({"x": rows(1)})])


# --- values ---


def test_missing_inputs_are_filled_for_every_row_and_the_request_keeps_its_parameters() -> None:
    @fill_optionals(scale=np.array([2], np.float32))
    def seen(requests: list[Request]) -> list[Request]:
        return requests

    given_, filled = seen(
        [Request({"x": rows(1), "scale": rows(5)}), Request({"x": rows(1, 2)}, {"name": "value"})]
    )
    assert given_["scale"].tolist() == [[5]]
    assert filled["scale"].tolist() == [[2], [2]]
    assert filled.parameters == {"name": "value"}


@pytest.mark.parametrize(
    ("default", "complaint"),
    [
        ({"other": np.array([1], np.float32)}, "no optional input 'other'"),
        ({"x": np.array([1], np.float32)}, "no optional input 'x'"),
        ({"scale": np.array([1], np.float64)}, "input 'scale' is FP32, its default float64"),
        ({"scale": np.array([1, 2], np.float32)}, r"has dims \[1\], its default \[2\]"),
    ],
)
def test_a_default_that_the_model_does_not_allow_is_refused(
    served: Callable[..., None], default: dict[str, Array], complaint: str
) -> None:
    served(Tensor(np.float32, (1,), "x"), Tensor(np.float32, (1,), "scale", optional=True))
    with pytest.raises(ValueError, match=complaint):
        fill_optionals(**default)(lambda requests: requests)([Request({"x": rows(1)})])


def test_the_first_value_is_a_scalar_below_batch_and_above_it() -> None:
    @batch
    @first_value("scale")
    def below(x: Array, scale: float) -> dict[str, Array]:
        assert np.isscalar(scale)
        return {"y": x * scale}

    @first_value("scale", "absent")
    def above(requests: list[Request]) -> list[Any]:
        return [request["scale"] for request in requests]

    assert lists(below([Request({"x": rows(1, 2), "scale": rows(3, 3)})])) == [{"y": [[3], [6]]}]
    assert above([Request({"scale": rows(4)}), Request({"scale": rows(5)})]) == [4, 5]


def test_values_that_differ_have_no_first_unless_that_does_not_matter() -> None:
    with pytest.raises(ValueError, match="the rows of input 'scale' differ"):
        first_value("scale")(lambda **_: None)(scale=rows(1, 2))
    assert first_value("scale", strict=False)(lambda scale: scale)(scale=rows(1, 2)) == 1
    kept = first_value("scale", squeeze_single_values=False)(lambda scale: scale)(scale=rows(1))
    assert kept.tolist() == [1]


def test_strings_of_json_are_values_to_the_function() -> None:
    @batch
    @json_values("question", "answer")
    def answer(question: Array, x: Array) -> dict[str, Array | list[object]]:
        return {
            "answer": [{"of": each["name"], "x": value} for [each], value in zip(question, x, strict=True)],
            "x": x,
        }

    strings = np.array([[b'{"name": "a"}'], [b'{"name": [1, null]}']], np.object_)
    (told,) = answer([Request({"question": strings, "x": rows(1, 2)})])
    assert told["answer"].tolist() == [b'{"of":"a","x":[1.0]}', b'{"of":[1,null],"x":[2.0]}']
    assert told["x"].tolist() == [[1], [2]]
    with pytest.raises(InferError, match="input 'question' is no JSON") as caught:
        answer([Request({"question": np.array([[b"{"]], np.object_), "x": rows(1)})])
    assert caught.value.fault is Fault.INVALID_ARG


@pytest.mark.parametrize(("came", "size"), [(1, 2), (2, 2), (3, 4), (5, 8)])
def test_a_batch_is_padded_to_the_next_preferred_size_and_cut_back(
    served: Callable[..., None], came: int, size: int
) -> None:
    batcher = DynamicBatcher(preferred_batch_size=[2, 4])
    served(Tensor(np.float32, (1,), "x"), config=ModelConfig(max_batch_size=8, batcher=batcher))
    sizes = []

    @batch
    @pad_batch
    def seen(x: Array) -> dict[str, Array]:
        sizes.append(len(x))
        return {"y": x}

    (answer,) = seen([Request({"x": np.arange(came).reshape(-1, 1)})])
    assert sizes == [size]
    assert answer["y"].ravel().tolist() == list(range(came))


def test_a_function_may_know_its_model(served: Callable[..., None]) -> None:
    served(Tensor(np.float32, (1,), "x"))

    @batch
    @triton_context
    @first_value("x")
    def seen(x: float, triton_context: Context) -> list[Array]:
        return [np.array([[triton_context.model_config.max_batch_size * x]])]

    assert seen([Request({"x": rows(2)})])[0][0].tolist() == [[16]]


@pytest.mark.parametrize("decorator", [triton_context, pad_batch])
def test_what_needs_a_model_says_so_without_one(decorator: Callable[..., Any]) -> None:
    with pytest.raises(RuntimeError, match="being served"):
        decorator(lambda **_: None)()
