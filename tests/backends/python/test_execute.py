"""What `execute` owes to a batch, and what clients are told when it does not keep to that."""

import time

import numpy as np
import pytest

from deuteron.backends.api import Batch
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import Request

from .conftest import CONFIG, DECOUPLED, Workbench, execute, values

PREFIX = "Failed to process the request(s) for model 'model_0', message: "
RESPONSE_TYPE = "<class 'c_python_backend_utils.InferenceResponse'>"


def test_each_request_gets_the_response_at_its_place(bench: Workbench) -> None:
    asked = [bench.ask(value) for value in (1, 2, 3)]
    answered = bench.run(
        "return [answer(2 * pb_utils.get_input_tensor_by_name(r, 'IN').as_numpy()[0, 0]) for r in requests]",
        *asked,
    )
    assert [values(response) for (response,) in answered] == [{"OUT": [2]}, {"OUT": [4]}, {"OUT": [6]}]


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ((), ["OUT", "MORE"]),
        (("OUT",), ["OUT"]),
        (("MORE", "OUT"), ["OUT", "MORE"]),
        (("ABSENT",), []),
    ],
)
def test_only_wanted_outputs_of_the_configuration_go_out_in_the_order_of_the_model(
    bench: Workbench, wanted: tuple[str, ...], given: list[str]
) -> None:
    ((response,),) = bench.run(
        "return [pb_utils.InferenceResponse([output(name=n) for n in ('OUT', 'UNHEARD', 'MORE')])]",
        bench.ask(outputs=wanted),
    )
    assert list(response.outputs) == given


WRONG_NUMBER = (
    "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
    "InferenceRequest(s) size is:1, and InferenceResponse(s) size is:"
)
ABANDONED = (
    "execute returned None for the request, and nobody is left who could answer it: its response sender was "
    "not kept, or was dropped before it sent the final flag"
)
BROKEN_CONTRACTS = {
    "return answer()": f"Expected a list in the execute return, found type '{RESPONSE_TYPE}'.",
    "return (answer(),)": "Expected a list in the execute return, found type '<class 'tuple'>'.",
    "return [answer(), answer()]": f"{WRONG_NUMBER}2\n",
    "return []": f"{WRONG_NUMBER}0\n",
    "return [3]": (
        "Expected an 'InferenceResponse' object in the execute function return list, found type "
        "'<class 'int'>'."
    ),
    "requests[0].set_release_flags(2); return [answer()]": (
        "Expected a None object in the execute function return list for reschduled request, found type "
        f"'{RESPONSE_TYPE}'."
    ),
    "return None": ABANDONED,
    "return [None]": ABANDONED,
}


@pytest.mark.parametrize(("body", "reason"), BROKEN_CONTRACTS.items())
def test_a_broken_contract_fails_the_requests_with_the_reason(
    bench: Workbench, body: str, reason: str
) -> None:
    ((response,),) = bench.run(body)
    assert response.error is not None
    assert response.error.message == PREFIX + reason
    assert response.error.fault is Fault.INTERNAL


def test_what_was_sent_with_the_final_flag_stands(bench: Workbench) -> None:
    ((response,),) = bench.run("requests[0].get_response_sender().send(answer(), 1); return [answer()]")
    assert values(response) == {"OUT": [1]}


def test_a_failed_batch_is_told_to_the_operator_too(
    bench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    message = bench.error("raise ValueError('look here')")
    assert [record.getMessage() for record in caplog.records] == [message]


def test_a_broken_contract_of_one_request_fails_the_whole_batch(bench: Workbench) -> None:
    answered = bench.run("return [answer(), 3]", bench.ask(), bench.ask())
    assert all(response.error is not None for (response,) in answered)


def test_an_exception_is_told_to_every_request_with_the_frames_of_the_model(bench: Workbench) -> None:
    path = bench.write(
        """\
        def deep():
            raise KeyError("lost")
        class TritonPythonModel:
            def execute(self, requests):
                deep()
        """,
        head="",
    )
    replies = bench.start(bench.engine(), bench.ask(), bench.ask())
    expected = f"{PREFIX}KeyError: 'lost'\n\nAt:\n  {path}(2): deep\n  {path}(5): execute\n"
    for row in (0, 1):
        (response,) = replies.of(row)
        assert response.error is not None
        assert response.error.message == expected


@pytest.mark.parametrize(
    "raised", ["SystemExit('bye')", "KeyboardInterrupt()", "pb_utils.TritonModelException('x')"]
)
def test_an_instance_outlives_whatever_its_model_raises(bench: Workbench, raised: str) -> None:
    bench.write(
        f"""
        class TritonPythonModel:
            calls = 0
            def execute(self, requests):
                self.calls += 1
                if self.calls == 1:
                    raise {raised}
                return [answer() for _ in requests]
        """
    )
    engine = bench.engine()
    (failed,) = bench.start(engine, bench.ask()).of(0)
    assert failed.error is not None
    assert failed.error.message.startswith(PREFIX + raised.partition("(")[0].rpartition(".")[2] + ": ")
    (answered,) = bench.start(engine, bench.ask()).of(0)
    assert values(answered) == {"OUT": [1]}


def test_a_model_without_execute_says_so(bench: Workbench) -> None:
    path = bench.write("class TritonPythonModel:\n    pass")
    (response,) = bench.start(bench.engine(), bench.ask()).of(0)
    assert response.error is not None
    assert response.error.message == f"{PREFIX}Python model {path} does not implement `execute` method."


@pytest.mark.parametrize(
    "code", ["UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARG", "UNAVAILABLE", "UNSUPPORTED"]
)
def test_an_error_response_reaches_its_own_request_alone(bench: Workbench, code: str) -> None:
    (good,), (bad,) = bench.run(
        f"""
        error = pb_utils.TritonError("not here", pb_utils.TritonError.{code})
        return [answer(), pb_utils.InferenceResponse([output()], error)]
        """,
        bench.ask(),
        bench.ask(),
    )
    assert values(good) == {"OUT": [1]}
    assert bad.error is not None
    assert (bad.error.message, bad.error.fault) == ("not here", Fault[code])
    assert not bad.outputs


def test_parameters_of_a_response_go_out_with_it(bench: Workbench) -> None:
    ((response,),) = bench.run(
        "return [pb_utils.InferenceResponse([output()], parameters={'a': 1, 'b': 'x'})]"
    )
    assert response.parameters == {"a": 1, "b": "x"}


def test_a_model_may_empty_the_list_of_its_requests(bench: Workbench) -> None:
    ((response,),) = bench.run("requests.clear(); return [answer()]")
    assert values(response) == {"OUT": [1]}


def test_what_a_model_writes_to_an_output_later_does_not_reach_the_client(bench: Workbench) -> None:
    bench.write(
        """
        class TritonPythonModel:
            def initialize(self, args):
                self.kept = np.zeros((1, 1), np.float32)
            def execute(self, requests):
                self.kept += 1
                return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", self.kept)])]
        """
    )
    engine = bench.engine()
    (first,) = bench.start(engine, bench.ask()).of(0)
    bench.start(engine, bench.ask())
    assert values(first) == {"OUT": [1]}


def test_what_a_model_writes_to_an_input_stays_with_the_model(bench: Workbench) -> None:
    request = bench.ask(5)
    ((response,),) = bench.run(
        """
        array = pb_utils.get_input_tensor_by_name(requests[0], "IN").as_numpy()
        array *= 2
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)])]
        """,
        request,
    )
    assert values(response) == {"OUT": [10]}
    assert request.inputs["IN"].numpy().tolist() == [[5]]


@pytest.mark.parametrize(
    ("config", "sizes", "refused"),
    [
        (CONFIG, [8], None),
        (CONFIG, [5, 4], "batch size 9 for 'model_0', max allowed is 8"),
        (CONFIG.replace("8", "0", 1), [1], None),
        (CONFIG.replace("8", "0", 1), [1, 1], "batch size 2 for 'model_0', max allowed is 0"),
    ],
)
def test_a_batch_beyond_the_maximum_is_refused(
    bench: Workbench, config: str, sizes: list[int], refused: str | None
) -> None:
    bench.write_execute("return [answer() for _ in requests]")
    requests = [Request("model", batch_size=size) for size in sizes]
    (response,) = bench.start(bench.engine(config), *requests).of(0)
    assert (response.error and response.error.message) == refused


def test_the_phases_of_a_batch_are_marked(bench: Workbench) -> None:
    bench.write_execute("import time; time.sleep(0.01); return [answer()]")
    batch = Batch([bench.ask()], 1)
    began = time.monotonic_ns()
    execute(bench.engine(), batch, lambda _row, _response: None)
    assert began < batch.inputs_ready < batch.outputs_started - 9_000_000 < time.monotonic_ns()


def test_a_failed_batch_is_marked_too(bench: Workbench) -> None:
    bench.write_execute("raise ValueError")
    batch = Batch([bench.ask()], 1)
    with pytest.raises(InferError):
        execute(bench.engine(), batch, lambda _row, _response: None)
    assert 0 < batch.inputs_ready <= batch.outputs_started


def test_a_decoupled_model_must_return_none(bench: Workbench) -> None:
    assert bench.error("return [answer()]", DECOUPLED) == (
        f"{PREFIX}Python model 'model_0' is using the decoupled mode and the execute function must return "
        "None."
    )


def test_a_coroutine_is_waited_for(bench: Workbench) -> None:
    bench.write(
        """
        class TritonPythonModel:
            async def execute(self, requests):
                await asyncio.sleep(0)
                return [answer(7)]
        """
    )
    (response,) = bench.start(bench.engine(), bench.ask()).of(0)
    assert values(response) == {"OUT": [7]}


@pytest.mark.parametrize("raised", ["ValueError", "SystemExit"])
def test_what_a_coroutine_raises_is_told_like_any_other_exception(bench: Workbench, raised: str) -> None:
    path = bench.write(
        f"""
        class TritonPythonModel:
            async def execute(self, requests):
                await asyncio.sleep(0)
                raise {raised}("late")
        """,
        head="import asyncio",
    )
    engine = bench.engine()
    for _ in range(2):  # the loop of the model has to survive it
        (response,) = bench.start(engine, bench.ask()).of(0)
        assert response.error is not None
        assert response.error.message == f"{PREFIX}{raised}: late\n\nAt:\n  {path}(5): execute\n"


def test_a_tensor_that_nobody_looked_at_is_handed_through_as_it_came(here: Workbench) -> None:
    request = Request("model", inputs={"OUT": here.ask().inputs["IN"]})
    ((response,),) = here.run("return [pb_utils.InferenceResponse(requests[0].inputs())]", request)
    assert response.outputs["OUT"] is request.inputs["OUT"]


def test_an_empty_batch_dimension_is_no_obstacle(bench: Workbench) -> None:
    ((response,),) = bench.run(
        "return [pb_utils.InferenceResponse([pb_utils.Tensor('OUT', np.zeros((0, 3), np.float32))])]"
    )
    assert response.outputs["OUT"].numpy().shape == np.zeros((0, 3)).shape
