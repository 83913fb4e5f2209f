"""Calls of model code against a house that answers as it is told: waiting, reading again, letting go."""

import asyncio
import gc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deuteron.backends.house import Asker, Receive, Withdraw
from deuteron.backends.python.api import calls
from deuteron.backends.python.api import triton_python_backend_utils as pb_utils
from deuteron.backends.python.api.response import InferenceResponse
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import Request, Response
from deuteron.proto.tensor import Tensor

from .conftest import Workbench

PythonModel = Any
"""An instance of the class below; what its methods return is the API under test."""

MODEL = """
class TritonPythonModel:
    model = None

    def initialize(self, args):
        type(self).model = self

    def execute(self, requests):
        return [answer() for request in requests]

    @staticmethod
    def request(value=1.0, model="other", **settings):
        return pb_utils.InferenceRequest(
            inputs=[output(value, "IN")], requested_output_names=["OUT"], model_name=model, **settings)
"""


class Desk:
    """A house that takes requests and leaves the answers to the test."""

    def __init__(self) -> None:
        self.asked: list[tuple[Asker, Request, Receive, bool]] = []
        self.withdrawn = 0
        self.wishes: list[tuple[Any, ...]] = []
        self.at_once: tuple[Response, ...] = ()

    def ask(self, asker: Asker, request: Request, receive: Receive, *, decoupled: bool) -> Withdraw:
        """Take a request; answer with what lies ready."""
        self.asked.append((asker, request, receive, decoupled))
        for response in self.at_once:
            receive(response)
        return self._withdraw

    def load(self, name: str, config: str, files: Mapping[str, bytes], *, waiting: str) -> None:
        """Note a wish."""
        self.wishes.append(("load", name, config, files, waiting))

    def unload(self, name: str, *, dependents: bool) -> None:
        """Note a wish, and grant it only without dependents."""
        self.wishes.append(("unload", name, dependents))
        if dependents:
            raise InferError(Fault.UNSUPPORTED, "not those")

    def is_ready(self, name: str, version: int) -> bool:
        """Know the model `other` only."""
        self.wishes.append(("is_ready", name, version))
        return name == "other"

    def _withdraw(self) -> None:
        self.withdrawn += 1


def response(value: float, *, final: bool = True) -> Response:
    """Make a response with one output."""
    return Response({"OUT": Tensor.from_numpy(np.array([[value]], np.float32))}, final=final)


LAST = Response(silent=True)


def values(asked: InferenceResponse) -> list[list[float]]:
    """Return the outputs of a response."""
    return [tensor.as_numpy().ravel().tolist() for tensor in asked.output_tensors()]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def model(tmp_path: Path, desk: Desk) -> Iterator[Any]:
    """Load a model over the desk and return it; it is closed at the end of the test."""
    here = Workbench(tmp_path / "repository" / "model")
    here.backend = here.backend_for(desk)
    here.write(MODEL)
    engine: Any = here.engine()
    yield engine._model
    engine.close()


def test_the_house_hears_who_asks_for_what(model: PythonModel, desk: Desk) -> None:
    desk.at_once = (response(2.0),)
    assert values(model.request(3.0, request_id="r", model_version=2, timeout=9).exec()) == [[2.0]]
    ((asker, request, _, decoupled),) = desk.asked
    assert (asker.model, asker.version, decoupled) == ("model", "1", False)
    assert (request.model_name, request.model_version, request.id, request.timeout_us) == ("other", 2, "r", 9)
    assert request.inputs["IN"].numpy().tolist() == [[3.0]]
    assert request.requested_outputs == ("OUT",)


def test_outputs_of_another_model_are_the_models_own_to_change(model: PythonModel, desk: Desk) -> None:
    sent = response(2.0)
    desk.at_once = (sent,)
    (tensor,) = model.request().exec().output_tensors()
    tensor.as_numpy()[:] = 7
    assert sent.outputs["OUT"].numpy().tolist() == [[2.0]]
    assert tensor.as_wire().numpy().tolist() == [[7.0]]


def test_parameters_and_errors_of_responses_are_told(model: PythonModel, desk: Desk) -> None:
    desk.at_once = (Response(parameters={"a": 1}),)
    assert model.request().exec().parameters() == '{"a": 1}'
    desk.at_once = (Response(error=InferError(Fault.UNAVAILABLE, "later")),)
    error = model.request().exec().error()
    assert (error.message(), error.code().name) == ("later", "UNAVAILABLE")


def test_responses_are_read_as_they_come_and_again_when_all_are_there(model: PythonModel, desk: Desk) -> None:
    desk.at_once = (response(1.0, final=False),)
    responses = model.request().exec(decoupled=True)
    assert values(next(responses)) == [[1.0]]
    ((_, _, receive, _),) = desk.asked
    receive(response(2.0, final=False))
    receive(LAST)
    assert [values(each) for each in responses] == [[[2.0]], []]
    assert [values(each) for each in responses] == [[[1.0]], [[2.0]], []]
    with pytest.raises(StopIteration):
        next(responses)
    assert values(next(iter(responses))) == [[1.0]]
    assert [values(each) for each in responses] == [[[2.0]], []]


def test_cancelling_withdraws_until_the_last_response_was_read(model: PythonModel, desk: Desk) -> None:
    desk.at_once = (response(1.0, final=False), LAST)
    responses = model.request().exec(decoupled=True)
    next(responses)
    responses.cancel()
    assert desk.withdrawn == 1
    next(responses)
    responses.cancel()
    assert desk.withdrawn == 1


@pytest.mark.parametrize(("read", "withdrawn"), [(0, 0), (1, 1), (2, 0)])
def test_only_a_stream_let_go_of_in_its_midst_is_withdrawn(
    model: PythonModel, desk: Desk, read: int, withdrawn: int
) -> None:
    desk.at_once = (response(1.0, final=False), LAST)
    responses = model.request().exec(decoupled=True)
    for _ in range(read):
        next(responses)
    del responses
    gc.collect()
    assert desk.withdrawn == withdrawn
    desk.asked[0][2](response(3.0))  # it is dropped, and does no harm


def test_a_model_that_does_not_read_loses_its_stream(
    model: PythonModel, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "BACKLOG", 2)
    responses = model.request().exec(decoupled=True)
    receive = desk.asked[0][2]
    for value in range(5):
        receive(response(value, final=False))
    assert desk.withdrawn == 1
    told = list(responses)
    assert [values(each) for each in told[:2]] == [[[0.0]], [[1.0]]]
    assert len(told) == 3
    assert "wait to be read" in told[2].error().message()


def test_what_a_model_reads_makes_room_for_more(model: PythonModel, desk: Desk) -> None:
    """The other model has credit for what is not read, and all it likes once nobody reads."""

    def has_room() -> bool:
        return flow.has_room

    responses = model.request().exec(decoupled=True)
    _, request, receive, _ = desk.asked[0]
    assert request.flow is not None
    flow = request.flow
    for _ in range(calls.BACKLOG):
        assert flow.take(0)
    assert not has_room()
    receive(response(1.0, final=False))
    next(responses)
    assert has_room()
    flow.spend(0)
    assert not has_room()
    del responses
    gc.collect()
    assert has_room()


async def test_a_coroutine_waits_for_its_response(model: PythonModel, desk: Desk) -> None:
    waiting = model.request().async_exec()
    await asyncio.sleep(0)
    assert not waiting.done()
    desk.asked[0][2](response(5.0))
    assert values(await waiting) == [[5.0]]
    assert desk.withdrawn == 0


async def test_a_coroutine_gets_a_stream_with_its_first_response(model: PythonModel, desk: Desk) -> None:
    waiting = model.request().async_exec(decoupled=True)
    await asyncio.sleep(0)
    assert not waiting.done()
    receive = desk.asked[0][2]
    receive(response(5.0, final=False))
    responses = await waiting
    receive(LAST)
    assert [values(each) for each in responses] == [[[5.0]], []]


@pytest.mark.parametrize("decoupled", [False, True])
async def test_a_coroutine_that_waits_no_more_withdraws(
    model: PythonModel, desk: Desk, decoupled: bool
) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(model.request().async_exec(decoupled=decoupled), 0.001)
    await asyncio.sleep(0)
    assert desk.withdrawn == 1
    desk.asked[0][2](response(5.0))
    await asyncio.sleep(0)


def test_a_loop_that_has_ended_is_not_waited_for(model: PythonModel, desk: Desk) -> None:
    """What comes for it is withdrawn."""

    async def leave() -> None:
        model.request().async_exec()

    asyncio.run(leave())
    before = desk.withdrawn
    desk.asked[0][2](response(5.0))
    assert desk.withdrawn == before + 1


def test_without_a_loop_nothing_can_be_awaited(model: PythonModel, desk: Desk) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        model.request().async_exec()
    assert not desk.asked


def test_names_may_be_elements_of_a_tensor() -> None:
    name = np.array([b"other"], np.object_)[0]
    request = pb_utils.InferenceRequest(
        inputs=[], requested_output_names=[b"OUT"], model_name=name, request_id=b"7"
    )
    asked = request.request
    assert (asked.model_name, asked.requested_outputs, asked.id) == ("other", ("OUT",), "7")


def test_only_models_that_are_served_may_ask() -> None:
    message = "BLS is only supported during the 'execute' function."
    request = pb_utils.InferenceRequest(inputs=[], requested_output_names=[], model_name="other")
    with pytest.raises(pb_utils.TritonModelException) as caught:
        request.exec()
    assert str(caught.value) == message
    for call in (pb_utils.load_model, pb_utils.unload_model, pb_utils.is_model_ready):
        with pytest.raises(pb_utils.TritonModelException, match="only a model that is being served"):
            call("other")


FINALIZES = """
class TritonPythonModel:
    def initialize(self, args):
        self.request = pb_utils.InferenceRequest(
            inputs=[], requested_output_names=[], model_name="other")

    def execute(self, requests):
        return None

    def finalize(self):
        for call in (self.request.exec, lambda: pb_utils.load_model("other")):
            try:
                call()
            except pb_utils.TritonModelException as error:
                pb_utils.Logger.log_error(str(error))
"""


def test_a_model_that_is_finalised_asks_no_more(
    here: Workbench, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    here.backend = here.backend_for(desk)
    here.write(FINALIZES)
    here.engine().close()
    here.engines.clear()
    assert not desk.asked
    assert not desk.wishes
    assert "BLS is only supported during the 'execute' function." in caplog.text
    assert "only a model that is being served" in caplog.text


CONTROLS = """
class TritonPythonModel:
    def execute(self, requests):
        pb_utils.load_model("a")
        pb_utils.load_model("b", config="{}", files={"file:1/model.py": b"x"})
        pb_utils.unload_model("c")
        known = [pb_utils.is_model_ready("other"), pb_utils.is_model_ready("none", "3")]
        try:
            pb_utils.unload_model("d", unload_dependents=True)
        except pb_utils.TritonModelException as error:
            known.append(str(error))
        raise RuntimeError(known)
"""


def test_wishes_go_to_the_house(here: Workbench, desk: Desk) -> None:
    here.backend = here.backend_for(desk)
    here.write(CONTROLS)
    ((response,),) = [here.start(here.engine(), here.ask()).of(0)]
    assert response.error is not None
    refusal = "Failed to unload model: Failed to process the request for model 'model_0', message: not those"
    assert f"[True, False, {refusal!r}]" in response.error.message
    assert desk.wishes == [
        ("load", "a", "", {}, ""),
        ("load", "b", "{}", {"file:1/model.py": b"x"}, ""),
        ("unload", "c", False),
        ("is_ready", "other", -1),
        ("is_ready", "none", 3),
        ("unload", "d", True),
    ]
