"""The repeaters answer any number of times, from threads of their own."""

import queue

import numpy as np
import pytest

from deuteron.backends.api import Backend, Engine
from deuteron.backends.credit import Credit
from deuteron.backends.repeaters import RepeatBackend, SquareBackend
from deuteron.proto.errors import InferError
from deuteron.proto.message import Request, Response

from .conftest import Rig

REPEAT = """
input [{ name: 'IN' data_type: TYPE_INT32 dims: -1 },
  { name: 'DELAY' data_type: TYPE_UINT32 dims: -1 }, { name: 'WAIT' data_type: TYPE_UINT32 dims: 1 }]
output [{ name: 'OUT' data_type: TYPE_INT32 dims: 1 }, { name: 'IDX' data_type: TYPE_UINT32 dims: 1 }]
model_transaction_policy { decoupled: true }
"""
SQUARE = """
input { name: 'IN' data_type: TYPE_INT32 dims: 1 }
output { name: 'OUT' data_type: TYPE_INT32 dims: 1 }
model_transaction_policy { decoupled: true }
"""
FINAL = "final"


class Answers:
    """What one engine answered."""

    def __init__(self, engine: Engine, request: Request) -> None:
        self._responses: queue.SimpleQueue[Response] = queue.SimpleQueue()
        engine.execute(Rig.batch(request), lambda _, response: self._responses.put(response))

    def next(self) -> list[int] | str:
        """Return the numbers of the next response, or what it is instead."""
        response = self._responses.get(timeout=10)
        if response.error is not None:
            return response.error.message
        if response.silent:
            return FINAL if response.final else "left out"
        return [tensor.numpy().item() for tensor in response.outputs.values()]

    def all(self) -> list[list[int] | str]:
        """Return all responses, to the final flag."""
        found = [self.next()]
        while found[-1] != FINAL:
            found.append(self.next())
        return found


def repeat(*numbers: int) -> Request:
    """Ask a model of the kind `repeat`, without delays."""
    zeros = np.zeros(len(numbers), np.uint32)
    return Rig.request(IN=np.array(numbers, np.int32), DELAY=zeros, WAIT=np.zeros(1, np.uint32))


def square(number: int) -> Request:
    """Ask a model of the kind `square`."""
    return Rig.request(IN=np.array([number], np.int32))


def test_repeat_sends_one_element_after_the_other(rig: Rig) -> None:
    engine = rig.engine(RepeatBackend({}), REPEAT)
    assert Answers(engine, repeat(7, 8)).all() == [[7, 0], [8, 1], FINAL]
    assert Answers(engine, repeat()).all() == [FINAL]
    engine.close()


def test_repeat_refuses_delays_of_another_shape(rig: Rig) -> None:
    engine = rig.engine(RepeatBackend({}), REPEAT)
    asked = repeat(1, 2)
    asked.inputs["DELAY"] = repeat(1).inputs["DELAY"]
    with pytest.raises(InferError, match=r"expected IN and DELAY shape to match, got \[2\] and \[1\]"):
        engine.execute(Rig.batch(asked), lambda _, __: None)


def test_square_answers_as_often_as_it_is_told(rig: Rig) -> None:
    engine = rig.engine(SquareBackend({}), SQUARE)
    assert Answers(engine, square(2)).all() == [[2], [2], FINAL]
    assert Answers(engine, square(0)).all() == [FINAL]
    engine.close()


def test_square_fails_and_leaves_out_its_last_answers(rig: Rig) -> None:
    """Of five the last is left out, so the final flag stands for it, and the two before it are errors."""
    fail = Rig.parameters(CUSTOM_FAIL_COUNT="2", CUSTOM_EMPTY_COUNT="1")
    engine = rig.engine(SquareBackend({}), SQUARE + fail)
    error = "simulated failure"
    assert Answers(engine, square(5)).all() == [[5], [5], error, error, FINAL]
    engine.close()


def test_nothing_is_sent_ahead_of_a_client_who_does_not_read(rig: Rig) -> None:
    """With credit for two responses a third one waits, until one is read or nobody wants any more."""
    engine = rig.engine(RepeatBackend({}), REPEAT)
    asked = repeat(*range(1000))
    asked.flow = flow = Credit(most_responses=2)
    answers = Answers(engine, asked)
    assert [answers.next(), answers.next()] == [[0, 0], [1, 1]]
    flow.give_back()
    assert answers.next() == [2, 2]
    asked.cancel()
    assert answers.all()[-1] == FINAL
    engine.close()


@pytest.mark.parametrize(
    ("backend", "config", "message"),
    [
        (RepeatBackend({}), f"{REPEAT} max_batch_size: 2", "repeat backend only supports models with max"),
        (RepeatBackend({}), SQUARE, "expected 3 inputs, got 1"),
        (SquareBackend({}), REPEAT, "expected 1 input, got 3"),
        (SquareBackend({}), SQUARE.replace("'IN'", "'X'"), "expected an input tensor with name IN, got X"),
        (SquareBackend({}), SQUARE.replace("INT32", "FP32"), "expected IN datatype to be INT32, got TYPE_FP"),
    ],
)
def test_models_of_another_form_are_refused(rig: Rig, backend: Backend, config: str, message: str) -> None:
    with pytest.raises(InferError, match=message):
        rig.engine(backend, config)
