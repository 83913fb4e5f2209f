from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deuteron.proto.classification import MAX_CLASSES, classify
from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.tensor import Tensor

LABELS = ("zero", "", "two")


def classified(tensor: Tensor, count: int, labels: Sequence[str] = (), *, batching: bool = False) -> object:
    best = classify(tensor, count, labels, batching=batching)
    assert best.datatype is Datatype.BYTES
    assert best.shape == best.numpy().shape
    return best.numpy().tolist()


def floats(*values: float) -> Tensor:
    return Tensor.from_numpy(np.array(values, dtype=np.float32))


def test_classes_come_best_first_with_index_and_label() -> None:
    assert classified(floats(0.25, 0.5, 3), 2, LABELS) == [b"3.000000:2:two", b"0.500000:1"]


def test_an_index_beyond_the_labels_has_none() -> None:
    assert classified(floats(0, 1), 2, ("zero",)) == [b"1.000000:1", b"0.000000:0:zero"]


def test_there_are_no_more_classes_than_values() -> None:
    assert classified(floats(1, 2), 2**64 - 1) == [b"2.000000:1", b"1.000000:0"]


def test_each_row_of_a_batch_has_its_own_best() -> None:
    tensor = Tensor.from_numpy(np.array([[[1, 2], [3, 4]], [[8, 7], [6, 5]]], dtype=np.int32))
    assert classified(tensor, 1, batching=True) == [[b"4:3"], [b"8:0"]]
    assert classified(tensor, 1) == [b"8:4"]


def test_of_equal_values_the_first_is_better() -> None:
    assert classified(floats(1, 2, 2, 1), 3) == [b"2.000000:1", b"2.000000:2", b"1.000000:0"]


def test_what_is_not_a_number_comes_last() -> None:
    assert classified(floats(float("nan"), -1, float("inf")), 3) == [b"inf:2", b"-1.000000:1", b"nan:0"]


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_nothing_has_no_classes(shape: tuple[int, ...]) -> None:
    tensor = Tensor.from_numpy(np.zeros(shape, dtype=np.float64))
    assert classify(tensor, 3, LABELS, batching=True).element_count == 0


def test_integers_are_compared_exactly() -> None:
    tensor = Tensor.from_numpy(np.array([2**64 - 2, 2**64 - 1], dtype=np.uint64))
    assert classified(tensor, 1) == [b"18446744073709551615:1"]


@pytest.mark.parametrize("datatype", [Datatype.BOOL, Datatype.FP16, Datatype.BF16, Datatype.BYTES])
def test_some_datatypes_have_no_classes(datatype: Datatype) -> None:
    with pytest.raises(InferError) as refusal:
        classify(Tensor(datatype, (1,), bytes(datatype.item_size or 4)), 1, (), batching=False)
    assert refusal.value.message == (
        f"class result not available for output due to unsupported type '{datatype.name}'"
    )
    assert refusal.value.fault is Fault.INVALID_ARG


def test_too_many_values_are_not_sorted() -> None:
    many = Tensor(Datatype.INT8, (1, MAX_CLASSES + 1), bytes(MAX_CLASSES + 1))
    with pytest.raises(InferError, match="classification output tensor too large"):
        classify(many, 1, (), batching=True)


def test_a_tensor_that_lies_about_its_size_is_refused() -> None:
    with pytest.raises(InferError) as refusal:
        classify(Tensor(Datatype.INT8, (3,), b"ab"), 1, (), batching=False)
    assert refusal.value.fault is Fault.INTERNAL


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40), st.integers(1, 50))
def test_classes_are_what_sorting_says(values: list[float], count: int) -> None:
    order = sorted(range(len(values)), key=lambda index: -values[index])[:count]
    expected = [f"{float(np.float32(values[i])):f}:{i}".encode() for i in order]
    assert classified(floats(*values), count) == expected
