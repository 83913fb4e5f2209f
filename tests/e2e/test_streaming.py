"""Streams: any number of requests and responses over one call, through both gRPC clients."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.grpc import InferInput, InferResult
from tritonclient.utils import InferenceServerException

from .house import Server

TIMEOUT_S = 20

Asked = dict[str, Any]
"""The arguments of one request in a stream."""
Told = list[InferResult | InferenceServerException]
"""What came back in a stream, in its order."""
Stream = Callable[..., Told]


def tensor(
    name: str, values: Sequence[int], datatype: str = "INT32", shape: Sequence[int] = ()
) -> InferInput:
    """Make an input."""
    array = np.array(values, np.int32 if datatype == "INT32" else np.float32).reshape(shape or len(values))
    return InferInput(name, list(array.shape), datatype).set_data_from_numpy(array)


def repeat(*values: int, **options: object) -> Asked:
    """Ask the decoupled model for as many responses as there are values."""
    return {"model_name": "repeat", "inputs": [tensor("IN", values)], **options}


def echo(value: int, **options: object) -> Asked:
    """Ask a plain model."""
    return {"model_name": "echo", "inputs": [tensor("INPUT0", [value], "FP32", (1, 1))], **options}


def slow(value: int, **options: object) -> Asked:
    """Ask a plain model that takes its time."""
    return {"model_name": "slow", "inputs": [tensor("INPUT0", [value, 0], shape=(1, 2))], **options}


def stream_with_callbacks(server: Server, requests: Sequence[Asked], count: int, **options: object) -> Told:
    """Send requests with the plain client; return the first `count` of what its callback is told."""
    told: SimpleQueue[InferResult | InferenceServerException] = SimpleQueue()
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: told.put(error or result), **options)
        for request in requests:
            client.async_stream_infer(**request)
        heard = [told.get(timeout=TIMEOUT_S) for _ in range(count)]
        client.stop_stream()
    assert told.empty()
    return heard


def stream_with_asyncio(server: Server, requests: Sequence[Asked], count: int, **options: object) -> Told:
    """Send requests with the asyncio client; return all that comes until the server ends the stream."""

    async def send() -> AsyncIterator[Asked]:
        for request in requests:
            yield request

    async def run() -> Told:
        async with tritonclient.grpc.aio.InferenceServerClient(server.grpc) as client:
            async with asyncio.timeout(TIMEOUT_S):
                return [error or result async for result, error in client.stream_infer(send(), **options)]

    heard = asyncio.run(run())
    assert len(heard) == count
    return heard


@pytest.fixture(params=[stream_with_callbacks, stream_with_asyncio])
def stream(request: pytest.FixtureRequest, house: Server) -> Stream:
    """Send requests over one stream, and return what comes back: so many results and errors."""

    def run(*requests: Asked, count: int, **options: object) -> Told:
        told: Told = request.param(house, requests, count, **options)
        return told

    return run


def ignore(result: InferResult, error: InferenceServerException) -> None:
    """Hear of a result, and do nothing."""


def ids(told: Told) -> list[str]:
    """Return whom results are for."""
    return [result.get_response().id for result in told if isinstance(result, InferResult)]


def is_final(result: InferResult) -> bool:
    """Tell whether a response is marked as the last one of its request."""
    return bool(result.get_response().parameters["triton_final_response"].bool_param)


def test_a_decoupled_model_answers_a_request_as_often_as_it_likes(stream: Stream) -> None:
    told = stream(repeat(7, 5, 3, request_id="a"), count=3)
    assert [int(result.as_numpy("OUT")[0]) for result in told] == [7, 5, 3]
    assert [int(result.as_numpy("INDEX")[0]) for result in told] == [0, 1, 2]
    assert ids(told) == ["a"] * 3
    assert not any(map(is_final, told))


def test_the_final_flag_alone_is_sent_to_who_asks_for_it(house: Server) -> None:
    """Of the two clients only this one can ask."""
    requests = [repeat(*values, enable_empty_final_response=True) for values in ([1, 2], [])]
    finals = [result for result in stream_with_callbacks(house, requests, 4) if is_final(result)]
    assert len(finals) == 2
    assert all(not result.get_response().outputs for result in finals)
    assert finals[0].get_response().model_name == "repeat"


def test_a_decoupled_model_may_answer_never(stream: Stream) -> None:
    told = stream(repeat(), echo(1, request_id="after"), count=1)
    assert ids(told) == ["after"]


def test_many_decoupled_requests_keep_each_their_order(stream: Stream) -> None:
    told = stream(*(repeat(*range(20), request_id=str(number)) for number in range(10)), count=200)
    for number in range(10):
        mine = [result for result in told if result.get_response().id == str(number)]
        assert [int(result.as_numpy("OUT")[0]) for result in mine] == list(range(20))


def test_plain_models_are_answered_in_the_order_of_their_requests(stream: Stream) -> None:
    requests = [slow(0, request_id="0"), *(echo(number, request_id=str(number)) for number in range(1, 30))]
    told = stream(*requests, count=30)
    assert ids(told) == [str(number) for number in range(30)]
    assert all(map(is_final, told))


def test_one_stream_serves_plain_and_decoupled_models(stream: Stream) -> None:
    requests = [echo(1, request_id="e1"), repeat(1, 2, request_id="r"), echo(2, request_id="e2")]
    told = stream(*requests, count=4)
    assert sorted(ids(told)) == ["e1", "e2", "r", "r"]


def test_an_error_ends_its_request_and_not_the_stream(stream: Stream) -> None:
    wrong = {"model_name": "nobody", "inputs": [tensor("X", [1])], "request_id": "wrong"}
    told = stream(echo(1, request_id="a"), wrong, echo(2, request_id="b"), count=3)
    assert ids(told) == ["a", "b"]
    assert isinstance(told[1], InferenceServerException)
    assert told[1].message() == "Request for unknown model: 'nobody' is not found"


def test_a_decoupled_model_may_go_on_after_an_error(stream: Stream) -> None:
    told = stream(repeat(1, -2, 3), count=3)
    assert isinstance(told[1], InferenceServerException)
    assert told[1].message() == "-2 is negative"
    assert int(told[2].as_numpy("OUT")[0]) == 3


def test_a_client_may_ask_that_an_error_end_its_stream(house: Server) -> None:
    (error,) = stream_with_callbacks(house, [repeat(-1)], 1, headers={"triton_grpc_error": "true"})
    assert (error.status(), error.message()) == ("StatusCode.INVALID_ARGUMENT", "-1 is negative")


def test_a_stream_that_is_given_up_leaves_the_server_as_it_was(house: Server) -> None:
    with tritonclient.grpc.InferenceServerClient(house.grpc) as client:
        for _ in range(20):
            client.start_stream(ignore)
            for number in range(10):
                client.async_stream_infer(**slow(number))
            client.stop_stream(cancel_requests=True)
    assert ids(stream_with_callbacks(house, [echo(1, request_id="next")], 1)) == ["next"]


def test_a_decoupled_model_is_for_streams_only(house: Server) -> None:
    with (
        tritonclient.grpc.InferenceServerClient(house.grpc) as client,
        pytest.raises(InferenceServerException) as caught,
    ):
        client.infer(**repeat(1))
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
    assert caught.value.message() == "ModelInfer RPC doesn't support models with decoupled transaction policy"


def test_a_stream_survives_a_message_that_is_none(house: Server) -> None:
    def messages() -> Iterator[bytes]:
        yield b"\xff\xff\xff"
        yield b""

    with grpc.insecure_channel(house.grpc) as channel:
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer", None, None)
        heard = [
            tritonclient.grpc.service_pb2.ModelStreamInferResponse.FromString(answer)
            for answer in call(messages(), timeout=TIMEOUT_S)
        ]
    assert [each.error_message for each in heard] == [
        "Unable to parse request",
        "Request for unknown model: '' is not found",
    ]
