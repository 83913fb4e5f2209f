"""The memory of a server stays as it is, however many requests it has answered."""

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from .house import Server
from .wire import SERVICE, TIMEOUT_S

Serve = Callable[..., Server]

WARM_UP = 20_000
REQUESTS = 100_000
GROWTH = 48 * (REQUESTS - WARM_UP)
"""Bytes that may be added after warming up: less than one small object kept for each request."""
GRPC_REQUESTS = 10_000
"""Requests over gRPC, before the first look at the memory and once more before the second."""
CONNECTIONS = 16
CALLS = 32
STREAMED = 100
"""Requests of one stream."""


# --- over HTTP: several kinds of requests, each with a name or a number that no other has ---

TENSOR = {"name": "INPUT0", "datatype": "FP32", "shape": [1, 16]}


def http_request(path: str, body: bytes, json_length: int = 0) -> bytes:
    """Write a request as it goes over the wire."""
    header = f"Inference-Header-Content-Length: {json_length}\r\n" if json_length else ""
    return (
        f"POST {path} HTTP/1.1\r\nHost: house\r\n{header}Content-Length: {len(body)}\r\n\r\n".encode() + body
    )


def plain(number: int) -> bytes:
    """Ask in JSON."""
    asked = {"id": str(number), "inputs": [{**TENSOR, "data": [0.5] * 16}]}
    return http_request("/v2/models/echo/infer", json.dumps(asked).encode())


def binary(number: int) -> bytes:
    """Ask in binary form, with a parameter of one's own."""
    tensor = {**TENSOR, "parameters": {"binary_data_size": 64}}
    parameters = {"binary_data_output": True, f"mine_{number}": number}
    head = json.dumps({"id": str(number), "inputs": [tensor], "parameters": parameters}).encode()
    return http_request("/v2/models/echo/infer", head + bytes(64), len(head))


def unknown(number: int) -> bytes:
    """Ask a model that does not exist, each time another one."""
    return http_request(f"/v2/models/nobody_{number}/infer", b"{}")


def misshapen(number: int) -> bytes:
    """Ask for more rows than the model takes."""
    asked = {"id": str(number), "inputs": [{**TENSOR, "shape": [9, 1], "data": [0.5] * 9}]}
    return http_request("/v2/models/echo/infer", json.dumps(asked).encode())


KINDS = {plain: 200, binary: 200, unknown: 404, misshapen: 400}


def ask_over_http(server: Server, numbers: range) -> None:
    """Send so many requests, or a few more, on kept connections, on each one of every kind at a time."""
    with ExitStack() as stack:
        address = server.http.split(":")
        connections = [
            stack.enter_context(socket.create_connection((address[0], int(address[1])), TIMEOUT_S))
            for _ in range(CONNECTIONS)
        ]
        kinds, statuses = list(KINDS), list(KINDS.values())
        for start in range(numbers.start, numbers.stop, CONNECTIONS * len(kinds)):
            for place, connection in enumerate(connections):
                first = start + place * len(kinds)
                connection.sendall(b"".join(kind(first + offset) for offset, kind in enumerate(kinds)))
            for connection in connections:
                assert read_statuses(connection, len(kinds)) == statuses


def read_statuses(connection: socket.socket, count: int) -> list[int]:
    """Read so many responses and return their statuses."""
    statuses: list[int] = []
    heard = b""
    while len(statuses) < count:
        head, found, rest = heard.partition(b"\r\n\r\n")
        length = int(head.partition(b"\nContent-Length: ")[2].partition(b"\r")[0]) if found else 0
        if found and len(rest) >= length:
            statuses.append(int(head[9:12]))
            heard = rest[length:]
        else:
            piece = connection.recv(1 << 16)
            assert piece, "the server hung up"
            heard += piece
    assert not heard
    return statuses


# --- over gRPC: calls and streams ---


def message(number: int) -> bytes:
    """Write one request; one of ten is for a model that does not exist."""
    asked = pb.ModelInferRequest(
        model_name=f"nobody_{number}" if number % 10 == 0 else "echo", id=str(number)
    )
    asked.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 16])
    asked.raw_input_contents.append(bytes(64))
    return bytes(asked.SerializeToString())


async def ask_over_grpc(server: Server, numbers: range) -> None:
    """Send one half of the requests in calls of their own, the other in streams."""
    middle = (numbers.start + numbers.stop) // 2
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        for start in range(numbers.start, middle, CALLS):
            await asyncio.gather(
                *(call(channel, number) for number in range(start, min(start + CALLS, middle)))
            )
        for start in range(middle, numbers.stop, STREAMED):
            await stream(channel, range(start, min(start + STREAMED, numbers.stop)))


async def call(channel: grpc.aio.Channel, number: int) -> None:
    rpc: Any = channel.unary_unary(f"/{SERVICE}/ModelInfer", None, None)
    code = await rpc(message(number)).code()
    assert code is (grpc.StatusCode.NOT_FOUND if number % 10 == 0 else grpc.StatusCode.OK)


async def stream(channel: grpc.aio.Channel, numbers: range) -> None:
    rpc: Any = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer", None, None)
    answers = [answer async for answer in rpc(map(message, numbers))]
    assert len(answers) == len(numbers)


# --- the test ---


@pytest.mark.slow
def test_a_hundred_thousand_requests_leave_the_memory_as_it_was(
    pick: Callable[..., Path], serve: Serve
) -> None:
    server = serve(pick("echo"))

    def ask(numbers: range) -> None:
        ask_over_http(server, range(numbers.start, numbers.stop - GRPC_REQUESTS))
        asyncio.run(ask_over_grpc(server, range(numbers.stop - GRPC_REQUESTS, numbers.stop)))

    ask(range(WARM_UP))
    before = server.resident_bytes()
    ask(range(WARM_UP, REQUESTS))
    grown = server.resident_bytes() - before
    assert grown < GROWTH, f"{grown / (REQUESTS - WARM_UP):.0f} bytes a request"
