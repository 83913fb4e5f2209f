"""The accumulators add up sequences, by the row of the batch or by the correlation ID."""

import numpy as np
import pytest

from deuteron.backends.accumulator import AccumulatorBackend, CorrelatedAccumulatorBackend
from deuteron.backends.api import Engine, RemembersSequences
from deuteron.proto.errors import InferError
from deuteron.proto.message import Request

from .conftest import Rig

MODEL = """
max_batch_size: 4
input { name: 'INPUT' data_type: TYPE_INT32 dims: -1 }
output { name: 'OUTPUT' data_type: TYPE_INT32 dims: -1 }
sequence_batching { }
"""


def asked(*numbers: int, **controls: int | bytes) -> Request:
    """Ask with numbers, and with controls as a sequence batcher adds them."""
    told = {
        name.upper(): np.array([[value]], np.object_ if isinstance(value, bytes) else np.int32)
        for name, value in controls.items()
    }
    return Rig.request(INPUT=np.array([numbers], np.int32), **told)


def answers(rig: Rig, engine: Engine, *requests: Request) -> list[list[int]]:
    """Run a batch and return the numbers of each answer."""
    return [each.outputs["OUTPUT"].numpy()[0].tolist() for each in rig.run(engine, *requests)]


def test_each_row_of_the_batch_is_a_sequence(rig: Rig) -> None:
    engine = rig.engine(AccumulatorBackend({}), MODEL)
    assert answers(rig, engine, asked(1, 2, start=1, ready=1), asked(5, start=1, ready=1)) == [[3, 3], [5]]
    assert answers(rig, engine, asked(1, start=0, ready=1), asked(5, start=0, ready=1)) == [[4], [10]]
    assert answers(rig, engine, asked(1, start=1, ready=1)) == [[1]]


def test_an_empty_row_changes_nothing(rig: Rig) -> None:
    engine = rig.engine(AccumulatorBackend({}), MODEL)
    answers(rig, engine, asked(1, start=1, ready=1), asked(2, start=1, ready=1))
    assert answers(rig, engine, asked(0, start=0, ready=0), asked(2, start=0, ready=1)) == [[0], [4]]
    assert answers(rig, engine, asked(1, start=0, ready=1)) == [[2]]


@pytest.mark.parametrize("ids", [(1, 2), (b"1", b"2")])
def test_each_correlation_id_is_a_sequence_wherever_it_stands(rig: Rig, ids: tuple[int | bytes, ...]) -> None:
    engine = rig.engine(CorrelatedAccumulatorBackend({}), MODEL)
    one, two = ids
    answers(rig, engine, asked(1, start=1, corrid=one), asked(10, start=1, corrid=two))
    assert answers(rig, engine, asked(10, corrid=two), asked(1, corrid=one)) == [[20], [2]]
    assert answers(rig, engine, asked(10, corrid=two, end=1)) == [[32]]
    assert answers(rig, engine, asked(10, corrid=two)) == [[10]]


@pytest.mark.parametrize(("id_", "corrid"), [(7, 7), ("7", b"7")])
def test_an_abandoned_sequence_is_forgotten(rig: Rig, id_: int | str, corrid: int | bytes) -> None:
    by_row = rig.engine(AccumulatorBackend({}), MODEL)
    by_id = rig.engine(CorrelatedAccumulatorBackend({}), MODEL)
    for engine in (by_row, by_id):
        assert answers(rig, engine, asked(5, start=1, ready=1, corrid=corrid)) == [[5]]
        assert isinstance(engine, RemembersSequences)
        engine.forget_sequence("another", 1)
        assert answers(rig, engine, asked(5, ready=1, corrid=corrid)) == [[10]]
        engine.forget_sequence(id_, 0)
        assert answers(rig, engine, asked(5, ready=1, corrid=corrid)) == [[5]]


def test_a_correlation_id_without_a_number_is_refused(rig: Rig) -> None:
    engine = rig.engine(CorrelatedAccumulatorBackend({}), MODEL)
    with pytest.raises(InferError, match="must be a number"):
        rig.run(engine, asked(1, start=1, end=1, corrid=b"one"))


def test_a_model_with_other_tensors_is_refused(rig: Rig) -> None:
    with pytest.raises(InferError, match="must have one input 'INPUT' and one output 'OUTPUT'"):
        rig.engine(AccumulatorBackend({}), MODEL.replace("'INPUT'", "'IN'"))
