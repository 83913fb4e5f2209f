"""A program that serves two functions until it is told to stop; where it listens goes to standard output."""

import json
import logging
from typing import Any

import numpy as np
import numpy.typing as npt

from deuteron import ModelConfig, Server, ServerConfig, Tensor, batch

Array = npt.NDArray[Any]

logging.basicConfig(level=logging.INFO)


@batch
def add_sub(a: Array, b: Array) -> dict[str, Array]:
    """Add and subtract."""
    return {"add": a + b, "sub": a - b}


@batch
def negate(**inputs: Array) -> list[Array]:
    """Turn the sign."""
    (array,) = inputs.values()
    return [-array]


config = ServerConfig(
    **{f"{door}_address": "127.0.0.1" for door in ("http", "grpc", "metrics")},
    **{f"{door}_port": 0 for door in ("http", "grpc", "metrics")},
)

with Server(config) as server:
    server.bind(
        "AddSub",
        add_sub,
        [Tensor(np.float32, (-1,), "a"), Tensor(np.float32, (-1,), "b")],
        [Tensor(np.float32, (-1,), "add"), Tensor(np.float32, (-1,), "sub")],
        config=ModelConfig(max_batch_size=16),
        strict=True,
    )
    server.bind("Negate", negate, [Tensor(np.float32, (-1,))], [Tensor(np.float32, (-1,))])
    print(json.dumps(dict(server.addresses)), flush=True)  # noqa: T201 - the test reads it
    server.serve()
