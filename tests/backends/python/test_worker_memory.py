"""Large tensors on their way to a worker and back: where they lie, how long, and what comes without room."""

import numpy as np
import pytest

from deuteron.backends.api import Batch
from deuteron.backends.python.ipc.messages import INLINE
from deuteron.backends.python.remote.engine import WorkerEngine
from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import Request, Response
from deuteron.proto.tensor import Tensor

from .conftest import Away, Replies, execute

LARGE = 4 * INLINE
"""Elements of a tensor that does not travel in a message."""
ECHO = """
def echo(request):
    array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)])
return [echo(request) for request in requests]
"""


def large(value: float, elements: int = LARGE) -> Request:
    """Ask with a large tensor."""
    return Request("model", inputs={"IN": Tensor.from_numpy(np.full((1, elements), value, np.float32))})


def answers(engine: WorkerEngine, *requests: Request) -> list[Response]:
    """Run a batch; return the one response to each request."""
    replies = Replies(len(requests))
    execute(engine, Batch(requests, len(requests)), replies)
    return [response for row in range(len(requests)) for response in replies.of(row)]


def output(response: Response) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    assert response.error is None
    return response.outputs["OUT"].numpy()


def test_large_tensors_come_back_as_they_went(away: Away) -> None:
    away.write_body(ECHO)
    engine, _ = away.seat()
    for _ in range(3):
        responses = answers(engine, *(large(value) for value in (1, 2, 3)))
        assert [output(each).shape for each in responses] == [(1, LARGE)] * 3
        assert [set(output(each).ravel().tolist()) for each in responses] == [{1}, {2}, {3}]


def test_memory_is_used_again(away: Away) -> None:
    """However many tensors come one after the other, the arenas stay as large as one needs."""
    away.write_body(ECHO)
    engine, _ = away.seat()
    for value in range(200):
        assert output(answers(engine, large(value))[0])[0, 0] == value
    assert engine._arena.size <= 8 << 20


def test_a_response_stays_what_it_is_while_somebody_reads_it(away: Away) -> None:
    away.write_body(ECHO)
    engine, _ = away.seat()
    kept = [output(answers(engine, large(value))[0]) for value in range(10)]
    assert [set(each.ravel().tolist()) for each in kept] == [{value} for value in range(10)]
    away.close_all()
    assert [each[0, -1] for each in kept] == list(range(10))


def test_a_model_may_keep_what_it_was_sent(away: Away) -> None:
    """Nothing is written over it, however many batches come."""
    away.write_body(
        "self.kept = getattr(self, 'kept', [])\n"
        "self.kept.append(pb_utils.get_input_tensor_by_name(requests[0], 'IN').as_numpy())\n"
        "return [tell([int(each.min()) == int(each.max()) and int(each[0, 0]) for each in self.kept])]"
    )
    engine, _ = away.seat()
    for value in range(1, 6):
        (response,) = answers(engine, large(value))
    assert response.error is not None
    assert response.error.message == "[1, 2, 3, 4, 5]"


def test_a_model_may_write_to_what_it_was_sent_and_to_what_it_has_sent(away: Away) -> None:
    away.write_body(
        "array = pb_utils.get_input_tensor_by_name(requests[0], 'IN').as_numpy()\n"
        "array += 1\n"
        "sender = requests[0].get_response_sender()\n"
        "sender.send(pb_utils.InferenceResponse([pb_utils.Tensor('OUT', array)]))\n"
        "array[:] = -1\n"
        "sender.send(flags=1)"
    )
    engine, _ = away.seat()
    request = large(1)
    assert set(output(answers(engine, request)[0]).ravel().tolist()) == {2}
    assert set(request.inputs["IN"].numpy().ravel().tolist()) == {1}


def test_large_strings_travel_too(away: Away) -> None:
    away.write_body(ECHO)
    engine, _ = away.seat()
    words = np.array([[b"a" * 100_000, b""]], np.object_)
    request = Request("model", inputs={"IN": Tensor.from_numpy(words, Datatype.BYTES)})
    assert answers(engine, request)[0].outputs["OUT"].numpy().tolist() == words.tolist()


def test_a_batch_without_room_is_refused_and_the_next_is_served(away: Away) -> None:
    away.backend._settings = {"shm-limit-byte-size": str(1 << 20)}
    away.write_body(ECHO)
    engine, _ = away.seat()
    with pytest.raises(InferError, match="Failed to increase the shared memory pool size") as refused:
        answers(engine, large(1), large(2, 1 << 20))
    assert refused.value.fault is Fault.UNAVAILABLE
    assert output(answers(engine, large(3))[0])[0, 0] == 3


def test_a_response_without_room_is_an_error(away: Away) -> None:
    away.backend._settings = {"shm-limit-byte-size": str(1 << 20)}
    away.write_body(
        "return [pb_utils.InferenceResponse([pb_utils.Tensor('OUT', np.ones([1, 1 << 20], np.float32))])]"
    )
    engine, _ = away.seat()
    (response,) = answers(engine, large(1))
    assert response.error is not None
    assert "Failed to increase the shared memory pool size" in response.error.message


def test_a_worker_that_writes_over_its_memory_harms_itself_alone(away: Away) -> None:
    """It gives itself wrong numbers; the server neither ends nor believes anything that is written there."""
    away.write_body(
        "import ctypes, re\n"
        "answer = [pb_utils.InferenceResponse([pb_utils.Tensor('OUT', np.ones([1, 99999], np.float32))])]\n"
        "for line in open('/proc/self/maps'):\n"
        "    if 'memfd:deuteron' in line and ' rw-s ' in line:\n"
        "        start, end = (int(each, 16) for each in re.match('(\\w+)-(\\w+)', line).groups())\n"
        "        ctypes.memset(start, 255, end - start)\n"
        "return answer"
    )
    engine, _ = away.seat()
    for _ in range(3):
        (response,) = answers(engine, large(1))
        assert response.error is None or "memory" in response.error.message
