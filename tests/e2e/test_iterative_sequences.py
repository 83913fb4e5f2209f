"""Iterative sequences through whole servers: a client asks once, and the model takes its steps."""

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Final

import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.grpc import InferInput, InferResult
from tritonclient.utils import InferenceServerException

from .clients import LIBRARIES, Client
from .house import Server, serving
from .wire import ask

TIMEOUT_S: Final = 20

TENSORS: Final = """
max_batch_size: 4
input [ { name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""
START: Final = """
control_input [
  { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
  { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } ] }
]
"""
COUNTDOWN: Final = f"""
backend: "iterative_sequence" {TENSORS} model_transaction_policy {{ decoupled: true }}
parameters {{ key: "execute_delay_ms" value {{ string_value: "1" }} }}
"""
STATE: Final = 'state { input_name: "BEFORE" output_name: "AFTER" data_type: TYPE_INT32 dims: [ 1 ] }'

MODELS: Final = {
    "countdown": f"{COUNTDOWN} sequence_batching {{ iterative_sequence: true }}",
    "dynamic": f"{COUNTDOWN} dynamic_batching {{ }}",
    "doubling": f'backend: "python" {TENSORS} sequence_batching {{ iterative_sequence: true {START} }}',
    "doubling_oldest": (
        f'backend: "python" {TENSORS} sequence_batching {{ iterative_sequence: true {START} '
        "oldest { preserve_ordering: true } }"
    ),
    "stated": f"""
        backend: "python" {TENSORS} model_transaction_policy {{ decoupled: true }}
        sequence_batching {{ iterative_sequence: true {STATE} }}
    """,
}

DOUBLING: Final = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    \"\"\"Doubles a number with every step until it exceeds 1000, and answers with the steps it took.\"\"\"

    def initialize(self, args):
        self.seen = {}

    def execute(self, requests):
        return [self.step(request) for request in requests]

    def step(self, request):
        told = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        if not told["READY"].item():
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", told["INPUT"])])
        id_ = request.correlation_id()
        if told["START"].item():
            assert request.flags() == pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START
            self.seen[id_] = (told["INPUT"].item(), 0)
        number, steps = self.seen[id_]
        self.seen[id_] = (2 * number, steps + 1)
        if 2 * number <= 1000:
            request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
            return None
        del self.seen[id_]
        output = np.array([[steps + 1]], np.int32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", output)])
"""

STATED: Final = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    \"\"\"Counts its steps in an implicit state, up to the number it was asked for.\"\"\"

    def execute(self, requests):
        for request in requests:
            told = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            count = told["BEFORE"] + 1
            tensors = [pb_utils.Tensor("OUTPUT", count), pb_utils.Tensor("AFTER", count)]
            done = (count >= told["INPUT"]).all()
            if not done:
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
            request.get_response_sender().send(pb_utils.InferenceResponse(tensors), int(done))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve models that take steps, and one that is not configured for it."""
    root: Path = tmp_path_factory.mktemp("iterative")
    for name, config in MODELS.items():
        (root / "models" / name / "1").mkdir(parents=True)
        (root / "models" / name / "config.pbtxt").write_text(config)
    for name, code in (("doubling", DOUBLING), ("doubling_oldest", DOUBLING), ("stated", STATED)):
        (root / "models" / name / "1" / "model.py").write_text(code)
    with serving(root / "models", root / "server.log") as server:
        yield server


def streamed(server: Server, model: str, *numbers: int) -> list[int | str]:
    """Ask a decoupled model, each number once; return all answers as they come, or an error as the last."""
    heard: SimpleQueue[InferResult | InferenceServerException] = SimpleQueue()
    answers: list[int | str] = []
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: heard.put(error or result))
        for number in numbers:
            tensor = InferInput("INPUT", [1, 1], "INT32")
            tensor.set_data_from_numpy(np.array([[number]], np.int32))
            client.async_stream_infer(model, [tensor], enable_empty_final_response=True)
        ended = 0
        while ended < len(numbers):
            result = heard.get(timeout=TIMEOUT_S)
            if isinstance(result, InferenceServerException):
                return [*answers, result.message()]
            ended += result.get_response().parameters["triton_final_response"].bool_param
            answers.append(result.as_numpy("OUTPUT").item())
    return answers


def test_a_stream_hears_every_step(server: Server) -> None:
    assert streamed(server, "countdown", 5) == [4, 3, 2, 1, 0]


def test_requests_beyond_the_slots_wait_for_their_turn(server: Server) -> None:
    assert sorted(streamed(server, "countdown", *[3] * 10)) == sorted([2, 1, 0] * 10)


def test_server_sent_events_hear_every_step(server: Server) -> None:
    url = f"http://{server.http}/v2/models/countdown/generate_stream"
    request = urllib.request.Request(url, json.dumps({"INPUT": 3}).encode())
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        events = [json.loads(line[6:]) for line in response if line.startswith(b"data: ")]
    assert [event["OUTPUT"] for event in events] == [2, 1, 0]


def test_a_model_that_is_not_iterative_fails_what_it_reschedules(server: Server) -> None:
    *_, error = streamed(server, "dynamic", 2)
    assert error == (
        "Request is released with TRITONSERVER_REQUEST_RELEASE_RESCHEDULE, while the model is not configured "
        "to handle such a flag."
    )


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("model", ["doubling", "doubling_oldest"])
def test_many_clients_get_one_answer_each_after_all_steps(server: Server, model: str, library: str) -> None:
    def steps(number: int) -> int:
        with Client(library, server) as client:
            tensor = client.tensor("INPUT", np.array([[number]], np.int32))
            return int(client.infer(model, tensor).as_numpy("OUTPUT").item())

    with ThreadPoolExecutor(10) as threads:
        assert list(threads.map(steps, [1, 3, 600, 40, 1, 7, 900, 100, 2, 5])) == [
            10, 9, 1, 5, 10, 8, 1, 4, 9, 8,
        ]  # fmt: skip


def test_a_state_is_carried_from_step_to_step_and_not_to_the_next_request(server: Server) -> None:
    assert streamed(server, "stated", 4) == [1, 2, 3, 4]
    assert streamed(server, "stated", 3) == [1, 2, 3]


def test_each_step_is_counted_and_nothing_is_left_pending(server: Server) -> None:
    (before,) = ask(server.http, "GET /v2/models/stated/stats").body["model_stats"]
    streamed(server, "stated", 6)
    (after,) = ask(server.http, "GET /v2/models/stated/stats").body["model_stats"]
    assert after["inference_count"] - before["inference_count"] == 6
    assert {str(index) for index in range(6)} <= set(after["response_stats"])
    assert server.read_metric("nv_inference_pending_request_count", model="stated") == 0
