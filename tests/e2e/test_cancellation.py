"""Clients that go away in the middle of their requests harm nobody whose requests share their batches."""

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from .house import Server, poll
from .wire import SERVICE, infer

Serve = Callable[..., Server]
AskFor = Callable[[Server, grpc.aio.Channel, int], Coroutine[None, None, int]]

GIVEN_UP = 1000
ROUND = 125
"""Requests that are in flight together."""
STAYS = 5
"""Every so many requests one is not given up: it shares its batch with others that are."""
BATCH = 8
"""Rows of `slow` that run together."""
TIMEOUT_S = 20


# --- three ways to ask for a number, and to leave when the task that waits is cancelled ---


async def ask_over_http(server: Server, _channel: grpc.aio.Channel, number: int) -> int:
    """Ask on a connection of its own; leaving is hanging up."""
    tensor = {"name": "INPUT0", "datatype": "INT32", "shape": [1, 2], "data": [number, 0]}
    body = json.dumps({"inputs": [tensor]}).encode()
    reader, writer = await asyncio.open_connection(*server.http.split(":"))
    try:
        writer.write(
            b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: house\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        answer = json.loads(await reader.readexactly(length))
        return int(answer["outputs"][0]["data"][0])
    finally:
        writer.close()


def message(number: int) -> pb.ModelInferRequest:
    """Write the request of both calls."""
    asked = pb.ModelInferRequest(model_name="slow")
    asked.inputs.add(name="INPUT0", datatype="INT32", shape=[1, 2]).contents.int_contents.extend([number, 0])
    return asked


def number_of(response: pb.ModelInferResponse) -> int:
    """Read the number back."""
    return int.from_bytes(response.raw_output_contents[0][:4], "little")


async def ask_over_grpc(_server: Server, channel: grpc.aio.Channel, number: int) -> int:
    """Ask in a call of its own; leaving cancels the call."""
    rpc: Any = channel.unary_unary(
        f"/{SERVICE}/ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
    )
    return number_of(await rpc(message(number)))


async def ask_over_a_stream(_server: Server, channel: grpc.aio.Channel, number: int) -> int:
    """Ask in a stream of its own; leaving cancels the stream."""
    rpc: Any = channel.stream_stream(
        f"/{SERVICE}/ModelStreamInfer",
        pb.ModelInferRequest.SerializeToString,
        pb.ModelStreamInferResponse.FromString,
    )
    stream = rpc()
    try:
        await stream.write(message(number))
        answer = await stream.read()
        assert not answer.error_message
        return number_of(answer.infer_response)
    finally:
        stream.cancel()


WAYS: tuple[AskFor, ...] = (ask_over_http, ask_over_grpc, ask_over_a_stream)


# --- what the server counts ---


def count(server: Server, what: str) -> int:
    """Return a counter of `slow`."""
    return int(server.read_metric(f"nv_inference_{what}", model="slow"))


def answered(server: Server) -> int:
    """Return how many requests have come to their end."""
    return count(server, "request_success") + count(server, "request_failure")


def arrived(server: Server) -> int:
    """Return how many requests have come in, but for those that run right now, `BATCH` at most."""
    return answered(server) + count(server, "pending_request_count")


async def until_arrived(server: Server, number: int) -> None:
    """Wait until so many requests have come in."""
    await asyncio.to_thread(poll, lambda: arrived(server) >= number - BATCH, "all requests are there")


@pytest.fixture
def server(pick: Callable[..., Path], serve: Serve) -> Server:
    return serve(pick("slow", "echo"))


async def test_a_thousand_requests_given_up_in_flight_harm_nobody_else(server: Server) -> None:
    asked = given_up = 0
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        while given_up < GIVEN_UP:
            numbers = range(asked, asked + ROUND)
            tasks = {
                number: asyncio.create_task(WAYS[number % len(WAYS)](server, channel, number))
                for number in numbers
            }
            asked += ROUND
            await until_arrived(server, asked)
            for number in numbers:
                if number % STAYS:
                    tasks[number].cancel()
            async with asyncio.timeout(TIMEOUT_S):
                answers = await asyncio.gather(*tasks.values(), return_exceptions=True)
            for number, answer in zip(numbers, answers, strict=True):
                if isinstance(answer, asyncio.CancelledError) and number % STAYS:
                    given_up += 1
                else:
                    assert answer == number
    await asyncio.to_thread(poll, lambda: answered(server) == asked, "every request has come to its end")
    assert count(server, "pending_request_count") == 0
    assert server.read_metric("nv_inference_request_failure", model="slow", reason="CANCELED") > GIVEN_UP / 2
    assert server.read_metric("nv_inference_request_failure", model="slow", reason="CANCELED") == count(
        server, "request_failure"
    )
    for model, datatype in (("slow", "INT32"), ("echo", "FP32")):
        tensor = {"name": "INPUT0", "datatype": datatype, "shape": [1, 2], "data": [1, 2]}
        assert infer(server.http, model, {"inputs": [tensor]})[0] == 200
    assert not re.search(r"^[WE]\d", server.logged(), re.MULTILINE), "nothing is worth a warning"


def test_a_deadline_of_the_client_takes_its_request_back(server: Server) -> None:
    before = count(server, "request_failure")
    with grpc.insecure_channel(server.grpc) as channel:
        rpc = channel.unary_unary(f"/{SERVICE}/ModelInfer", pb.ModelInferRequest.SerializeToString, None)
        late = [rpc.future(message(number), timeout=0.1) for number in range(10 * BATCH)]
        codes = [call.code() for call in late]
    assert codes[-1] == grpc.StatusCode.DEADLINE_EXCEEDED
    poll(lambda: answered(server) == len(late), "every request has come to its end")
    assert count(server, "request_failure") >= before + 4 * BATCH
