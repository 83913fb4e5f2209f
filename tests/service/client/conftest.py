"""A server with a few functions, for clients of every kind."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

from deuteron import ModelConfig, Request, Server, ServerConfig, Tensor, batch

Value = Any


@batch
def add_sub(a: Value, b: Value, **more: Value) -> dict[str, Value]:
    """Add and subtract; `more` is what a request may leave out."""
    bias = more.get("bias", 0)
    return {"add": a + b + bias, "sub": a - b + bias}


def scale(requests: list[Request]) -> list[dict[str, Value]]:
    """Multiply by a parameter, divide by a header."""
    return [
        {"y": each["x"] * float(each.parameters["times"]) / float(each.parameters["header_by"])}
        for each in requests
    ]


def upper(requests: list[Request]) -> list[dict[str, Value]]:
    """Turn strings into capitals."""
    return [{"y": np.array([each.upper() for each in request["x"]], np.object_)} for request in requests]


def fail(_: list[Request]) -> list[dict[str, Value]]:
    """Fail."""
    raise ValueError("no such luck")


async def never(requests: list[Request]) -> list[dict[str, Value]]:
    """Answer when nobody can wait any more."""
    await asyncio.Event().wait()
    return [{"y": each["x"]} for each in requests]


async def count(requests: list[Request]) -> AsyncIterator[list[dict[str, Value]]]:
    """Count up to what came; -1 is for ever, and a negative number fails on the way."""
    limit = requests[0]["x"].ravel()[0]
    number = 0
    while number != abs(limit):
        await asyncio.sleep(0)
        yield [{"y": np.full_like(each["x"], number)} for each in requests]
        number += 1
    if limit < 0:
        raise ValueError("no more")


def number(name: str, *, optional: bool = False, dtype: Value = np.float32) -> Tensor:
    """Return a tensor of any number of numbers."""
    return Tensor(dtype, (-1,), name, optional)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Serve all of them."""
    places = {f"{door}_address": "127.0.0.1" for door in ("http", "grpc", "metrics")}
    ports = {f"{door}_port": 0 for door in ("http", "grpc", "metrics")}
    patterns = {f"{door}_header_forward_pattern": "header.*" for door in ("http", "grpc")}
    server = Server(ServerConfig(**places, **ports, **patterns, model_control_mode="explicit"))
    inputs = [number("a"), number("b"), number("bias", optional=True)]
    server.bind(
        "add_sub", add_sub, inputs, [number("add"), number("sub")], config=ModelConfig(max_batch_size=8)
    )
    x, y, alone = [number("x")], [number("y")], ModelConfig(batching=False)
    server.bind("scale", scale, x, y, config=alone)
    server.bind("upper", upper, [number("x", dtype=bytes)], [number("y", dtype=bytes)], config=alone)
    server.bind("fail", fail, x, y, config=alone)
    server.bind("never", never, x, y, config=alone)
    server.bind("count", count, x, y, config=ModelConfig(batching=False, decoupled=True))
    server.bind("count_batch", count, x, y, config=ModelConfig(decoupled=True))
    with server:
        yield server


@pytest.fixture(params=["http", "grpc"])
def url(request: pytest.FixtureRequest, server: Server) -> str:
    """Give the URL of each door in turn."""
    service = {"http": "HTTPService", "grpc": "GRPCInferenceService"}[request.param]
    return f"{request.param}://{server.addresses[service]}"


@pytest.fixture
def grpc_url(server: Server) -> str:
    """Give the URL that streams."""
    return f"grpc://{server.addresses['GRPCInferenceService']}"


@pytest.fixture
def nobody() -> Iterator[str]:
    """Give the URL of a place where nobody listens."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"
