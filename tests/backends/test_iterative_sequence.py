"""A model that counts down tells one number with each execution, and comes again until that is 0."""

import numpy as np
import pytest

from deuteron.backends.api import Engine, RemembersSequences
from deuteron.backends.iterative_sequence import IterativeSequenceBackend
from deuteron.proto.errors import InferError
from deuteron.proto.message import Correlation, Request

from .conftest import Rig

MODEL = """
max_batch_size: 4
input { name: 'INPUT' data_type: TYPE_INT32 dims: 1 }
output { name: 'OUTPUT' data_type: TYPE_INT32 dims: 1 }
model_transaction_policy { decoupled: true }
sequence_batching { iterative_sequence: true }
parameters { key: 'execute_delay_ms' value { string_value: '0' } }
"""


def asked(number: int, sequence: int, *, start: bool = False) -> Request:
    """Ask for so many answers, as a step of a sequence."""
    request = Rig.request(INPUT=np.array([[number]], np.int32))
    request.correlation = Correlation(sequence, start)
    return request


def told(rig: Rig, engine: Engine, *requests: Request) -> tuple[list[tuple[int, bool]], list[int]]:
    """Run a batch; return each answer and whether it was final, and the rows that come again."""
    batch = rig.batch(*requests)
    answers: list[tuple[int, bool]] = []
    engine.execute(
        batch,
        lambda _, response: answers.append((response.outputs["OUTPUT"].numpy().item(), response.final)),
    )
    return answers, list(batch.rescheduled)


def test_each_sequence_counts_down_to_its_last_answer(rig: Rig) -> None:
    engine = rig.engine(IterativeSequenceBackend({}), MODEL)
    assert told(rig, engine, asked(2, 7, start=True), asked(3, 8, start=True)) == (
        [(1, False), (2, False)],
        [0, 1],
    )
    assert told(rig, engine, asked(3, 8), asked(2, 7)) == ([(1, False), (0, True)], [0])
    assert told(rig, engine, asked(3, 8)) == ([(0, True)], [])


def test_a_start_counts_anew(rig: Rig) -> None:
    engine = rig.engine(IterativeSequenceBackend({}), MODEL)
    told(rig, engine, asked(9, 7, start=True))
    assert told(rig, engine, asked(2, 7, start=True)) == ([(1, False)], [0])


def test_an_abandoned_sequence_is_forgotten(rig: Rig) -> None:
    engine = rig.engine(IterativeSequenceBackend({}), MODEL)
    told(rig, engine, asked(9, 7, start=True))
    assert isinstance(engine, RemembersSequences)
    engine.forget_sequence(7, 0)
    assert told(rig, engine, asked(3, 7)) == ([(2, False)], [0])


def test_one_answer_needs_one_step(rig: Rig) -> None:
    engine = rig.engine(IterativeSequenceBackend({}), MODEL)
    assert told(rig, engine, asked(1, 7, start=True)) == ([(0, True)], [])


@pytest.mark.parametrize(
    ("there", "here", "complaint"),
    [("TYPE_INT32", "TYPE_FP32", "both TYPE_INT32"), ("true", "false", "must be decoupled")],
)
def test_another_configuration_is_refused(rig: Rig, there: str, here: str, complaint: str) -> None:
    with pytest.raises(InferError, match=complaint):
        rig.engine(IterativeSequenceBackend({}), MODEL.replace(there, here, 1))
