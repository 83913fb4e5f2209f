"""Python models that ask other models, in a whole repository: every way to ask, and every way it can end."""

import asyncio
import itertools
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from deuteron.actors.reply import OneReply
from deuteron.proto.message import Request
from deuteron.proto.trace import Trace
from deuteron.proto.trace_level import TraceLevel

from .asking import TELLING_CONFIG, House, until


async def test_a_model_asks_another_and_waits(house: House) -> None:
    assert await house.tell("return told(ask(value=4).exec())") == [[8.0]]
    statistics = house.repository.find("double").statistics
    assert (statistics.success.count, statistics.pending) == (1, 0)


async def test_what_is_asked_for_a_traced_request_is_traced_below_it(house: House) -> None:
    """As far as the model hands its trace on."""
    house.write_telling(
        "caller", "return [told(ask(value=1, trace=each).exec()) for each in (request.trace(), None)]"
    )
    await house.open()
    trace = Trace(itertools.count(1), TraceLevel.TIMESTAMPS | TraceLevel.TENSORS)
    reply = OneReply()
    house.repository.find("caller").infer(Request("caller", trace=trace), reply)
    await reply
    (child,) = trace.children
    assert (child.parent_id, child.model_name, child.model_version) == (1, "double", 1)
    assert [name for name, _ in child.moments] == [
        "REQUEST_START",
        "QUEUE_START",
        "COMPUTE_START",
        "COMPUTE_INPUT_END",
        "COMPUTE_OUTPUT_START",
        "COMPUTE_END",
        "REQUEST_END",
    ]
    assert [(shown.activity, shown.name) for shown in child.tensors] == [
        ("TENSOR_QUEUE_INPUT", "IN"),
        ("TENSOR_BACKEND_OUTPUT", "OUT"),
    ]


async def test_a_model_asks_an_ensemble(house: House) -> None:
    assert await house.tell("return told(ask('twice', 3).exec())") == [[12.0]]


async def test_what_is_asked_arrives_as_it_was_said(house: House) -> None:
    """Id, sequence, flags, timeout, parameters and outputs are those of the request, as they are then."""
    told = await house.tell("""
        request = ask(outputs=["ABOUT"], request_id="r", correlation_id="s", flags=1, timeout=5_000_000,
                      parameters={"a": 1, "b": True}, preferred_memory=pb_utils.PreferredMemory(
                          pb_utils.TRITONSERVER_MEMORY_CPU))
        request.set_flags(2)
        response = request.exec()
        return json.loads(pb_utils.get_output_tensor_by_name(response, "ABOUT").as_numpy()[0, 0])
    """)
    assert told == ["r", "s", 2, 5_000_000, {"a": 1, "b": True}, ["ABOUT"]]


async def test_a_request_can_be_asked_again(house: House) -> None:
    """Each time with its inputs as they are then."""
    told = await house.tell("""
        array = np.array([[1]], np.float32)
        request = pb_utils.InferenceRequest(
            inputs=[pb_utils.Tensor("IN", array)], requested_output_names=["OUT"], model_name="double")
        first = request.exec()
        array += 6
        return [told(first), told(request.exec())]
    """)
    assert told == [[[2.0]], [[14.0]]]


PREFIX = "INTERNAL: Model {} - Error when running inference: "

ERRORS = {
    "unknown model": (
        "ask('nobody')",
        PREFIX.format("nobody") + "Failed for execute the inference request. Model 'nobody' is not ready.",
    ),
    "unknown version": (
        "ask(model_version=9)",
        PREFIX.format("double") + "Failed for execute the inference request. Model 'double' is not ready.",
    ),
    "decoupled model": (
        "count(1)",
        PREFIX.format("count") + "Model count is using the decoupled. The current BLS request call doesn't "
        "support models using the decoupled transaction policy. Please use 'decoupled=True' argument to the "
        "'exec' or 'async_exec' calls for decoupled models.'",
    ),
    "unknown input": (
        "ask(name='NO')",
        PREFIX.format("double") + "unexpected inference input 'NO' for model 'double'",
    ),
    "unknown output": (
        "ask(outputs=['NO'])",
        PREFIX.format("double") + "unexpected inference output 'NO' for model 'double'",
    ),
    "error of the model": ("ask(value=-1)", "INVALID_ARG: negative"),
    "error in an ensemble": ("ask('twice', -1)", "INVALID_ARG: in ensemble 'twice', negative"),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_is_the_response(house: House, name: str) -> None:
    request, message = ERRORS[name]
    assert await house.tell(f"return told({request}.exec())") == message


async def test_coroutines_ask_side_by_side(house: House) -> None:
    """On the loop of an `async def execute` or on any other."""
    told = await house.tell("""
        async def all_of_them():
            responses = await asyncio.gather(*(ask(value=value).async_exec() for value in range(5)),
                                             ask('nobody').async_exec())
            return [told(response) for response in responses]
        return asyncio.run(all_of_them())
    """)
    assert told[:5] == [[[0.0]], [[2.0]], [[4.0]], [[6.0]], [[8.0]]]
    assert "is not ready" in told[5]


async def test_a_model_reads_a_stream(house: House) -> None:
    """Every response in its order, then the empty one that only says it was the last."""
    body = "return [told(each) for each in count(3, 4, 5).exec(decoupled=True)]"
    assert await house.tell(body) == [[[3]], [[4]], [[5]], []]


async def test_a_stream_of_a_plain_model_is_its_one_response(house: House) -> None:
    body = "return [told(each) for each in ask(value=2).exec(decoupled=True)]"
    assert await house.tell(body) == [[[4.0]]]


async def test_a_stream_that_cannot_begin_is_one_error(house: House) -> None:
    (told,) = await house.tell("return [told(each) for each in ask('nobody').exec(decoupled=True)]")
    assert "Model 'nobody' is not ready." in told


async def test_coroutines_read_streams(house: House) -> None:
    told = await house.tell("""
        async def read():
            return [told(each) for each in await count(1, 2).async_exec(decoupled=True)]
        return asyncio.run(read())
    """)
    assert told == [[[1]], [[2]], []]


async def test_a_stream_that_nobody_wants_any_more_is_cancelled(house: House) -> None:
    """`count` goes on only when its request is cancelled, and says so by ending."""
    told = await house.tell("""
        responses = count(1, -1).exec(decoupled=True)
        first = told(next(responses))
        responses.cancel()
        return [first, *[told(each) for each in responses]]
    """)
    assert told == [[[1]], [[-1]], []]


async def test_threads_of_a_model_ask_too(house: House) -> None:
    """Requests made by the model may be asked by any thread, also one that runs none of the model's code."""
    told = await house.tell("""
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(8) as threads:
            requests = [ask(value=value) for value in range(40)]
            return [told(each.result()) for each in [threads.submit(each.exec) for each in requests]]
    """)
    assert told == [[[2.0 * value]] for value in range(40)]


async def test_models_ask_models_that_ask_models(house: House) -> None:
    house.write_telling("first", "return ['first', told(ask(value=1).exec())]")
    house.write_telling("second", ASK_OTHER.format(me="second", other="first"))
    house.write_telling("third", ASK_OTHER.format(me="third", other="second"))
    await house.open()
    assert await house.ask("third") == ["third", ["second", ["first", [[2.0]]]]]


ASK_OTHER = """
response = ask("{other}", outputs=["TOLD"]).exec()
if response.has_error():
    return response.error().message()
return ["{me}", json.loads(response.output_tensors()[0].as_numpy()[0])]
"""


async def test_a_model_of_two_instances_may_ask_itself(house: House) -> None:
    body = """
        asked = request.parameters()
        if "inner" in asked:
            return "inner"
        inner = ask("caller", outputs=["TOLD"], parameters={"inner": 1}).exec()
        return json.loads(inner.output_tensors()[0].as_numpy()[0])
    """
    house.write_telling("caller", body, TELLING_CONFIG + "instance_group [{ kind: KIND_CPU count: 2 }]")
    await house.open()
    assert await house.ask() == "inner"


CIRCLES = {
    "a model that asks itself": {"caller": "caller"},
    "two models that ask each other": {"caller": "other", "other": "caller"},
}


@pytest.mark.parametrize("circle", CIRCLES)
async def test_a_call_that_nobody_could_ever_answer_is_failed(house: House, circle: str) -> None:
    """The last one of the circle, so that all others come to their end."""
    for name, other in CIRCLES[circle].items():
        house.write_telling(name, ASK_OTHER.format(me=name, other=other))
    await house.open()
    message = json.dumps(await house.ask())
    assert "all instances of model 'caller' wait for each other, this one in model" in message
    assert "it would never be served" in message
    assert json.dumps(await house.ask()) == message


async def test_models_that_ask_themselves_to_some_depth_are_told_where_it_ends(house: House) -> None:
    """Three instances can go three levels deep, and not four."""
    body = """
        depth = json.loads(request.parameters()).get("depth", 0)
        asked = ask("caller", outputs=["TOLD"], parameters={"depth": depth + 1})
        response = asked.exec()
        if response.has_error():
            return [depth, response.error().message()]
        return json.loads(response.output_tensors()[0].as_numpy()[0])
    """
    house.write_telling("caller", body, TELLING_CONFIG + "instance_group [{ kind: KIND_CPU count: 3 }]")
    await house.open()
    depth, message = await house.ask()
    assert (depth, "it would never be served" in message) == (2, True)


AROUND_CONFIG = """
platform: "ensemble"
input [{ name: "IN" data_type: TYPE_FP32 dims: [ 1, 1 ] }]
output [{ name: "TOLD" data_type: TYPE_STRING dims: [ 1 ] }]
ensemble_scheduling { step [
  { model_name: "caller" model_version: -1
    input_map { key: "IN" value: "IN" } output_map { key: "TOLD" value: "TOLD" } }
] }
"""


async def test_calls_in_a_circle_end_when_the_server_stops(house: House) -> None:
    """Those of a model that asks an ensemble of itself wait for ever until then; so does nobody else."""
    house.write_telling("caller", ASK_OTHER.format(me="caller", other="around"))
    house.write("around", "", AROUND_CONFIG)
    await house.open()
    waiting = asyncio.ensure_future(house.ask())
    await until(lambda: len(house.calls._pending) == 1)
    house.calls.stop()
    message = json.dumps(await waiting)
    assert "the server is stopping, and model" in message
    assert "waits for itself through model" in message
    await asyncio.wait_for(house.repository.close(), 20)


async def test_a_call_in_flight_is_served_when_the_server_stops(house: House) -> None:
    house.write_telling(
        "caller",
        """
        responses = count(1, -1).exec(decoupled=True)
        first = told(next(responses))
        while pb_utils.is_model_ready("caller"):
            threading.Event().wait(0.001)
        responses.cancel()
        return [first, *[told(each) for each in responses], told(ask(value=4).exec())]
    """,
    )
    await house.open()
    waiting = asyncio.ensure_future(house.ask())
    await until(lambda: bool(house.calls._pending))
    house.calls.stop()
    await house.repository.unload("caller")
    assert await waiting == [[[1]], [[-1]], [], [[8.0]]]


async def test_calls_that_outlive_the_house_fail(tmp_path: Path) -> None:
    """And those that come later as well; nobody waits for a loop that has ended."""
    async with AsyncExitStack() as stack:
        house = House(tmp_path, stack)
        house.write_telling("caller", "return [told(each) for each in count(1, -1).exec(decoupled=True)]")
        await house.open()
        waiting = asyncio.ensure_future(house.ask())
        await until(lambda: bool(house.calls._pending))
        async with house.calls.carry(house.repository.find):
            pass
        assert (await waiting)[-1] == "UNAVAILABLE: the server has ended, no model can be asked any more"
        (told,) = await house.ask()
        assert told == "UNAVAILABLE: the server has ended, no model can be asked any more"


async def test_a_stream_let_go_of_is_withdrawn(house: House) -> None:
    """`count` ends only when it is cancelled, so the end of the call shows that it was."""
    told = await house.tell("return told(next(count(1, -1).exec(decoupled=True)))")
    assert told == [[1]]
    await until(lambda: not house.calls._pending)


async def test_a_stream_that_was_never_read_is_done(house: House) -> None:
    """As in Triton: a model may ask for what another does, not for what it answers."""
    assert await house.tell("count(1, 2, 3).exec(decoupled=True)") is None
    await until(lambda: not house.calls._pending)
    await until(lambda: house.repository.find("count").statistics.success.count == 1)


SHAPED_CONFIG = """
backend: "identity"
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ 1 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 1, 1 ] reshape { shape: [ 1 ] } }]
"""


async def test_a_response_that_somebody_has_to_shape_is_not_handed_over_early(house: House) -> None:
    """The short way from thread to thread is for replies that nobody stands before."""
    house.write("shaped", "", SHAPED_CONFIG)
    told = await house.tell(
        """
        tensor = pb_utils.Tensor("INPUT0", np.array([3], np.float32))
        asked = pb_utils.InferenceRequest(
            inputs=[tensor], requested_output_names=["OUTPUT0"], model_name="shaped"
        )
        return [list(each.shape()) for each in asked.exec().output_tensors()]
        """
    )
    assert told == [[1, 1]]


async def test_every_call_is_counted_though_its_caller_has_long_gone_on(house: House) -> None:
    told = await house.tell("return [told(ask(value=value).exec()) for value in range(100)]")
    assert told == [[[2.0 * value]] for value in range(100)]
    statistics = house.repository.find("double").statistics
    assert (statistics.success.count, statistics.execution_count) == (100, 100)
