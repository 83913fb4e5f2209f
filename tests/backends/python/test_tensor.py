"""`Tensor`: every datatype as numpy and DLPack, in and out, and what is refused."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.dlpack import from_dlpack

from deuteron.backends.python.api.errors import TritonModelException
from deuteron.backends.python.api.tensor import Tensor
from deuteron.proto import tensor as wire
from deuteron.proto.datatypes import VALID_DATATYPES, Datatype

NUMERIC = [each for each in VALID_DATATYPES if each not in (Datatype.BYTES, Datatype.BF16)]


def example(datatype: Datatype) -> np.ndarray[Any, Any]:
    return np.array([[0, 1, 2], [3, 4, 5]]).astype(datatype.numpy_type)


@pytest.mark.parametrize("datatype", NUMERIC, ids=lambda each: each.wire_name)
def test_a_numeric_tensor_goes_in_and_out(datatype: Datatype) -> None:
    array = example(datatype)
    tensor = Tensor("T", array)
    assert (tensor.name(), tensor.shape(), tensor.triton_dtype()) == ("T", [2, 3], datatype.value)
    assert tensor.as_numpy() is array
    assert tensor.is_cpu()
    out = tensor.as_wire()
    assert (out.datatype, out.shape) == (datatype, (2, 3))
    assert (out.numpy() == array).all()
    back = Tensor.of_input("T", out)
    assert (back.shape(), back.triton_dtype()) == ([2, 3], datatype.value)
    assert back.as_numpy().dtype == array.dtype
    assert (back.as_numpy() == array).all()


@pytest.mark.parametrize("datatype", NUMERIC, ids=lambda each: each.wire_name)
def test_a_numeric_tensor_crosses_dlpack_both_ways(datatype: Datatype) -> None:
    tensor = Tensor.of_input("T", wire.Tensor.from_numpy(example(datatype)))
    as_torch = from_dlpack(tensor)
    assert torch.equal(as_torch, torch.from_numpy(example(datatype)))
    as_numpy = np.from_dlpack(tensor)  # type: ignore[arg-type] # the type of capsules has no name yet
    assert (as_numpy == example(datatype)).all()
    for source in (as_torch, as_torch.__dlpack__(), tensor.to_dlpack(), tensor):
        back = Tensor.from_dlpack("B", source)
        assert (back.name(), back.shape(), back.triton_dtype()) == ("B", [2, 3], datatype.value)
        assert (back.as_numpy() == example(datatype)).all()
        assert back.as_wire().raw == example(datatype).tobytes()


def test_bf16_crosses_dlpack_and_never_numpy() -> None:
    source = torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16)
    tensor = Tensor.from_dlpack("T", source)
    assert tensor.triton_dtype() == Datatype.BF16.value
    assert torch.equal(from_dlpack(tensor), source)
    out = tensor.as_wire()
    assert (out.datatype, out.shape, out.raw) == (Datatype.BF16, (1, 2), bytes.fromhex("c03f00c0"))
    back = Tensor.of_input("T", out)
    assert torch.equal(from_dlpack(back), source)
    for each in (tensor, back):
        with pytest.raises(TritonModelException) as caught:
            each.as_numpy()
        assert str(caught.value) == (
            "Tensor dtype is BF16 and cannot be converted to NumPy. Use to_dlpack() and from_dlpack() "
            "instead."
        )


def test_dlpack_shares_memory_both_ways() -> None:
    tensor = Tensor("T", np.zeros(3, np.float32))
    from_dlpack(tensor)[0] = 5
    assert tensor.as_numpy()[0] == 5
    source = torch.zeros(3)
    adopted = Tensor.from_dlpack("T", source)
    source[0] = 7
    assert adopted.as_numpy()[0] == 7


def test_a_capsule_keeps_its_tensor_alive() -> None:
    array = np.arange(4, dtype=np.int64)
    capsule = Tensor("T", array).to_dlpack()
    gone = weakref.ref(array)
    del array
    gc.collect()
    assert from_dlpack(capsule).tolist() == [0, 1, 2, 3]
    del capsule
    gc.collect()
    assert gone() is None


def test_a_read_only_array_is_exported_as_a_copy() -> None:
    array = np.arange(4)
    array.flags.writeable = False
    exported = from_dlpack(Tensor("T", array))
    exported[0] = 9
    assert array[0] == 0


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 1)])
def test_any_shape_goes_through(shape: tuple[int, ...]) -> None:
    array = np.ones(shape, np.float32)
    for tensor in (Tensor("T", array), Tensor.of_input("T", wire.Tensor.from_numpy(array))):
        assert tensor.shape() == list(shape)
        assert tensor.as_numpy().shape == shape
        assert tensor.as_wire().shape == shape
        assert Tensor.from_dlpack("B", tensor).shape() == list(shape)


def test_an_array_that_is_not_contiguous_is_copied() -> None:
    array = np.arange(6, dtype=np.int32).reshape(2, 3).T
    tensor = Tensor("T", array)
    assert tensor.as_numpy().flags.c_contiguous
    assert tensor.as_wire().numpy().tolist() == array.tolist()


@pytest.mark.parametrize(
    "elements",
    [
        np.array([["a", b"\xff\x00"], ["é", ""]], object),
        np.array([[1, None], [2.5, True]], object),
        np.array([[b"ab", b"c"], [b"", b"def"]]),
        np.empty((2, 0), object),
    ],
    ids=["text and bytes", "other objects", "numpy bytes", "none"],
)
def test_bytes_elements_are_spelt_when_the_tensor_is_made(elements: np.ndarray[Any, Any]) -> None:
    expected = [each if isinstance(each, bytes) else str(each).encode() for each in elements.ravel().tolist()]
    tensor = Tensor("T", elements)
    assert tensor.triton_dtype() == Datatype.BYTES.value
    assert tensor.as_numpy() is elements
    if elements.size:
        elements[0, 0] = b"X"
    out = tensor.as_wire()
    assert out.shape == elements.shape
    assert wire.Tensor(Datatype.BYTES, out.shape, out.raw).numpy().ravel().tolist() == expected


def test_an_input_of_bytes_is_an_array_of_bytes_that_the_model_may_change() -> None:
    sent = wire.Tensor(Datatype.BYTES, (1, 2), b"\x01\0\0\0a\x02\0\0\0bc")
    tensor = Tensor.of_input("T", sent)
    array = tensor.as_numpy()
    assert array.tolist() == [[b"a", b"bc"]]
    array[0, 0] = b"mine"
    assert sent.numpy().tolist() == [[b"a", b"bc"]]


def test_an_input_can_be_written_to_and_stays_the_same_array() -> None:
    sent = wire.Tensor(Datatype.FP32, (2,), np.array([1, 2], np.float32).tobytes())
    tensor = Tensor.of_input("T", sent)
    array = tensor.as_numpy()
    array += 1
    assert tensor.as_numpy() is array
    assert tensor.as_wire().numpy().tolist() == [2, 3]
    assert sent.numpy().tolist() == [1, 2]


UNSUPPORTED = [
    np.array(["text"]),
    np.array([1j]),
    np.array([1], ">f4"),
    np.array(["2026-01-01"], "datetime64[D]"),
    np.zeros(1, [("a", "f4")]),
]


@pytest.mark.parametrize("array", UNSUPPORTED, ids=lambda each: str(each.dtype))
def test_other_numpy_types_are_refused(array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(TritonModelException, match="NumPy dtype is not supported"):
        Tensor("T", array)


@pytest.mark.parametrize(
    ("name", "array"), [(1, np.zeros(1)), ("T", [1.0]), ("T", None), ("T", np.float32(1))]
)
def test_anything_but_a_name_and_an_array_is_a_type_error(name: object, array: object) -> None:
    with pytest.raises(TypeError):
        Tensor(name, array)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [Tensor, Tensor.from_dlpack])
def test_a_tensor_needs_a_name(make: Callable[..., Tensor]) -> None:
    with pytest.raises(TritonModelException, match="Tensor name cannot be an empty string"):
        make("", np.zeros(1))


def test_bytes_do_not_go_through_dlpack() -> None:
    tensor = Tensor("T", np.array([b"a"], object))
    for export in (tensor.to_dlpack, tensor.__dlpack__):
        with pytest.raises(TritonModelException, match="DLPack does not have support for string tensors"):
            export()


def test_only_row_major_elements_are_adopted() -> None:
    for source in (torch.zeros(2, 3).T, np.zeros((2, 3)).T, torch.zeros(4)[::2]):
        with pytest.raises(TritonModelException, match="DLPack tensor is not contiguous"):
            Tensor.from_dlpack("T", source)
    assert Tensor.from_dlpack("T", torch.zeros(1, 3).T).shape() == [3, 1]


@pytest.mark.parametrize("source", [3, None, b"dltensor", object()])
def test_only_what_speaks_dlpack_is_adopted(source: object) -> None:
    with pytest.raises(TritonModelException, match="Provided tensor is not supported"):
        Tensor.from_dlpack("T", source)


def test_a_capsule_is_adopted_only_once() -> None:
    capsule = torch.zeros(2).__dlpack__()
    Tensor.from_dlpack("T", capsule)
    with pytest.raises(TritonModelException, match="Provided tensor is not supported"):
        Tensor.from_dlpack("T", capsule)


def test_complex_elements_are_not_adopted() -> None:
    with pytest.raises(TritonModelException, match="Dtype is invalid"):
        Tensor.from_dlpack("T", torch.zeros(2, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (2, "DLPack capsule passed pointer to memory allocated on GPU device, when GPU is not available"),
        (7, "DLDevice type 7 is not support by Python backend."),
    ],
)
def test_elements_on_other_devices_are_not_adopted(device: int, message: str) -> None:
    class Elsewhere:
        def __dlpack__(self, *, stream: object = None) -> object:
            raise AssertionError

        def __dlpack_device__(self) -> tuple[int, int]:
            return (device, 0)

    with pytest.raises(TritonModelException) as caught:
        Tensor.from_dlpack("T", Elsewhere())
    assert str(caught.value) == message
