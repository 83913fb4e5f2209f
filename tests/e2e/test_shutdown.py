"""A server that is told to stop answers what it has taken, and takes nothing more; told twice, it is gone."""

import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from .house import Server, poll
from .wire import SERVICE, TIMEOUT_S, call_infer, infer

Serve = Callable[..., Server]

IN_FLIGHT = 24
SHUTTING_DOWN = "GRPC server is shutting down and has stopped accepting new requests."

GOODBYE = """\
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([]) for request in requests]

    def finalize(self):
        pb_utils.Logger.log_info("goodbye from the model")
"""
GOODBYE_CONFIG = """\
backend: "python"
input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""


@pytest.fixture
def serve_slow(pick: Callable[..., Path], serve: Serve) -> Serve:
    """Serve the slow model, each of its requests running alone and taking so many milliseconds."""

    def start(milliseconds: int, *flags: str) -> Server:
        models = pick("slow")
        config = models / "slow" / "config.pbtxt"
        text = config.read_text().replace("max_batch_size: 8", "max_batch_size: 1")
        config.write_text(text.replace('"50"', f'"{milliseconds}"'))
        return serve(models, *flags)

    return start


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(IN_FLIGHT) as threads:
        yield threads


def ask_over_http(server: Server, number: int) -> tuple[int, list[int]]:
    """Ask the slow model; return status and data."""
    tensor = {"name": "INPUT0", "datatype": "INT32", "shape": [1, 2], "data": [number, 0]}
    status, body = infer(server.http, "slow", {"inputs": [tensor]})
    return status, body["outputs"][0]["data"]


def message(number: int) -> pb.ModelInferRequest:
    """Write the same request for gRPC."""
    asked = pb.ModelInferRequest(model_name="slow", id=str(number))
    asked.inputs.add(name="INPUT0", datatype="INT32", shape=[1, 2]).contents.int_contents.extend([number, 0])
    return asked


def wait_for(server: Server, number: int) -> None:
    """Wait until so many requests have come in: one of them runs, the others are answered or wait."""
    names = ("nv_inference_pending_request_count", "nv_inference_request_success")

    def are_there() -> bool:
        return sum(server.read_metric(name, model="slow") for name in names) >= number - 1

    poll(are_there, f"{number} requests have come in")


def wait_until_stopping(server: Server) -> None:
    """Wait until the server has heard that it is to stop."""
    poll(lambda: "received." in server.logged(), "the server has heard the signal")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_answered_over_http(
    serve_slow: Serve, threads: ThreadPoolExecutor, number: signal.Signals
) -> None:
    server = serve_slow(30)
    futures = [threads.submit(ask_over_http, server, index) for index in range(IN_FLIGHT)]
    wait_for(server, IN_FLIGHT)
    server.process.send_signal(number)
    assert [future.result() for future in futures] == [(200, [index, 0]) for index in range(IN_FLIGHT)]
    assert server.exit_status() == 0


def test_requests_in_flight_are_answered_over_grpc(serve_slow: Serve) -> None:
    server = serve_slow(30)
    with grpc.insecure_channel(server.grpc) as channel:
        rpc = channel.unary_unary(
            f"/{SERVICE}/ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )
        futures = [rpc.future(message(index), timeout=TIMEOUT_S) for index in range(IN_FLIGHT)]
        wait_for(server, IN_FLIGHT)
        server.terminate()
        assert [future.result().id for future in futures] == [str(index) for index in range(IN_FLIGHT)]
    assert server.exit_status() == 0


def test_requests_in_flight_are_answered_on_a_stream_and_then_it_ends(serve_slow: Serve) -> None:
    server = serve_slow(30)
    with grpc.insecure_channel(server.grpc) as channel:
        rpc: Any = channel.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelStreamInferResponse.FromString,
        )
        hold = Future[None]()

        def requests() -> Iterator[pb.ModelInferRequest]:
            yield from map(message, range(IN_FLIGHT))
            hold.result()  # a client that has more to say

        stream = rpc(requests(), timeout=TIMEOUT_S)
        wait_for(server, IN_FLIGHT)
        server.terminate()
        assert [next(stream).infer_response.id for _ in range(IN_FLIGHT)] == list(map(str, range(IN_FLIGHT)))
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        hold.set_result(None)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == SHUTTING_DOWN
    assert server.exit_status() == 0


def test_newcomers_are_refused_while_requests_are_in_flight(
    serve_slow: Serve, threads: ThreadPoolExecutor
) -> None:
    server = serve_slow(1500)
    host, port = server.http.split(":")
    with grpc.insecure_channel(server.grpc) as channel:
        rpc = channel.unary_unary(f"/{SERVICE}/ModelInfer", pb.ModelInferRequest.SerializeToString, None)
        old = rpc.future(message(1), timeout=TIMEOUT_S)
        older = threads.submit(ask_over_http, server, 2)
        wait_for(server, 2)
        server.terminate()
        wait_until_stopping(server)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), TIMEOUT_S)
        with pytest.raises(grpc.RpcError) as caught:
            rpc(message(3), timeout=TIMEOUT_S)
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, SHUTTING_DOWN)
        assert call_infer(server.grpc, message(4)) == (grpc.StatusCode.UNAVAILABLE, SHUTTING_DOWN)
        assert old.result()
    assert older.result() == (200, [2, 0])
    assert server.exit_status() == 0


def test_connections_that_ask_nothing_hold_nobody_up(serve_slow: Serve) -> None:
    server = serve_slow(1)
    host, port = server.http.split(":")
    with (
        socket.create_connection((host, int(port)), TIMEOUT_S) as silent,
        socket.create_connection((host, int(port)), TIMEOUT_S) as kept,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        kept.sendall(b"GET /v2 HTTP/1.1\r\nHost: house\r\n\r\n")
        assert kept.recv(4096).startswith(b"HTTP/1.1 200 OK")
        channel.unary_unary(f"/{SERVICE}/ServerLive", None, None)(b"", timeout=TIMEOUT_S)
        server.terminate()
        assert silent.recv(1) == b""
        assert kept.recv(1) == b""
        assert server.process.wait(5) == 0


def test_a_request_that_never_arrives_is_waited_for_no_longer_than_allowed(serve_slow: Serve) -> None:
    server = serve_slow(1, "--exit-timeout-secs=1")
    host, port = server.http.split(":")
    with socket.create_connection((host, int(port)), TIMEOUT_S) as halfway:
        halfway.sendall(b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: house\r\nContent-Length: 9\r\n\r\n{")
        assert server.get("/v2")[0] == 200
        server.terminate()
        server.process.wait(5)


def test_a_second_signal_ends_the_server_at_once(serve_slow: Serve, threads: ThreadPoolExecutor) -> None:
    server = serve_slow(15_000)
    lost = [threads.submit(ask_over_http, server, index) for index in range(3)]
    wait_for(server, len(lost))
    server.terminate()
    wait_until_stopping(server)
    began = time.monotonic()
    server.terminate()
    assert server.exit_status() == 1
    assert time.monotonic() - began < 5
    assert "received again. Exiting immediately." in server.logged()
    assert all(isinstance(future.exception(), ConnectionError) for future in lost)


def test_who_takes_too_long_is_not_waited_for(serve_slow: Serve, threads: ThreadPoolExecutor) -> None:
    server = serve_slow(15_000, "--exit-timeout-secs=1")
    lost = [threads.submit(ask_over_http, server, index) for index in range(3)]
    wait_for(server, len(lost))
    server.terminate()
    assert server.exit_status() == 1
    assert "Exit timeout expired. Exiting immediately." in server.logged()
    assert all(isinstance(future.exception(), ConnectionError) for future in lost)


def test_models_say_goodbye(tmp_path: Path, serve: Serve) -> None:
    model = tmp_path / "models" / "goodbye"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(GOODBYE_CONFIG)
    (model / "1" / "model.py").write_text(GOODBYE)
    server = serve(tmp_path / "models")
    server.terminate()
    assert server.exit_status() == 0
    assert "goodbye from the model" in server.logged()
