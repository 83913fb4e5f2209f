"""ModelStreamInfer answers in Triton's order, tells errors without ending, and ends when it is told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import numpy as np
import pytest

from deuteron.proto.schema import grpc_service_pb2 as pb
from deuteron.service.doorway import Doorway
from deuteron.service.grpc import stream
from deuteron.service.grpc.front import GrpcFront
from deuteron.service.grpc.lane import streaming

BuildDoorway = Callable[..., Awaitable[Doorway]]
METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"
Call = grpc.aio.StreamStreamCall[pb.ModelInferRequest, pb.ModelStreamInferResponse]
StreamInfer = Callable[..., Call]
Until = Callable[[Callable[[], object]], Awaitable[None]]

COUNTER = """
backend: "python" parameters { key: "in_process" value { string_value: "true" } }
model_transaction_policy { decoupled: true }
input [{ name: "COUNT" data_type: TYPE_INT32 dims: [ 1 ] }]
output [{ name: "INDEX" data_type: TYPE_INT32 dims: [ 1 ] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""

COUNTING = '''
"""Answers COUNT with as many responses; a negative COUNT is an error after one response."""
import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            count = int(pb_utils.get_input_tensor_by_name(request, "COUNT").as_numpy()[0])
            for index in range(abs(count)):
                output = pb_utils.Tensor("INDEX", np.array([index], np.int32))
                sender.send(pb_utils.InferenceResponse([output]))
            if count < 0:
                error = pb_utils.TritonError("counted below zero" + "\\udc80" * (count < -1))
                sender.send(pb_utils.InferenceResponse([], error), flags=FINAL)
            else:
                sender.send(flags=FINAL)
'''


@pytest.fixture
async def doorway(build_doorway: BuildDoorway, tmp_path: Path) -> Doorway:
    """Load a decoupled model besides those that every test has."""
    (tmp_path / "counter" / "1").mkdir(parents=True)
    (tmp_path / "counter" / "config.pbtxt").write_text(COUNTER)
    (tmp_path / "counter" / "1" / "model.py").write_text(COUNTING)
    return await build_doorway()


@pytest.fixture
async def stream_infer(grpc_door: GrpcFront) -> AsyncIterator[StreamInfer]:
    """Open streams to the door."""
    async with grpc.aio.insecure_channel(grpc_door.address) as channel:
        yield channel.stream_stream(
            METHOD, pb.ModelInferRequest.SerializeToString, pb.ModelStreamInferResponse.FromString
        )


def plain(request_id: str, model: str = "simple", value: float = 0.0) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, id=request_id)
    shape = [1, 4] if model == "simple" else [4]
    request.inputs.add(name="INPUT0", datatype="FP32", shape=shape)
    request.raw_input_contents.append(np.full(4, value, np.float32).tobytes())
    return request


def counting(request_id: str, count: int, *, wants_empty_final: bool = False) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="counter", id=request_id)
    request.inputs.add(name="COUNT", datatype="INT32", shape=[1])
    request.raw_input_contents.append(np.array([count], np.int32).tobytes())
    if wants_empty_final:
        request.parameters["triton_enable_empty_final_response"].bool_param = True
    return request


async def answers(
    stream_infer: StreamInfer, *requests: pb.ModelInferRequest
) -> list[pb.ModelStreamInferResponse]:
    """Send requests, half-close, and return all that comes back."""
    return [response async for response in stream_infer(iter(requests))]


async def read(call: Call) -> pb.ModelStreamInferResponse:
    """Return the next response of a stream."""
    response = await call.read()
    assert isinstance(response, pb.ModelStreamInferResponse)
    return response


def final(response: pb.ModelStreamInferResponse) -> bool | None:
    """Return the final flag of a response, None where it has none."""
    parameters = response.infer_response.parameters
    return parameters["triton_final_response"].bool_param if "triton_final_response" in parameters else None


async def test_plain_models_answer_in_the_order_of_the_requests(
    stream_infer: StreamInfer,
) -> None:
    """Also where a later one could be answered earlier."""
    requests = [plain(str(n), "slow" if n % 3 == 0 else "simple", n) for n in range(6)]
    responses = await answers(stream_infer, *requests)
    assert [each.infer_response.id for each in responses] == ["0", "1", "2", "3", "4", "5"]
    for n, each in enumerate(responses):
        assert each.infer_response.raw_output_contents[0] == np.full(4, n, np.float32).tobytes()
        assert (each.error_message, final(each)) == ("", True)


async def test_a_decoupled_model_answers_as_often_as_it_likes(
    stream_infer: StreamInfer,
) -> None:
    responses = await answers(stream_infer, counting("a", 3), counting("b", 0), counting("c", 1))
    assert [each.infer_response.id for each in responses] == ["a", "a", "a", "c"]
    indices = [np.frombuffer(each.infer_response.raw_output_contents[0], np.int32)[0] for each in responses]
    assert indices == [0, 1, 2, 0]
    assert [final(each) for each in responses] == [False] * 4


async def test_the_end_of_a_decoupled_request_is_told_to_who_asks(
    stream_infer: StreamInfer,
) -> None:
    responses = await answers(stream_infer, counting("a", 1, wants_empty_final=True))
    assert [final(each) for each in responses] == [False, True]
    last = responses[1].infer_response
    assert (last.id, last.model_name, last.model_version) == ("a", "counter", "")
    assert not last.outputs


async def test_a_decoupled_model_overtakes_a_plain_one(
    stream_infer: StreamInfer,
) -> None:
    responses = await answers(stream_infer, plain("slow", "slow"), counting("a", 2), plain("b"))
    assert [each.infer_response.id for each in responses] == ["a", "a", "slow", "b"]


async def test_an_error_at_the_door_is_told_in_its_turn_and_the_stream_goes_on(
    stream_infer: StreamInfer,
) -> None:
    nameless = pb.ModelInferRequest(model_name="simple", id="3")
    responses = await answers(
        stream_infer, plain("0", "slow"), plain("1", "no"), plain("2"), nameless, counting("4", 1)
    )
    told = {each.infer_response.id: each for each in responses}
    order = [each.infer_response.id for each in responses if each.infer_response.id != "4"]
    assert order == ["0", "1", "2", "3"]
    assert told["1"].error_message == "Request for unknown model: 'no' is not found"
    assert told["1"].infer_response == pb.ModelInferResponse(id="1")
    assert told["3"].error_message.startswith("[request id: 3] expected 1 inputs but got 0 inputs")
    assert told["2"].error_message == ""


async def test_an_error_of_a_model_names_the_request(
    stream_infer: StreamInfer,
) -> None:
    data, error = await answers(stream_infer, counting("x", -1))
    assert data.error_message == ""
    assert error.error_message == "counted below zero"
    told = error.infer_response
    assert (told.id, told.model_name, told.model_version) == ("x", "counter", "")
    assert final(error) is True


async def test_an_error_that_is_no_text_is_told_all_the_same(stream_infer: StreamInfer) -> None:
    assert (await answers(stream_infer, counting("x", -2)))[-1].error_message == "counted below zero?"


async def test_a_client_may_ask_that_the_first_error_end_the_stream(
    stream_infer: StreamInfer,
) -> None:
    requests = iter([plain("0", "no"), counting("x", -1), plain("1", "slow")])
    call = stream_infer(requests, metadata=(("triton_grpc_error", "true"),))
    told = [(await read(call)).error_message for _ in range(2)]
    assert told == ["Request for unknown model: 'no' is not found", ""]
    assert (await call.code(), await call.details()) == (grpc.StatusCode.INTERNAL, "counted below zero")


async def test_what_is_no_message_is_answered_with_an_error(grpc_door: GrpcFront) -> None:
    async with grpc.aio.insecure_channel(grpc_door.address) as channel:
        method = channel.stream_stream(METHOD, None, pb.ModelStreamInferResponse.FromString)
        call = method(iter([b"\xff\xff", plain("1").SerializeToString()]))
        told = [response.error_message async for response in call]
    assert told == ["Unable to parse request", ""]


async def test_a_lost_client_takes_its_requests_along(
    stream_infer: StreamInfer, doorway: Doorway, until: Until
) -> None:
    """One runs and is finished for nobody; those that wait are taken out of the queue."""
    slow = doorway.repository.find("slow")
    call = stream_infer(plain(str(n), "slow") for n in range(30))
    await until(lambda: slow.statistics.pending > 9)
    call.cancel()
    await until(lambda: not slow.statistics.pending)
    assert slow.statistics.failures["CANCELED"] > 0
    assert slow.statistics.execution_count < 30
    assert await answers(stream_infer, plain("again"))


async def test_no_more_is_read_while_too_much_is_unanswered(
    stream_infer: StreamInfer, doorway: Doorway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_OPEN", 3)
    most = 0
    slow = doorway.repository.find("slow")
    post = slow.infer

    def count(*arguments: object) -> object:
        nonlocal most
        most = max(most, slow.statistics.pending)
        return post(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(type(slow), "infer", lambda _self, *arguments: count(*arguments))
    responses = await answers(stream_infer, *(plain(str(n), "slow") for n in range(10)))
    assert [each.infer_response.id for each in responses] == [str(n) for n in range(10)]
    assert most <= 3


async def test_a_client_that_does_not_read_loses_the_stream(
    grpc_door: GrpcFront, doorway: Doorway, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own library reads ahead for it, which is bounded here; so is what the lane keeps for it."""
    monkeypatch.setattr(stream, "MAX_UNSENT", 100)
    monkeypatch.setattr(streaming, "UNSENT", 1000)
    reads_little = (("grpc.http2.lookahead_bytes", 1000), ("grpc.http2.bdp_probe", 0))
    async with grpc.aio.insecure_channel(grpc_door.address, reads_little) as channel:
        call = channel.stream_stream(
            METHOD, pb.ModelInferRequest.SerializeToString, pb.ModelStreamInferResponse.FromString
        )(iter([counting("x", 5000)]))
        await until(lambda: doorway.repository.find("counter").statistics.execution_count)
        with pytest.raises(grpc.aio.AioRpcError, match=r"101 responses of \d+ bytes wait to be read"):
            async for _ in call:
                pass


async def test_a_server_that_goes_down_ends_idle_streams_after_their_answers(
    stream_infer: StreamInfer, grpc_door: GrpcFront, doorway: Doorway, until: Until
) -> None:
    call = stream_infer()
    await call.write(plain("0", "slow"))
    await call.write(plain("1"))
    await until(lambda: doorway.repository.find("simple").statistics.execution_count)
    closing = asyncio.ensure_future(grpc_door.close(5))
    assert (await read(call)).infer_response.id == "0"
    assert (await read(call)).infer_response.id == "1"
    assert await call.code() is grpc.StatusCode.UNAVAILABLE
    await asyncio.wait_for(closing, 1)
