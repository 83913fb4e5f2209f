"""Sequences through whole servers: each finds its own state, however many run, over every protocol."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import numpy as np
import onnx
import pytest
import tritonclient.grpc
from onnx import TensorProto, helper
from tritonclient.grpc import InferInput, InferResult
from tritonclient.utils import InferenceServerException

from .clients import LIBRARIES, Client
from .house import Server, poll, serving
from .wire import ask

SEQUENCES: Final = 60
STEPS: Final = 12
THREADS: Final = 24
TIMEOUT_S: Final = 20

CONFIG: Final = """
max_batch_size: 4
instance_group [ { count: 2 kind: KIND_CPU } ]
input [ { name: "INPUT" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "OUTPUT" data_type: TYPE_INT32 dims: [ -1 ] } ]
"""
ONE: Final = CONFIG.replace("dims: [ -1 ]", "dims: [ 1 ]")
FLAGS: Final = """
control_input [
  { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
  { name: "END" control [ { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } ] },
  { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } ] }
]
"""
CORRELATION: Final = """
control_input [
  { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING } ] }
]
"""
STATE: Final = 'state { input_name: "BEFORE" output_name: "AFTER" data_type: TYPE_INT32 dims: [ 1 ] }'
IMPATIENT: Final = "max_sequence_idle_microseconds: 100000"

FRAGILE: Final = """
backend: "identity"
max_batch_size: 4
input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ -1 ] } ]
sequence_batching { }
parameters { key: "break_every" value { string_value: "3" } }
parameters { key: "execute_delay_ms" value { string_value: "300" } }
"""

MODELS: Final = {
    "fragile": FRAGILE,
    "direct": f'backend: "sequence" {CONFIG} sequence_batching {{ {FLAGS} }}',
    "oldest": f'backend: "dyna_sequence" {CONFIG} sequence_batching {{ oldest {{ }} {FLAGS} {CORRELATION} }}',
    "python": f'backend: "python" {CONFIG} sequence_batching {{ {FLAGS} }}',
    "onnx": f'backend: "onnxruntime" {ONE} sequence_batching {{ {STATE} }}',
    "told": f'backend: "python" {CONFIG} sequence_batching {{ oldest {{ }} {IMPATIENT} }}',
    "impatient": f'backend: "sequence" {CONFIG} sequence_batching {{ {FLAGS} {IMPATIENT} }}',
}

ACCUMULATOR: Final = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        responses = []
        for row, request in enumerate(requests):
            said = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            if said["READY"].item():
                before = 0 if said["START"].item() else self.sums[row]
                self.sums[row] = before + said["INPUT"].sum()
            output = np.full(said["INPUT"].shape, self.sums.get(row, 0), np.int32)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", output)]))
        return responses
"""


TOLD: Final = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.family = pb_utils.MetricFamily("model_forgot", "Sequences", pb_utils.MetricFamily.COUNTER)
        self.forgot = {id_: self.family.Metric({"id": str(id_)}) for id_ in (1, 2)}

    def forget_sequence(self, correlation_id, slot):
        self.forgot[correlation_id].increment(1)

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUTPUT", pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy())]
            )
            for request in requests
        ]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve models that add up their sequences, under both strategies."""
    root: Path = tmp_path_factory.mktemp("sequences")
    for name, config in MODELS.items():
        (root / "models" / name / "1").mkdir(parents=True)
        (root / "models" / name / "config.pbtxt").write_text(config)
    (root / "models" / "python" / "1" / "model.py").write_text(ACCUMULATOR)
    save_onnx_accumulator(root / "models" / "onnx" / "1" / "model.onnx")
    (root / "models" / "told" / "1" / "model.py").write_text(TOLD)
    with serving(root / "models", root / "server.log") as server:
        yield server


def save_onnx_accumulator(path: Path) -> None:
    """Write a model that adds its input to what it was told by itself."""

    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.INT32, ["rows", 1])

    nodes = [helper.make_node("Add", ["INPUT", "BEFORE"], [name]) for name in ("AFTER", "OUTPUT")]
    inputs, outputs = [value("INPUT"), value("BEFORE")], [value("OUTPUT"), value("AFTER")]
    graph = helper.make_graph(nodes, "accumulator", inputs, outputs)
    opsets = [helper.make_opsetid("", 21)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)


def flags(step: int, steps: int) -> dict[str, bool]:
    """Return the flags of a step of a sequence."""
    return {"sequence_start": step == 0, "sequence_end": step == steps - 1}


def ask_for(
    server: Server,
    model: str,
    number: int,
    sequence_id: int | str,
    **told: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Ask over plain HTTP; return the sum, or the message of the error."""
    tensor = {
        "name": "INPUT0" if model == "fragile" else "INPUT",
        "datatype": "INT32",
        "shape": [1, 1],
        "data": [number],
    }
    body = {"parameters": {"sequence_id": sequence_id, **told}, "inputs": [tensor]}
    answer = ask(server.http, f"POST /v2/models/{model}/infer", body).body
    return answer["error"] if "error" in answer else answer["outputs"][0]["data"][0]


def walk(server: Server, model: str, sequence_id: int | str, steps: int = STEPS) -> bool:
    """Take a sequence from its start to its end; tell whether every sum was right."""
    rng = random.Random(str(sequence_id))
    total, added = 0, int(sequence_id) if model == "oldest" else 0
    for step in range(steps):
        number = rng.randrange(1000)
        total += number
        last = step == steps - 1
        if ask_for(server, model, number, sequence_id, **flags(step, steps)) != total + last * added:
            return False
    return True


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("sequence_id", [1007, "1007"])
@pytest.mark.parametrize("model", ["direct", "python"])
def test_every_client_is_served_its_sequence(
    server: Server, library: str, sequence_id: int | str, model: str
) -> None:
    with Client(library, server) as client:
        sums = []
        for step, number in enumerate((1, 20, 300)):
            tensor = client.tensor("INPUT", np.array([[number, 0]], np.int32))
            result = client.infer(model, tensor, sequence_id=sequence_id, **flags(step, 3))
            sums.append(result.as_numpy("OUTPUT").tolist())
    assert sums == [[[1, 1]], [[21, 21]], [[321, 321]]]


@pytest.mark.parametrize("model", ["direct", "oldest", "python", "onnx"])
def test_more_sequences_than_slots_are_all_added_up_rightly(server: Server, model: str) -> None:
    with ThreadPoolExecutor(THREADS) as threads:
        # Texts, for one of the models asks for CORRID as a text; to the others it is all one.
        right = list(threads.map(lambda id_: walk(server, model, str(id_)), range(1, SEQUENCES + 1)))
    assert right == [True] * SEQUENCES
    (told,) = ask(server.http, f"GET /v2/models/{model}/stats").body["model_stats"]
    assert told["inference_count"] == told["inference_stats"]["success"]["count"]
    assert server.read_metric("nv_inference_pending_request_count", model=model) == 0


@pytest.mark.parametrize("model", ["direct", "python", "onnx"])
def test_sequences_that_share_a_stream_do_not_mix(server: Server, model: str) -> None:
    heard: SimpleQueue[InferResult | InferenceServerException] = SimpleQueue()
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: heard.put(error or result))
        for step in range(STEPS):
            for id_ in range(1, 11):
                tensor = InferInput("INPUT", [1, 1], "INT32")
                tensor.set_data_from_numpy(np.array([[id_]], np.int32))
                client.async_stream_infer(
                    model, [tensor], request_id=f"{id_} {step}", sequence_id=id_, **flags(step, STEPS)
                )
        results = [heard.get(timeout=TIMEOUT_S) for _ in range(10 * STEPS)]
        client.stop_stream()
    for result in results:
        assert isinstance(result, InferResult), result
        id_, step = map(int, result.get_response().id.split())
        assert result.as_numpy("OUTPUT").item() == id_ * (step + 1)


NO_START: Final = (
    "inference request for sequence 5 to model 'direct' must specify the START flag on the first request of "
    "the sequence"
)
NO_ID: Final = "inference request to model 'direct' must specify a non-zero or non-empty correlation ID"
TWO_ROWS: Final = (
    "inference request to model 'direct' must specify batch-size 1 due to requirements of sequence batcher"
)


@pytest.mark.parametrize(
    ("told", "error"),
    [({"sequence_id": 5}, NO_START), ({"sequence_id": 0, "sequence_start": True}, NO_ID)],
)
def test_a_request_out_of_sequence_is_refused(server: Server, told: dict[str, Any], error: str) -> None:
    assert ask_for(server, "direct", 1, **told) == error
    with Client("grpc", server) as client:
        tensor = client.tensor("INPUT", np.array([[1]], np.int32))
        refusal = client.refusal("infer", "direct", [tensor], **told)
    assert refusal == ("StatusCode.INVALID_ARGUMENT", error)


def test_a_request_of_several_rows_is_refused(server: Server) -> None:
    with Client("http", server) as client:
        tensor = client.tensor("INPUT", np.ones((2, 1), np.int32))
        _, message = client.refusal("infer", "direct", [tensor], sequence_id=1, sequence_start=True)
    assert message == TWO_ROWS


def test_a_client_may_not_send_what_the_server_adds(server: Server) -> None:
    with Client("grpc", server) as client:
        tensors = [client.tensor(name, np.array([[1]], np.int32)) for name in ("INPUT", "START")]
        _, message = client.refusal("infer", "direct", tensors, sequence_id=1, sequence_start=True)
    assert "expected 1 inputs but got 2 inputs for model 'direct'" in message


def test_a_number_is_refused_where_the_model_wants_a_text(server: Server) -> None:
    error = ask_for(server, "oldest", 1, 5, sequence_start=True)
    assert error.endswith(
        "sequence batching control 'CORRID' data-type is 'UINT64', but model 'oldest' expects 'BYTES'"
    )


def test_a_model_is_told_of_abandoned_sequences_and_so_are_the_metrics(server: Server) -> None:
    for id_ in (1, 2):
        assert ask_for(server, "told", id_, id_, sequence_start=True, sequence_end=id_ == 2) == id_

    def told() -> tuple[float, ...]:
        return (
            server.read_metric("model_forgot", id="1"),
            server.read_metric("model_forgot", id="2"),
            server.read_metric("deuteron_sequence_ends", model="told", reason="abandoned"),
            server.read_metric("deuteron_sequence_ends", model="told", reason="ended"),
            server.read_metric("deuteron_sequence_length_sum", model="told"),
            server.read_metric("deuteron_sequence_age_seconds_count", model="told"),
            server.read_metric("deuteron_sequence_live", model="told"),
        )

    poll(lambda: told() == (1, 0, 1, 1, 2, 2, 0), "the sequence without an end is forgotten")


def test_abandoned_sequences_do_not_keep_others_out(server: Server) -> None:
    """Eight slots, eight sequences that never end; the ninth gets a slot when they are forgotten."""
    for id_ in range(1, 9):
        assert ask_for(server, "impatient", id_, id_, sequence_start=True) == id_
    assert ask_for(server, "impatient", 5, 9, sequence_start=True, sequence_end=True) == 5
    assert "must specify the START flag" in ask_for(server, "impatient", 1, 1)


def test_a_sequence_whose_instance_breaks_must_begin_again(server: Server) -> None:
    """Of two requests at once one breaks the instance and one waits for it; then the instance is back."""
    assert [ask_for(server, "fragile", 1, id_, sequence_start=True) for id_ in (1, 2)] == [1, 1]
    with ThreadPoolExecutor(2) as threads:
        broke, lost = sorted(threads.map(lambda number: ask_for(server, "fragile", number, 1), (5, 6)))
    assert "broke: DeliberateBreakError" in broke
    assert lost == "the instance of this sequence broke; the sequence must begin again with the START flag"
    for id_ in (1, 2):
        assert "must specify the START flag" in ask_for(server, "fragile", 1, id_)
        assert ask_for(server, "fragile", 7, id_, sequence_start=True) == 7
