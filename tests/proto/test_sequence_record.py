"""The record of a sequence: what is written is read, and what nobody of ours wrote is refused."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deuteron.proto.sequence_record import (
    TOKEN_END,
    TOKEN_START,
    SequenceRecord,
    SequenceRecordError,
    read,
    spell,
)
from deuteron.proto.stored_outputs import StoredOutputs
from deuteron.proto.tensor import Tensor

TOKEN = bytes(range(16))


def stored(*numbers: int) -> StoredOutputs:
    return StoredOutputs.of({"SUM": Tensor.from_numpy(np.array(numbers, np.int32))})


def record(request_id: str = "7-1", *, ended: bool = False) -> SequenceRecord:
    states = StoredOutputs(()) if ended else stored(1, 2, 3)
    return SequenceRecord(
        TOKEN, request_id, ended, states, stored(6), {"name": "x", "number": 1.5, "is": True}
    )


@pytest.mark.parametrize("request_id", ["", "7-1", "sieben 七", "\udc80"])
@pytest.mark.parametrize("ended", [False, True])
def test_what_is_written_is_read(request_id: str, ended: bool) -> None:
    written = record(request_id, ended=ended)
    assert read(spell(written)) == written


def test_the_token_stands_at_its_place() -> None:
    assert spell(record())[TOKEN_START:TOKEN_END] == TOKEN


def test_a_request_is_known_by_its_id_and_one_without_is_not() -> None:
    assert record("a").answers("a")
    assert not record("a").answers("b")
    assert not record("").answers("")


@given(st.binary(max_size=100))
def test_strange_bytes_are_refused(strange: bytes) -> None:
    with pytest.raises(SequenceRecordError):
        read(strange)


@given(st.data())
def test_a_record_that_is_cut_or_changed_is_refused_or_read_and_nothing_else(data: st.DataObject) -> None:
    spelt = bytearray(spell(record()))
    place = data.draw(st.integers(0, len(spelt) - 1))
    with pytest.raises(SequenceRecordError):
        read(bytes(spelt[:place]))
    with pytest.raises(SequenceRecordError):
        read(bytes(spelt) + b"more")
    spelt[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(SequenceRecordError):
        read(bytes(spelt))


def test_parameters_are_an_object() -> None:
    spelt = spell(SequenceRecord(TOKEN, "", False, stored(), stored(), {}))
    with pytest.raises(SequenceRecordError, match="parameters are no object"):
        read(spelt.replace(b"{}", b"[]"))
