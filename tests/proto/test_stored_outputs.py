"""Outputs come back from a cache as they went in, and bytes that spell none are refused."""

import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deuteron.proto.datatypes import VALID_DATATYPES, Datatype
from deuteron.proto.stored_outputs import (
    StoredOutputs,
    StoredOutputsError,
    StoredTensor,
    decode,
    encode,
    stored_size,
)
from deuteron.proto.tensor import Tensor

OUTPUTS = {
    "PROBABILITIES": Tensor.from_numpy(np.arange(12, dtype=np.float32).reshape(3, 4)),
    "LABELS": Tensor.from_numpy(np.array([[b"one", b""], [b"\xff\x00", b"four"]], np.object_)),
    "nothing": Tensor.from_numpy(np.zeros((0, 7), np.int64)),
    "größe": Tensor(Datatype.BF16, (2,), b"\x80\x3f\x00\x40"),
    "scalar": Tensor.from_numpy(np.array(True)),
}
SPELT = encode(StoredOutputs.of(OUTPUTS))


def test_outputs_are_copied_and_come_back_equal() -> None:
    array = np.arange(4, dtype=np.int32)
    stored = StoredOutputs.of({"OUT": Tensor.from_numpy(array)})
    array[:] = 9
    assert stored.restored()["OUT"].numpy().tolist() == [0, 1, 2, 3]


def test_a_spelling_means_what_was_spelt() -> None:
    stored = decode(SPELT)
    assert stored == StoredOutputs.of(OUTPUTS)
    restored = stored.restored()
    assert restored["LABELS"].numpy().tolist() == [[b"one", b""], [b"\xff\x00", b"four"]]
    assert restored["PROBABILITIES"].shape == (3, 4)


@given(
    st.lists(
        st.tuples(st.sampled_from(VALID_DATATYPES), st.lists(st.integers(0, 3), max_size=4)),
        max_size=5,
    )
)
def test_every_datatype_and_shape_can_be_spelt(kinds: list[tuple[Datatype, list[int]]]) -> None:
    outputs = {}
    for number, (datatype, shape) in enumerate(kinds):
        array = np.zeros(shape, datatype.numpy_type)
        if datatype is Datatype.BYTES:
            array[...] = b"text"
        outputs[f"OUT{number}"] = Tensor.from_numpy(array, datatype)
    stored = StoredOutputs.of(outputs)
    assert decode(encode(stored)) == stored


def test_the_size_counts_all_elements_and_something_for_the_rest() -> None:
    assert stored_size({}) > 0
    more = stored_size(OUTPUTS) - stored_size({})
    assert more > sum(len(tensor.raw) + len(name) for name, tensor in OUTPUTS.items())


def head(name: bytes, datatype: int, *dims: int, count: int = 1) -> bytes:
    return (
        struct.pack("<4sBH", b"DTRC", 1, count)
        + struct.pack("<H", len(name))
        + name
        + struct.pack("<BB", datatype, len(dims))
        + b"".join(struct.pack("<Q", dim) for dim in dims)
    )


HOSTILE = {
    "empty": b"",
    "something else": b"OK",
    "pickle": b"\x80\x04\x95" * 10,
    "another spelling": b"DTRC\x02" + SPELT[5:],
    "cut short": SPELT[:-1],
    "more behind": SPELT + b"x",
    "a count without outputs": struct.pack("<4sBH", b"DTRC", 1, 65535),
    "no datatype": head(b"x", 0, 1) + struct.pack("<Q", 0),
    "an unknown datatype": head(b"x", 99, 1) + struct.pack("<Q", 0),
    "a huge dimension": head(b"x", 11, 2**63) + struct.pack("<Q", 4) + b"abcd",
    "a product that wraps around": head(b"x", 11, 2**32, 2**32) + struct.pack("<Q", 0),
    "a huge length": head(b"x", 11, 1) + struct.pack("<Q", 2**64 - 1) + b"abcd",
    "nothing, many times": head(b"x", 11, 0, 2**60) + struct.pack("<Q", 0),
    "too many dimensions": head(b"x", 11, *[1] * 33) + struct.pack("<Q", 4) + b"abcd",
    "a name that is no text": head(b"\xff", 11, 1) + struct.pack("<Q", 4) + b"abcd",
    "elements that are missing": head(b"x", 11, 2) + struct.pack("<Q", 4) + b"abcd",
    "a string that never ends": head(b"x", 13, 1) + struct.pack("<Q", 4) + struct.pack("<I", 2**31),
    "strings that are missing": head(b"x", 13, 2) + struct.pack("<Q", 4) + struct.pack("<I", 0),
    "a name twice": head(b"x", 1, 0, count=2)
    + struct.pack("<Q", 0)
    + head(b"x", 1, 0)[7:]
    + struct.pack("<Q", 0),
}


@pytest.mark.parametrize("spelt", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_no_server_of_ours_has_written_is_refused(spelt: bytes) -> None:
    with pytest.raises(StoredOutputsError):
        decode(spelt)


def test_broken_spellings_are_refused_or_mean_something() -> None:
    """No error but the one, over all cuts and many changes of single bytes."""
    dice = random.Random(7)
    candidates = [SPELT[:end] for end in range(len(SPELT))]
    for _ in range(20_000):
        changed = bytearray(SPELT)
        for _ in range(dice.randint(1, 3)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        candidates.append(bytes(changed))
    refused = 0
    for candidate in candidates:
        try:
            for tensor in decode(candidate).restored().values():
                tensor.numpy()
        except StoredOutputsError:
            refused += 1
    assert refused > len(SPELT)


def test_what_has_no_place_in_the_spelling_is_refused() -> None:
    for tensor in (
        StoredTensor("x" * 70_000, Datatype.BOOL, (0,), b""),
        StoredTensor("x", Datatype.BOOL, (1,) * 40, b"\1"),
    ):
        with pytest.raises(StoredOutputsError):
            encode(StoredOutputs((tensor,)))
