"""Traces as spans: a real collector receives what Triton would send, in the trace that the client began."""

import json
import queue
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc

from .clients import Client
from .collector import Collector, collecting, events, tree
from .house import Server, poll

Serve = Callable[..., Server]
Pick = Callable[..., Path]

TRACE_ID = "0af7651916cd43dd8448eb211c12666c"
SPAN_ID = "b7ad6b7169242424"
HEADERS = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01", "tracestate": "vendor=1"}

REQUEST = ["REQUEST_START", "QUEUE_START", "REQUEST_END"]
COMPUTE = ["COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"]
RECEIVED = {
    "http": ["HTTP_RECV_START", "HTTP_RECV_END"],
    "grpc": ["GRPC_WAITREAD_START", "GRPC_WAITREAD_END"],
}
SENT = {"http": ["HTTP_SEND_START", "HTTP_SEND_END"], "grpc": ["GRPC_SEND_START", "GRPC_SEND_END"]}

CALLER = """\
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        context = request.trace().get_context()
        asked = pb_utils.InferenceRequest(
            inputs=[pb_utils.Tensor("INPUT0", np.ones([1, 4], np.float32))],
            requested_output_names=["OUTPUT0"],
            model_name="echo",
            trace=request.trace(),
        )
        asked.exec()
        told = np.array([str(context)], np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("CONTEXT", told)])
"""

CALLER_CONFIG = """\
backend: "python"
input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "CONTEXT" data_type: TYPE_STRING dims: [ 1 ] } ]
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


Trace = Callable[..., Server]


@pytest.fixture
def trace(pick: Pick, serve: Serve, collector: Collector) -> Trace:
    """Serve models, with every request traced unless flags say otherwise."""

    def trace_(*models: str, rate: int = 1) -> Server:
        return serve(
            pick(*models),
            "--trace-config=mode=opentelemetry",
            "--trace-config=level=TIMESTAMPS",
            f"--trace-config=rate={rate}",
            f"--trace-config=opentelemetry,url={collector.url.removeprefix('http://')}",
            "--trace-config=opentelemetry,resource=test.key=test=value",
            "--trace-config=opentelemetry,resource=service.name=test_triton",
            "--trace-config=opentelemetry,bsp_schedule_delay=50",
        )

    return trace_


def echo(server: Server, protocol: str, headers: dict[str, str] | None = None, **options: object) -> None:
    with Client(protocol, server) as client:
        tensor = client.tensor("INPUT0", np.ones((1, 4), np.float32))
        client.infer("echo", tensor, headers=headers and dict(headers), **options)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_request_has_three_spans_with_tritons_names_events_and_attributes(
    trace: Trace, collector: Collector, protocol: str
) -> None:
    server = trace("echo")
    echo(server, protocol, request_id="seven")
    spans = {span.name: span for span in collector.wait_for(3)}
    assert tree(list(spans.values())) == {"InferRequest": ["echo"], "echo": ["compute"]}
    assert {span.kind for span in spans.values()} == {spans["echo"].SPAN_KIND_SERVER}
    assert events(spans["echo"]) == REQUEST
    assert events(spans["compute"]) == COMPUTE
    root = spans["InferRequest"]
    assert events(root) == [*RECEIVED[protocol], "INFER_RESPONSE_COMPLETE", *SENT[protocol]]
    assert root.parent_span_id == b""
    for inner in spans.values():
        assert root.start_time_unix_nano <= inner.start_time_unix_nano <= inner.end_time_unix_nano
        assert inner.end_time_unix_nano <= root.end_time_unix_nano
    attributes = {each.key: each.value for each in spans["echo"].attributes}
    assert attributes["triton.model_name"].string_value == "echo"
    assert attributes["triton.request_id"].string_value == "seven"
    numbers = {name: attributes[f"triton.{name}"].int_value for name in NUMBERS}
    assert numbers == {"model_version": 1, "trace_id": 1, "trace_parent_id": 0}
    assert collector.resource().items() >= {"service.name": "test_triton", "test.key": "test=value"}.items()
    assert collector.exports[0].resource_spans[0].scope_spans[0].scope.name == "triton-server"


NUMBERS = ("model_version", "trace_id", "trace_parent_id")


def stream_echo(server: Server) -> None:
    told: queue.Queue[object] = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        tensor = tritonclient.grpc.InferInput("INPUT0", [1, 4], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
        client.start_stream(lambda result, error: told.put(error or result), headers=HEADERS)
        client.async_stream_infer("echo", [tensor])
        told.get(timeout=10)
        client.stop_stream()


WAYS: dict[str, Callable[[Server], None]] = {
    "http": partial(echo, protocol="http", headers=HEADERS),
    "http, compressed": partial(echo, protocol="http", headers=HEADERS, request_compression_algorithm="gzip"),
    "grpc": partial(echo, protocol="grpc", headers=HEADERS),
    "grpc stream": stream_echo,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_request_is_part_of_the_trace_that_its_client_began(
    trace: Trace, collector: Collector, way: str
) -> None:
    server = trace("echo", rate=0)  # so that nobody else is traced
    echo(server, "http")
    WAYS[way](server)
    spans = collector.wait_for(3)
    assert {span.trace_id.hex() for span in spans} == {TRACE_ID}
    roots = [span for span in spans if span.name == "InferRequest"]
    assert [root.parent_span_id.hex() for root in roots] == [SPAN_ID]
    assert {span.trace_state for span in spans} == {"vendor=1"}


def test_the_steps_of_an_ensemble_are_below_it(trace: Trace, collector: Collector) -> None:
    server = trace("chain", "onnx_add_sub", "torch_double")
    with Client("http", server) as client:
        rows = np.ones((1, 4), np.float32)
        client.infer("chain", client.tensor("A", rows), client.tensor("B", rows))
    assert tree(collector.wait_for(6)) == {
        "InferRequest": ["chain"],
        "chain": ["onnx_add_sub", "torch_double"],
        "onnx_add_sub": ["compute"],
        "torch_double": ["compute"],
    }


def test_model_code_is_told_the_context_and_hands_it_on(
    pick: Pick, trace: Trace, collector: Collector
) -> None:
    caller = pick("echo") / "caller"
    (caller / "1").mkdir(parents=True)
    (caller / "1" / "model.py").write_text(CALLER)
    (caller / "config.pbtxt").write_text(CALLER_CONFIG)
    server = trace()
    with Client("http", server) as client:
        result = client.infer("caller", client.tensor("IN", np.ones(1, np.int32)), headers=dict(HEADERS))
    spans = collector.wait_for(5)
    assert tree(spans) == {"InferRequest": ["caller"], "caller": ["compute", "echo"], "echo": ["compute"]}
    own = next(span for span in spans if span.name == "caller")
    assert json.loads(result.as_numpy("CONTEXT")[0]) == {
        "traceparent": f"00-{TRACE_ID}-{own.span_id.hex()}-01",
        "tracestate": "vendor=1",
    }


HELD = """\
from pathlib import Path
from time import sleep

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        here = Path(__file__).parent
        (here / "runs").touch()
        while not (here / "let go").exists():
            sleep(0.01)
        return [pb_utils.InferenceResponse([]) for _ in requests]
"""

HELD_CONFIG = """\
backend: "python"
max_batch_size: 1
input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
dynamic_batching { }
"""


def ignore(_result: object, _error: object) -> None:
    """Hear that a request has ended."""


def test_what_is_given_up_is_traced_to_its_end(pick: Pick, trace: Trace, collector: Collector) -> None:
    here = pick() / "held" / "1"
    here.mkdir(parents=True)
    (here / "model.py").write_text(HELD)
    (here.parent / "config.pbtxt").write_text(HELD_CONFIG)
    server = trace()
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        tensor = tritonclient.grpc.InferInput("IN", [1, 1], "INT32")
        tensor.set_data_from_numpy(np.ones((1, 1), np.int32))

        def ask() -> Any:  # noqa: ANN401 - the client is not typed
            return client.async_infer("held", [tensor], callback=ignore)

        runs = ask()
        poll((here / "runs").exists, "the first request runs")
        waits = ask()
        poll(lambda: server.read_metric("nv_inference_pending_request_count") == 1, "the next one waits")
        waits.cancel()
        runs.cancel()
        collector.wait_for(2)
        (here / "let go").touch()
        spans = collector.wait_for(5)
    assert sorted(span.name for span in spans) == ["InferRequest"] * 2 + ["compute"] + ["held"] * 2
    for span in spans:
        if span.name == "InferRequest":
            assert events(span) == RECEIVED["grpc"]


def test_the_settings_tell_the_mode_and_what_belongs_to_it(trace: Trace, collector: Collector) -> None:
    server = trace("echo")
    told = {
        "trace_level": ["TIMESTAMPS"],
        "trace_rate": "1",
        "trace_count": "-1",
        "trace_mode": "opentelemetry",
        "url": collector.url.removeprefix("http://"),
        "resource": "test.key=test=value,service.name=test_triton",
        "bsp_max_queue_size": "2048",
        "bsp_schedule_delay": "50",
        "bsp_max_export_batch_size": "512",
    }
    with Client("http", server) as client:
        assert client.call("get_trace_settings") == told
        assert client.call("update_trace_settings", "echo", {"trace_rate": "5"}) == told | {"trace_rate": "5"}


def test_a_collector_that_is_not_there_holds_up_nobody(pick: Pick, serve: Serve) -> None:
    server = serve(
        pick("echo"),
        "--trace-config=mode=opentelemetry",
        "--trace-config=level=TIMESTAMPS",
        "--trace-config=rate=1",
        "--trace-config=opentelemetry,url=http://127.0.0.1:9/v1/traces",
        "--trace-config=opentelemetry,bsp_schedule_delay=20",
    )
    for _ in range(20):
        echo(server, "http")
    poll(lambda: "Connection refused" in server.logged(), "the log tells of it")
    server.terminate()
    assert server.exit_status() == 0
