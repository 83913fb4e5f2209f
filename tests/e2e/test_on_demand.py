"""More models than memory, on a whole server: each is there when it is asked for."""

import random
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .clients import LIBRARIES, Client
from .house import Server
from .wire import ask

Serve = Callable[..., Server]

MIB = 1 << 20
SIZE = 24 * MIB

HOLDS = f"""
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.weights = np.ones({SIZE}, np.uint8)

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUT", pb_utils.get_input_tensor_by_name(each, "IN").as_numpy())]
            )
            for each in requests
        ]
"""
CONFIG = """
backend: "python"
input [{ name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }]
output [{ name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }]
"""


def told(server: Server, what: str) -> int:
    """Return what the metrics tell of models on demand."""
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=10) as response:
        text = response.read().decode()
    (value,) = re.findall(rf"^deuteron_on_demand_{what} (\d+)$", text, re.MULTILINE)
    return int(value)


@pytest.mark.parametrize("library", LIBRARIES)
def test_eight_models_are_served_in_room_for_three(tmp_path: Path, serve: Serve, library: str) -> None:
    names = [f"model_{number}" for number in range(8)]
    for name in names:
        (tmp_path / "models" / name / "1").mkdir(parents=True)
        (tmp_path / "models" / name / "1" / "model.py").write_text(HOLDS)
        (tmp_path / "models" / name / "config.pbtxt").write_text(CONFIG)
    flags = ("--load-on-demand=true", f"--on-demand-memory-byte-size={3 * SIZE + SIZE // 2}")
    server = serve(tmp_path / "models", *flags)
    at_rest = server.resident_bytes()
    assert ask(server.http, "GET /v2/models/model_3/ready").status == 200
    assert ask(server.http, "GET /v2/models/model_3").body["inputs"][0]["name"] == "IN"
    assert told(server, "models") == 0
    rng = random.Random(7)
    with Client(library, server) as client:
        for _ in range(60):
            sent = np.array([rng.random()], np.float32)
            answer = client.infer(rng.choice(names), client.tensor("IN", sent)).as_numpy("OUT")
            assert answer.tolist() == sent.tolist()
            assert server.resident_bytes() < at_rest + 6 * SIZE
    assert told(server, "models") <= 3
    assert told(server, "evictions") > 10
    assert told(server, "used_bytes") <= 3.5 * SIZE
