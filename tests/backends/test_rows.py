"""Requests that lie side by side come back as they were, with no copy where none is needed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from deuteron.backends.rows import join, split
from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import Request
from deuteron.proto.tensor import SMALL, Array, Tensor

from .conftest import Rig

DTYPES = ["bool", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "O"]


@st.composite
def batches(draw: st.DrawFn) -> list[Request]:
    """Draw requests that agree in all but their rows, their values and the outputs they want."""
    names = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True))
    dtypes = {name: np.dtype(draw(st.sampled_from(DTYPES))) for name in names}
    shapes = {name: draw(numpy_strategies.array_shapes(min_dims=0, max_side=3)) for name in names}

    def elements(name: str, rows: int) -> Array:
        shape = (rows, *shapes[name])
        if dtypes[name].kind == "O":
            return draw(numpy_strategies.arrays(np.object_, shape, elements=st.binary(max_size=3)))
        return draw(numpy_strategies.arrays(dtypes[name], shape))

    requests = []
    for _ in range(draw(st.integers(1, 5))):
        rows = draw(st.integers(1, 4))
        inputs = {name: elements(name, rows) for name in names}
        requests.append(Rig.request(draw(st.lists(st.sampled_from(names), unique=True)), **inputs))
    return requests


@given(batches())
def test_each_request_gets_its_own_rows_of_the_outputs_it_wants(requests: list[Request]) -> None:
    batch = Rig.batch(*requests)
    joined = join(batch, ["a", "b", "c"], batching=True)
    assert set(joined) == set(requests[0].inputs)
    responses = split(batch, {name: Tensor.from_numpy(each) for name, each in joined.items()}, batching=True)
    for request, response in zip(requests, responses, strict=True):
        assert response.final
        assert set(response.outputs) == set(request.requested_outputs or request.inputs)
        for name, tensor in response.outputs.items():
            assert tensor.datatype is request.inputs[name].datatype
            np.testing.assert_array_equal(tensor.numpy(), request.inputs[name].numpy())


@given(batches())
def test_splitting_copies_nothing(requests: list[Request]) -> None:
    batch = Rig.batch(*requests)
    whole = join(batch, list(requests[0].inputs), batching=True)
    responses = split(batch, {name: Tensor.from_numpy(each) for name, each in whole.items()}, batching=True)
    for response in responses:
        for name, tensor in response.outputs.items():
            assert not tensor.numpy().size or np.shares_memory(tensor.numpy(), whole[name])


def test_a_lone_request_is_handed_through_as_it_is() -> None:
    given_array = np.arange(6, dtype=np.float32).reshape(2, 3)
    batch = Rig.batch(Rig.request(x=given_array))
    for batching in (False, True):
        assert join(batch, ["x"], batching=batching)["x"] is given_array
        output = Tensor.from_numpy(given_array)
        assert split(batch, {"y": output}, batching=batching)[0].outputs["y"] is output


def test_bytes_of_a_socket_are_not_copied_for_a_lone_request() -> None:
    body = bytes(24)
    batch = Rig.batch(Rig.request(x=Tensor(Datatype.FP32, (2, 3), memoryview(body))))
    joined = join(batch, ["x"], batching=True)["x"]
    assert np.shares_memory(joined, np.frombuffer(body, np.uint8))


def test_large_rows_are_written_from_the_memory_of_the_batch() -> None:
    whole = np.zeros((4, SMALL), np.float32)
    requests = [Rig.request(x=np.zeros((2, 3), np.float32)) for _ in range(2)]
    second = split(Rig.batch(*requests), {"y": Tensor.from_numpy(whole)}, batching=True)[1]
    assert np.shares_memory(np.frombuffer(second.outputs["y"].raw, np.float32), whole)


def test_bf16_rows_stay_bf16() -> None:
    words = Tensor.from_numpy(np.arange(4, dtype=np.uint16).reshape(2, 2), Datatype.BF16)
    batch = Rig.batch(Rig.request(x=words), Rig.request(x=words))
    joined = join(batch, ["x"], batching=True)["x"]
    responses = split(batch, {"y": Tensor.from_numpy(joined, Datatype.BF16)}, batching=True)
    assert [response.outputs["y"].datatype for response in responses] == [Datatype.BF16] * 2


def test_an_optional_input_that_nobody_brings_is_left_out() -> None:
    one = np.zeros((1, 1), np.float32)
    for requests in ([Rig.request(x=one)], [Rig.request(x=one), Rig.request(x=one)]):
        assert set(join(Rig.batch(*requests), ["x", "mask"], batching=True)) == {"x"}


def test_a_request_without_rows_gets_none() -> None:
    requests = [Rig.request(x=np.zeros((rows, 2), np.float32)) for rows in (2, 0, 1)]
    output = Tensor.from_numpy(np.zeros((3, 5), np.float32))
    responses = split(Rig.batch(*requests), {"y": output}, batching=True)
    assert [response.outputs["y"].shape for response in responses] == [(2, 5), (0, 5), (1, 5)]


def test_requests_that_do_not_fit_together_are_refused() -> None:
    one, other = np.zeros((1, 2), np.float32), np.zeros((1, 3), np.float32)
    with pytest.raises(InferError, match=r"input 'x' in different shapes: \[1, 2\], \[1, 3\]") as shapes:
        join(Rig.batch(Rig.request(x=one), Rig.request(x=other)), ["x"], batching=True)
    with pytest.raises(InferError, match="only 1 of 2 requests in one batch bring input 'mask'") as missing:
        join(Rig.batch(Rig.request(x=one, mask=one), Rig.request(x=one)), ["x", "mask"], batching=True)
    with pytest.raises(InferError, match="2 requests at once for a model that does not batch") as together:
        join(Rig.batch(Rig.request(x=one), Rig.request(x=one)), ["x"], batching=False)
    assert [caught.value.fault for caught in (shapes, missing, together)] == [Fault.INTERNAL] * 3


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (np.zeros((2, 3)), "expected batch size of at least 3 in model output, got 2"),
        (np.zeros((4, 3)), "expected batch size of 3 in model output, got 4"),
        (np.zeros(()), "expected batch size of at least 3 in model output, got 0"),
    ],
)
@pytest.mark.parametrize("rows", [(3,), (1, 2)])
def test_an_output_must_have_one_row_for_each_row_that_went_in(
    output: Array, text: str, rows: tuple[int, ...]
) -> None:
    batch = Rig.batch(*(Rig.request(x=np.zeros((count, 1), np.float32)) for count in rows))
    with pytest.raises(InferError) as caught:
        split(batch, {"y": Tensor.from_numpy(output)}, batching=True)
    assert caught.value.fault is Fault.UNSUPPORTED
    assert caught.value.message == f"failed to split the output tensor 'y' in responses: {text}"
