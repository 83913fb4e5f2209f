"""What a model in a worker asks of the server: other models, their lives, metrics, a log; what it hears."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from deuteron.backends.api import Batch
from deuteron.backends.house import Asker, Receive, Withdraw
from deuteron.backends.model_metrics import MODEL_METRICS
from deuteron.backends.python.remote import output
from deuteron.backends.python.remote.attendant import attendant
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import Request, Response
from deuteron.proto.tensor import Tensor

from .conftest import DECOUPLED, Away, Replies, values

ASK = """
def ask(value=1.0, model="other", **settings):
    array = np.full([1, settings.pop("elements", 1)], value, np.float32)
    return pb_utils.InferenceRequest(
        inputs=[pb_utils.Tensor("IN", array)], requested_output_names=["OUT"], model_name=model, **settings)
"""


class Neighbour:
    """A house with one model, which answers on a thread of its own, so many times, with what it got."""

    def __init__(self, responses: int = 1) -> None:
        self.asked: list[Request] = []
        self.withdrawn = threading.Event()
        self.wishes: list[tuple[Any, ...]] = []
        self._responses = responses

    def ask(self, asker: Asker, request: Request, receive: Receive, *, decoupled: bool) -> Withdraw:
        """Answer a request, or leave it alone if it is for nobody."""
        self.asked.append(request)
        if request.model_name == "unknown":
            receive(Response(error=InferError(Fault.NOT_FOUND, "nobody is called so")))
        elif request.model_name != "silent":
            threading.Thread(target=self._answer, args=(request, receive)).start()
        return self.withdrawn.set

    def load(self, name: str, config: str, files: Mapping[str, bytes], *, waiting: str) -> None:
        """Note a wish."""
        self.wishes.append((name, config, dict(files), waiting))

    def unload(self, name: str, *, dependents: bool) -> None:
        """Refuse a wish."""
        raise InferError(Fault.UNSUPPORTED, f"not {name}, whatever its dependents: {dependents}")

    def is_ready(self, name: str, version: int) -> bool:
        """Know one version only."""
        return (name, version) == ("other", 3)

    def _answer(self, request: Request, receive: Receive) -> None:
        array = request.inputs["IN"].numpy()
        for number in range(self._responses):
            tensor = Tensor.from_numpy(array + number)
            receive(Response({"OUT": tensor}, {"number": number}, final=number == self._responses - 1))


@pytest.fixture
def asking(away: Away) -> Callable[..., str]:
    """Run an `execute` among neighbours; return what it tells."""

    def run(body: str, house: Neighbour | None = None) -> str:
        away.backend = away.backend_for(house or Neighbour())
        away.write_body(ASK + body)
        return away.told(away.seat()[0])

    return run


SUM = "[float(each.output_tensors()[0].as_numpy().sum()) for each in {}]"


@pytest.mark.parametrize("elements", [1, 100_000])
def test_a_model_asks_another_and_waits(asking: Callable[..., str], elements: int) -> None:
    house = Neighbour()
    body = f"""
answered = ask(2.0, elements={elements}, request_id="x", correlation_id=7, flags=1, timeout=9,
               parameters={{"a": 1}}).exec()
return [tell([float(answered.output_tensors()[0].as_numpy().sum()), answered.parameters()])]
"""
    assert asking(body, house) == f"[{2.0 * elements}, '{{\"number\": 0}}']"
    (request,) = house.asked
    assert (request.id, request.timeout_us, request.parameters) == ("x", 9, {"a": 1})
    assert request.correlation is not None
    assert (request.correlation.id, request.correlation.start) == (7, True)


def test_responses_of_a_model_that_sends_many_come_one_by_one(asking: Callable[..., str]) -> None:
    assert asking("return [tell(" + SUM.format("ask().exec(decoupled=True)") + ")]", Neighbour(3)) == (
        "[1.0, 2.0, 3.0]"
    )


def test_requests_of_many_threads_are_told_apart(asking: Callable[..., str]) -> None:
    body = """
answers = {}
def work(number):
    answers[number] = ask(float(number)).exec().output_tensors()[0].as_numpy()[0, 0]
threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
return [tell(all(answers[number] == number for number in range(20)))]
"""
    assert asking(body) == "True"


def test_what_goes_wrong_is_the_answer(asking: Callable[..., str]) -> None:
    assert asking("return [tell(ask(model='unknown').exec().error().message())]") == "nobody is called so"


def test_a_cancelled_call_is_withdrawn(asking: Callable[..., str]) -> None:
    house = Neighbour()
    assert asking("ask(model='silent').exec(decoupled=True).cancel(); return [tell(1)]", house) == "1"
    assert house.withdrawn.wait(10)


def test_what_a_lost_worker_has_asked_is_withdrawn(away: Away) -> None:
    house = Neighbour()
    away.backend = away.backend_for(house)
    away.write_body(f"{ASK}\nask(model='silent').exec(decoupled=True)\nos._exit(1)")
    engine, ear = away.seat()
    engine.begin(Batch([away.ask()], 1), Replies(1), lambda _: None)
    ear.await_loss()
    away.close_all()
    assert house.withdrawn.wait(10)


def test_coroutines_of_a_model_wait_for_each_other(away: Away) -> None:
    """They overlap: each of two waits until the other has come."""
    away.backend = away.backend_for(Neighbour())
    away.write(
        """
        class TritonPythonModel:
            async def execute(self, requests):
                asked = [pb_utils.InferenceRequest(inputs=[output(each)], requested_output_names=["OUT"],
                         model_name="other") for each in (1.0, 2.0)]
                for each in asked:
                    each.inputs()[0].label = "IN"
                answers = await asyncio.gather(*(each.async_exec() for each in asked))
                total = sum(each.output_tensors()[0].as_numpy()[0, 0] for each in answers)
                return [answer(total)]
        """
    )
    assert values(away.start(away.seat()[0], away.ask()).of(0)[0]) == {"OUT": [3]}


def test_models_are_loaded_unloaded_and_looked_after(asking: Callable[..., str]) -> None:
    house = Neighbour()
    body = """
pb_utils.load_model("new", "{}", {"file:1/model.py": b"x" * 100_000})
try:
    pb_utils.unload_model("old", True)
except pb_utils.TritonModelException as error:
    why = str(error)
return [tell([pb_utils.is_model_ready("other", "3"), pb_utils.is_model_ready("other", "4"), why])]
"""
    assert asking(body, house) == (
        "[True, False, \"Failed to unload model: Failed to process the request for model 'model_0', message: "
        'not old, whatever its dependents: True"]'
    )
    assert house.wishes == [("new", "{}", {"file:1/model.py": b"x" * 100_000}, "")]


def test_metrics_are_kept_by_the_server_and_go_with_the_worker(away: Away) -> None:
    away.write(
        """
        class TritonPythonModel:
            def initialize(self, args):
                family = self.family = pb_utils.MetricFamily("bits", "d", pb_utils.MetricFamily.COUNTER)
                self.metric = family.Metric({"a": "1"})
            def execute(self, requests):
                self.metric.increment(2)
                try:
                    self.metric.set(3)
                except pb_utils.TritonModelException as error:
                    text = str(error)
                error = pb_utils.TritonError(f"{self.metric.value()} {text}")
                return [pb_utils.InferenceResponse(error=error)]
        """
    )
    engine, ear = away.seat()
    assert away.told(engine).startswith("2.0 Failed to set metric value: ")
    assert away.told(engine).startswith("4.0 ")
    (family,) = MODEL_METRICS.families()
    assert [(series.labels, series.value) for series in family.snapshot()] == [((("a", "1"),), 4.0)]
    away.process(engine).kill()
    ear.await_loss()
    away.close_all()
    assert MODEL_METRICS.families() == []


def test_a_family_of_another_kind_is_refused_though_another_worker_has_it(away: Away) -> None:
    away.write(
        """
        class TritonPythonModel:
            def initialize(self, args):
                kinds = (pb_utils.MetricFamily.COUNTER, pb_utils.MetricFamily.GAUGE)
                self.family = pb_utils.MetricFamily("one", "", kinds[int(args["model_instance_name"][-1])])
        """
    )
    away.engine()
    with pytest.raises(InferError, match="Family name already exists with different type"):
        away.engine(index=1)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[int, str]]]:
    """Return what was logged of models so far, by level."""
    caplog.set_level(logging.DEBUG, "deuteron.model")
    return lambda: [
        (each.levelno, each.getMessage()) for each in caplog.records if each.name == "deuteron.model"
    ]


def test_the_log_of_a_model_comes_with_its_place_and_its_name(
    away: Away, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "deuteron.model")
    away.write_body("pb_utils.Logger.log_warn('look\\nhere'); return [tell(1)]")
    away.told(away.seat()[0])
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert (record.getMessage(), record.filename, vars(record)["model"]) == (
        "look\nhere",
        "model.py",
        "model",
    )


def test_what_a_model_prints_is_logged_line_by_line(
    away: Away, lines: Callable[[], list[tuple[int, str]]]
) -> None:
    away.write_body(
        "print('one\\ntwo'); os.write(2, b'three \\xff'); print('x' * 1_000_000); return [tell(1)]"
    )
    away.told(away.seat()[0])
    away.close_all()
    wait_for_end_of_output()
    logged = lines()
    assert (logging.INFO, "model_0: one") in logged
    assert (logging.INFO, "model_0: two") in logged
    assert (logging.WARNING, "model_0: three \\xff") in logged
    assert (logging.INFO, "model_0: " + "x" * output.LONGEST_LINE) in logged
    assert all(len(text) < output.LONGEST_LINE + 100 for _, text in logged)


def test_a_model_that_prints_without_end_is_cut_short_and_serves_on(
    away: Away, lines: Callable[[], list[tuple[int, str]]]
) -> None:
    away.write_body("print('spam\\n' * 1_000_000); return [tell('done')]")
    assert away.told(away.seat()[0]) == "done"
    away.close_all()
    wait_for_end_of_output()
    logged = lines()
    assert len(logged) < 3 * output.BURST
    assert any("lines dropped: too many at once" in text for _, text in logged)


def wait_for_end_of_output() -> None:
    """Return when the attendant has come to what it was asked before."""
    came = threading.Event()
    attendant().call(came.set)
    assert came.wait(10)


def test_a_model_hears_that_its_client_is_gone(away: Away) -> None:
    away.write(
        """
        class TritonPythonModel:
            def execute(self, requests):
                sender = requests[0].get_response_sender()
                sender.send(answer(float(requests[0].is_cancelled())))
                while not (requests[0].is_cancelled() and sender.is_cancelled()):
                    pass
                sender.send(answer(7), 1)
        """
    )
    engine, _ = away.seat(DECOUPLED)
    replies, request = Replies(1), away.ask()
    engine.begin(Batch([request], 1), replies, lambda _: None)
    replies.await_first(0)
    request.cancel()
    assert [values(each) for each in replies.of(0)] == [{"OUT": [0]}, {"OUT": [7]}]
