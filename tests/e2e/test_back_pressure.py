"""A model that is faster than its client waits where it sends, and its server holds little for them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from .house import Server, poll
from .wire import SERVICE

Serve = Callable[..., Server]

COUNT = 4000
"""Responses of 64 KiB each: 250 MiB."""
MUCH = 1500
"""More than a server, its sockets and a client may hold of them together."""
TIMEOUT_S = 60


@pytest.fixture
def server(pick: Callable[..., Path], serve: Serve) -> Server:
    """Serve the model that sends as fast as it can, and one to see whether others are served."""
    return serve(pick("flood", "echo"))


def flood(channel: grpc.Channel, count: int) -> Any:  # noqa: ANN401 - the calls of grpc have no types
    """Ask for so many large responses, and return the call, for the test to read."""
    asked = pb.ModelInferRequest(model_name="flood")
    asked.inputs.add(name="COUNT", datatype="INT32", shape=[1]).contents.int_contents.append(count)
    stream = channel.stream_stream(
        f"/{SERVICE}/ModelStreamInfer",
        pb.ModelInferRequest.SerializeToString,
        pb.ModelStreamInferResponse.FromString,
    )
    return stream(iter([asked]), timeout=TIMEOUT_S)


def sent(server: Server) -> int:
    """Return how many responses the model has sent."""
    return server.logged().count("sent ")


def numbers(stream: Iterator[pb.ModelStreamInferResponse]) -> Iterator[int]:
    """Yield the numbers of the responses."""
    for told in stream:
        assert not told.error_message
        yield int.from_bytes(told.infer_response.raw_output_contents[0], "little")


def until_it_waits(server: Server) -> int:
    """Wait until the model sends no more; return how many responses it has sent."""
    before = [-1, -1, -1]

    def is_still() -> bool:
        before.append(sent(server))
        return before[-1] > 0 and len(set(before[-4:])) == 1

    poll(is_still, "the model waits", TIMEOUT_S)
    return before[-1]


def test_a_slow_client_gets_everything_in_order_and_little_waits_for_it(server: Server) -> None:
    """The model stops far from its end, others are served meanwhile, and it goes on with its client."""
    with grpc.insecure_channel(server.grpc) as channel:
        stream = flood(channel, COUNT)
        read = numbers(stream)
        assert next(read) == 0
        assert until_it_waits(server) < MUCH
        assert list(numbers(flood(channel, 3))) == [0, 1, 2]
        assert list(read) == list(range(1, COUNT))


def test_a_client_that_goes_away_lets_the_model_go_on(server: Server) -> None:
    """All instances wait for clients who do not read; when these leave, others are served."""
    with grpc.insecure_channel(server.grpc) as channel:
        streams = [flood(channel, COUNT) for _ in range(2)]
        for stream in streams:
            next(stream)
        until_it_waits(server)
        for stream in streams:
            stream.cancel()
        assert list(numbers(flood(channel, 3))) == [0, 1, 2]


def test_a_server_comes_to_its_end_while_a_model_waits(pick: Callable[..., Path], serve: Serve) -> None:
    """Its client does not read; when the time to drain is over it is failed, and the server exits well."""
    server = serve(pick("flood"), "--exit-timeout-secs=1")
    with grpc.insecure_channel(server.grpc) as channel:
        stream = flood(channel, COUNT)
        next(stream)
        until_it_waits(server)
        server.process.terminate()
        server.process.wait(TIMEOUT_S)
