"""Answers that come through response senders: at once, later, from other threads, many, or never."""

import threading
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import pytest

from deuteron.backends.api import Batch, Engine
from deuteron.backends.credit import Credit
from deuteron.backends.python.api.errors import TritonModelException
from deuteron.backends.python.api.response import InferenceResponse
from deuteron.backends.python.engine import PythonEngine
from deuteron.proto.errors import Fault
from deuteron.proto.message import Response

from .conftest import CONFIG, DECOUPLED, Workbench, values

ABANDONED = "nobody is left who could answer it"

STREAM = """
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for number in range(int(pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()[0, 0])):
                sender.send(answer(number))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

LATER = """
class TritonPythonModel:
    def initialize(self, args):
        self.go = threading.Event()
        TritonPythonModel.release = self.go.set
    def execute(self, requests):
        for request in requests:
            threading.Thread(target=self.work, args=(request,)).start()
        return {returned}
    def work(self, request):
        {take}
        del request
        self.go.wait()
        {then}
    def finalize(self):
        self.go.set()
"""


KEEP = "class TritonPythonModel:\n    def execute(self, requests):\n        self.kept = requests"


def model_of(engine: Engine) -> Any:  # noqa: ANN401 - a model is whatever its author made it
    assert isinstance(engine, PythonEngine)
    return engine._model


def outputs(responses: list[Response]) -> list[list[float]]:
    return [values(each).get("OUT", []) for each in responses]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_decoupled_model_answers_with_any_number_of_responses(bench: Workbench, count: int) -> None:
    bench.write(STREAM)
    responses = bench.start(bench.engine(DECOUPLED), bench.ask(count)).of(0)
    assert outputs(responses) == [*([number] for number in range(count)), []]
    assert [each.final for each in responses] == [False] * count + [True]
    assert responses[-1].silent


def test_the_last_response_may_carry_the_final_flag(bench: Workbench) -> None:
    body = "s = requests[0].get_response_sender(); s.send(answer(1)); s.send(answer(2), 1)"
    (responses,) = bench.run(body, config=DECOUPLED)
    assert outputs(responses) == [[1], [2]]
    assert [each.final for each in responses] == [False, True]


@pytest.mark.parametrize("config", [CONFIG, DECOUPLED], ids=["one response", "decoupled"])
@pytest.mark.parametrize("take", ["before", "after"])
def test_a_response_may_be_sent_from_another_thread_after_execute_returned(
    here: Workbench, config: str, take: str
) -> None:
    """Also where the thread takes the sender itself, when `execute` may have returned already."""
    source = LATER.format(
        returned="None" if config == DECOUPLED else "[None for _ in requests]",
        take="sender = request.get_response_sender()" if take == "before" else "sender, kept = None, request",
        then="(sender or kept.get_response_sender()).send(answer(3), 1)",
    )
    here.write(source)
    engine = here.engine(config)
    replies = here.start(engine, here.ask(), here.ask())
    assert replies.open(0)
    assert replies.open(1)
    model_of(engine).release()
    assert outputs(replies.of(0)) == outputs(replies.of(1)) == [[3]]


def test_one_batch_may_be_answered_both_ways(bench: Workbench) -> None:
    first, second = bench.run(
        "requests[1].get_response_sender().send(answer(2), 1); return [answer(1), None]",
        bench.ask(),
        bench.ask(),
    )
    assert (outputs(first), outputs(second)) == ([[1]], [[2]])


def test_a_response_and_its_final_flag_reach_the_client_as_one(bench: Workbench) -> None:
    (responses,) = bench.run(
        "s = requests[0].get_response_sender(); s.send(answer(4)); s.send(flags=1); return [None]"
    )
    assert outputs(responses) == [[4]]
    assert responses[0].final


Sends = list[tuple[bool, int]]
"""Whether a response is given, and the flags."""


@pytest.mark.parametrize(
    ("sends", "message"),
    [
        ([(True, 2)], "Unable to send response. Unsupported flag provided."),
        (
            [(False, 0)],
            "Inference Response object must be provided when the response flags is set to zero.",
        ),
        (
            [(False, 1)],
            (
                "Unable to send response. Non-decoupled model cannot send complete final before sending a "
                "response."
            ),
        ),
        (
            [(True, 0), (True, 1)],
            "Unable to send response. Non-decoupled model cannot send more than one response.",
        ),
        (
            [(True, 1), (True, 1)],
            "Unable to send response. Non-decoupled model cannot send more than one response.",
        ),
        ([(True, 1), (False, 1)], "Unable to send response. Response sender has been closed."),
    ],
)
def test_a_misused_sender_raises_in_the_model(here: Workbench, sends: Sends, message: str) -> None:
    here.write(KEEP)
    engine = here.engine()
    here.start(engine, here.ask())
    sender = model_of(engine).kept[0].get_response_sender()
    *allowed, refused = [(InferenceResponse() if is_given else None, flags) for is_given, flags in sends]
    for response, flags in allowed:
        sender.send(response, flags)
    with pytest.raises(TritonModelException) as caught:
        sender.send(*refused)
    assert str(caught.value) == message


def test_only_responses_can_be_sent(bench: Workbench) -> None:
    assert "TypeError" in bench.error("requests[0].get_response_sender().send(3, 1)")


@pytest.mark.parametrize(("is_given", "flags"), [(True, 0), (True, 1), (False, 1)])
def test_a_closed_sender_stays_closed(here: Workbench, is_given: bool, flags: int) -> None:
    here.write(KEEP)
    engine = here.engine(DECOUPLED)
    here.start(engine, here.ask())
    sender = model_of(engine).kept[0].get_response_sender()
    sender.send(flags=1)
    with pytest.raises(TritonModelException, match="Response sender has been closed"):
        sender.send(InferenceResponse() if is_given else None, flags)


def test_an_exception_fails_what_was_not_answered_and_closes_the_senders(here: Workbench) -> None:
    here.write(
        """
        class TritonPythonModel:
            senders = []
            def execute(self, requests):
                self.senders.extend(each.get_response_sender() for each in requests)
                self.senders[0].send(answer(1), 1)
                self.senders[1].send(answer(2))
                raise ValueError("after")
        """
    )
    engine = here.engine(DECOUPLED)
    replies = here.start(engine, here.ask(), here.ask(), here.ask())
    assert outputs(replies.of(0)) == [[1]]
    assert outputs(replies.of(1)[:1]) == [[2]]
    for responses in (replies.of(1), replies.of(2)):
        assert responses[-1].error is not None
        assert "ValueError: after" in responses[-1].error.message
    for sender in model_of(engine).senders:
        with pytest.raises(TritonModelException, match="Response sender has been closed"):
            sender.send(flags=1)


@pytest.mark.parametrize("config", [CONFIG, DECOUPLED], ids=["one response", "decoupled"])
def test_a_dropped_sender_fails_its_request(here: Workbench, config: str) -> None:
    here.write(
        LATER.format(
            returned="None",
            take="sender = request.get_response_sender()",
            then="sender.send(answer()); del sender",
        )
    )
    engine = here.engine(config)
    replies = here.start(engine, here.ask())
    assert replies.open(0)
    model_of(engine).release()
    last = replies.of(0)[-1]
    assert last.error is not None
    assert ABANDONED in last.error.message
    assert last.error.fault is Fault.INTERNAL


def test_a_sender_in_a_cycle_of_garbage_fails_its_request_too(bench: Workbench) -> None:
    bench.write_execute(
        "import gc; gc.collect(); cycle = [requests[0].get_response_sender()]; cycle.append(cycle)"
    )
    engine = bench.engine(DECOUPLED)
    replies = bench.start(engine, bench.ask())
    bench.start(engine, bench.ask())
    (response,) = replies.of(0)
    assert response.error is not None
    assert ABANDONED in response.error.message


@pytest.mark.parametrize("then", ["raise ValueError", "return [answer(6)]"])
def test_a_response_that_waited_for_its_flag_goes_out_though_the_model_fails_then(
    bench: Workbench, then: str
) -> None:
    (responses,) = bench.run(f"requests[0].get_response_sender().send(answer(5)); {then}")
    assert [(values(each), each.final) for each in responses] == [({"OUT": [5]}, True)]


def test_closing_the_instance_fails_what_it_still_owes(bench: Workbench) -> None:
    bench.write(KEEP)
    engine = bench.engine(DECOUPLED)
    replies = bench.start(engine, bench.ask())
    assert replies.open(0)
    engine.close()
    bench.engines.remove(engine)
    (response,) = replies.of(0)
    assert response.error is not None
    assert response.error.message.endswith("the instance was closed before it answered")


def test_a_model_sees_a_cancellation_as_it_happens(here: Workbench) -> None:
    here.write(
        """
        class TritonPythonModel:
            def execute(self, requests):
                self.request, self.sender = requests[0], requests[0].get_response_sender()
        """
    )
    engine = here.engine(DECOUPLED)
    asked = here.ask()
    here.start(engine, asked)
    model = model_of(engine)
    assert (model.request.is_cancelled(), model.sender.is_cancelled()) == (False, False)
    asked.cancelled = True
    assert (model.request.is_cancelled(), model.sender.is_cancelled()) == (True, True)
    model.sender.send(flags=1)


FLOOD = """
class TritonPythonModel:
    {kind} execute(self, requests):
        sender = requests[0].get_response_sender()
        for number in range(100):
            sender.send(answer(number))
        sender.send(flags=1)
"""


def test_a_model_waits_where_it_sends_for_a_client_that_reads(here: Workbench) -> None:
    """With credit for two responses a third one is sent when one was read, and all are in order."""
    here.write(FLOOD.format(kind="def"))
    engine = here.engine(DECOUPLED)
    asked = here.ask()
    asked.flow = flow = Credit(most_responses=2)
    unread: SimpleQueue[Response] = SimpleQueue()
    most = 0

    def emit(row: int, response: Response) -> None:
        nonlocal most
        unread.put(response)
        most = max(most, unread.qsize())

    with ThreadPoolExecutor(1) as model:
        done = model.submit(engine.execute, Batch([asked], 1), emit)
        for number in range(100):
            assert values(unread.get(timeout=10)) == {"OUT": [number]}
            flow.give_back()
        done.result(10)
    assert unread.get().silent
    assert most <= 3  # the flag takes no credit


def test_a_model_whose_client_goes_away_stops_to_wait(here: Workbench) -> None:
    here.write(FLOOD.format(kind="def"))
    engine = here.engine(DECOUPLED)
    asked = here.ask()
    asked.flow = Credit(most_responses=2)
    sent: list[Response] = []

    def emit(row: int, response: Response) -> None:
        sent.append(response)
        if len(sent) == 2:
            threading.Thread(target=asked.cancel).start()

    engine.execute(Batch([asked], 1), emit)
    assert len(sent) == 101


def test_a_request_whose_responses_nobody_reads_is_given_up(here: Workbench) -> None:
    """The client hears of it after what was sent before; the model goes on, and sees a cancellation."""
    here.write(FLOOD.format(kind="def"))
    engine = here.engine(DECOUPLED)
    asked = here.ask()
    asked.flow = Credit(most_responses=2, patience=0.001)
    first, second, last = here.start(engine, asked).of(0)
    assert outputs([first, second]) == [[0], [1]]
    assert last.error is not None
    assert last.error.fault is Fault.UNAVAILABLE
    assert asked.cancelled


def test_a_coroutine_does_not_wait_where_it_sends(bench: Workbench) -> None:
    """It would stop all others of its loop."""
    bench.write(FLOOD.format(kind="async def"))
    asked = bench.ask()
    asked.flow = Credit(most_responses=2)
    replies = bench.start(bench.engine(DECOUPLED), asked)
    assert len(replies.of(0)) == 101


COROUTINE = """
class TritonPythonModel:
    async def execute(self, requests):
        sender = requests[0].get_response_sender()
        sender.send(answer(1))
        await asyncio.sleep(0)
        {end}
"""


def test_the_coroutine_of_a_decoupled_model_runs_on_beside_the_next_batch(bench: Workbench) -> None:
    bench.write(
        """
        class TritonPythonModel:
            gate = None
            async def execute(self, requests):
                sender = requests[0].get_response_sender()
                if TritonPythonModel.gate is None:
                    TritonPythonModel.gate = asyncio.Event()
                    await self.gate.wait()
                else:
                    self.gate.set()
                sender.send(answer(1), 1)
        """
    )
    engine = bench.engine(DECOUPLED)
    first, second = bench.start(engine, bench.ask()), bench.start(engine, bench.ask())
    assert outputs(first.of(0)) == outputs(second.of(0)) == [[1]]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("raise ValueError('half way')", "ValueError: half way\n\nAt:\n"),
        ("return []", "is using the decoupled mode and the execute function must return None."),
        ("return None", ABANDONED),
    ],
)
def test_a_coroutine_that_ends_without_the_final_flag_fails_its_requests(
    bench: Workbench, end: str, reason: str
) -> None:
    bench.write(COROUTINE.format(end=end))
    first, last = bench.start(bench.engine(DECOUPLED), bench.ask()).of(0)
    assert values(first) == {"OUT": [1]}
    assert last.error is not None
    assert reason in last.error.message


def test_many_threads_may_send_through_one_sender(bench: Workbench) -> None:
    bench.write(
        """
        class TritonPythonModel:
            def execute(self, requests):
                sender = requests[0].get_response_sender()
                def work():
                    for number in range(100):
                        sender.send(answer(number))
                threads = [threading.Thread(target=work) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                sender.send(flags=1)
        """
    )
    responses = bench.start(bench.engine(DECOUPLED), bench.ask()).of(0)
    assert sorted(value for (value,) in outputs(responses[:-1])) == sorted(list(range(100)) * 4)


def test_only_one_of_two_threads_can_close_a_request(here: Workbench) -> None:
    here.write(KEEP)
    engine = here.engine(DECOUPLED)
    replies = here.start(engine, here.ask())
    request = model_of(engine).kept[0]
    refusals: list[str] = []

    def close() -> None:
        try:
            request.get_response_sender().send(flags=1)
        except TritonModelException as error:
            refusals.append(str(error))

    threads = [threading.Thread(target=close) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refusals == ["Unable to send response. Response sender has been closed."]
    assert len(replies.of(0)) == 1
