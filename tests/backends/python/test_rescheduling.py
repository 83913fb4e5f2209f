"""A model that wants to run another step of a request says so, and the request comes again."""

from typing import Final

from deuteron.backends.api import Batch

from .conftest import CONFIG, DECOUPLED, Replies, Workbench, execute, values

COUNT_DOWN: Final = """\
again = pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE
left = self.left = getattr(self, "left", 3) - 1
if left:
    requests[0].set_release_flags(again)
"""


def step(
    bench: Workbench, body: str, config: str = CONFIG, steps: int = 1
) -> tuple[Replies, list[list[int]]]:
    """Run a request so often; return all its responses, and after each step the rows that come again."""
    bench.write_execute(body)
    engine = bench.engine(config)
    request, replies, again = bench.ask(), Replies(1), []
    for _ in range(steps):
        batch = Batch([request], 1)
        execute(engine, batch, replies)
        again.append(list(batch.rescheduled))
    return replies, again


def test_a_rescheduled_request_is_answered_by_its_last_step(bench: Workbench) -> None:
    replies, again = step(bench, f"{COUNT_DOWN}\nreturn [None if left else answer(7)]", steps=3)
    assert again == [[0], [0], []]
    assert [values(each) for each in replies.of(0)] == [{"OUT": [7]}]


def test_each_step_of_a_decoupled_model_may_answer(bench: Workbench) -> None:
    send = "requests[0].get_response_sender().send(answer(left), 0 if left else 1)"
    replies, again = step(bench, f"{COUNT_DOWN}\n{send}", DECOUPLED, steps=3)
    assert again == [[0], [0], []]
    assert [(values(each), each.final) for each in replies.of(0)] == [
        ({"OUT": [2]}, False),
        ({"OUT": [1]}, False),
        ({"OUT": [0]}, True),
    ]


def test_only_the_rows_that_asked_for_it_come_again(bench: Workbench) -> None:
    bench.write_execute("requests[1].set_release_flags(2); return [answer(), None, answer()]")
    batch = Batch([bench.ask(), bench.ask(), bench.ask()], 3)
    replies = Replies(3)
    execute(bench.engine(), batch, replies)
    assert list(batch.rescheduled) == [1]
    assert [replies.open(row) for row in range(3)] == [False, True, False]


def test_the_sender_of_a_step_is_closed_after_it(bench: Workbench) -> None:
    kept = "self.kept = getattr(self, 'kept', None) or requests[0].get_response_sender()"
    bench.write_execute(f"{COUNT_DOWN}{kept}\nif left == 1:\n    self.kept.send(answer(), 1)")
    engine = bench.engine(DECOUPLED)
    assert bench.start(engine, bench.ask()).open(0)
    (response,) = bench.start(engine, bench.ask()).of(0)
    assert response.error is not None
    assert "Unable to send response. Response sender has been closed." in response.error.message


def test_what_a_step_sent_without_the_final_flag_is_not_lost(bench: Workbench) -> None:
    """The model has answered too often then, and whoever waits for one response is to hear of both."""
    sent = "\nif left == 2:\n    requests[0].get_response_sender().send(answer(8))"
    replies, _ = step(bench, f"{COUNT_DOWN}{sent}\nreturn [None if left else answer(7)]", steps=3)
    assert [(values(each), each.final) for each in replies.of(0)] == [
        ({"OUT": [8]}, False),
        ({"OUT": [7]}, True),
    ]
