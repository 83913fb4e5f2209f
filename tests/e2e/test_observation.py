"""What a server has done can be seen from outside: counted, logged and traced."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import tritonclient.grpc

from .clients import Client
from .house import Server, poll

TIMEOUT_S = 20

DTYPES = {"FP32": np.float32, "INT32": np.int32}

Pick = Callable[..., Path]
Serve = Callable[..., Server]


def repeat(server: Server, *values: int, responses: int) -> None:
    """Ask the model that streams for a response to each value, and wait for so many responses."""
    told: SimpleQueue[Any] = SimpleQueue()
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: told.put(error or result))
        tensor = tritonclient.grpc.InferInput("IN", [len(values)], "INT32")
        tensor.set_data_from_numpy(np.array(values, np.int32))
        client.async_stream_infer("repeat", [tensor], enable_empty_final_response=True)
        for _ in range(responses):
            told.get(timeout=TIMEOUT_S)
        client.stop_stream()


def test_responses_of_a_model_that_streams_are_counted_by_their_index(house: Server) -> None:
    def counts() -> dict[tuple[str, str], int]:
        with Client("http", house) as client:
            (told,) = client.tell("get_inference_statistics", "repeat")["model_stats"]
        return {
            (index, kind): duration["count"]
            for index, response in told["response_stats"].items()
            for kind, duration in response.items()
        }

    before = counts()
    repeat(house, 5, 6, -1, responses=4)
    more = {key: count - before.get(key, 0) for key, count in counts().items()}
    assert {key: count for key, count in more.items() if count} == {
        ("0", "compute_infer"): 1,
        ("0", "compute_output"): 1,
        ("0", "success"): 1,
        ("1", "compute_infer"): 1,
        ("1", "compute_output"): 1,
        ("1", "success"): 1,
        ("2", "compute_infer"): 1,
        ("2", "compute_output"): 1,
        ("2", "fail"): 1,
        ("3", "compute_infer"): 1,
        ("3", "empty_response"): 1,
    }
    with Client("grpc", house) as client:
        (told,) = client.tell("get_inference_statistics", "repeat")["model_stats"]
    assert int(told["response_stats"]["0"]["success"]["count"]) >= 1


def test_first_responses_are_in_a_histogram(house: Server) -> None:
    name = "nv_inference_first_response_histogram_ms"
    before = house.read_metric(f"{name}_count", model="repeat")
    repeat(house, 5, 6, responses=3)
    assert house.read_metric(f"{name}_count", model="repeat") == before + 1
    assert house.read_metric(f"{name}_bucket", model="repeat", le="+Inf") == before + 1


# --- the log ---


def test_what_is_logged_changes_while_the_server_runs(pick: Pick, serve: Serve) -> None:
    server = serve(pick("echo"))
    for name in ("http", "grpc"):
        with Client(name, server) as client:
            told = client.call("update_log_settings", {"log_verbose_level": 1, "log_format": "ISO8601"})
            assert "ISO8601" in str(told)
            status, message = client.refusal("update_log_settings", {"log_file": "elsewhere.log"})
            assert status in ("501", "StatusCode.UNIMPLEMENTED")
            assert message == "log file location can not be updated through network protocol"
    server.terminate()
    assert server.exit_status() == 0
    assert re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ I ", server.logged(), re.MULTILINE)


# --- traces ---


def read_traces(path: Path) -> tuple[list[dict[str, Any]], dict[int, list[str]]]:
    """Return what a trace file says about its traces, and the activities of each."""
    objects = json.loads(path.read_text())
    activities: dict[int, list[str]] = {}
    for each in objects:
        for timestamp in each.get("timestamps", ()):
            assert isinstance(timestamp["ns"], int)
            activities.setdefault(each["id"], []).append(timestamp["name"])
    return [each for each in objects if "model_name" in each], activities


CORE = {
    "REQUEST_START",
    "QUEUE_START",
    "COMPUTE_START",
    "COMPUTE_INPUT_END",
    "COMPUTE_OUTPUT_START",
    "COMPUTE_END",
    "REQUEST_END",
}


def stop(server: Server) -> None:
    server.terminate()
    assert server.exit_status() == 0


def test_a_server_traces_whatever_its_command_line_says(pick: Pick, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    server = serve(
        pick("echo", "repeat"),
        "--trace-config=level=TIMESTAMPS",
        "--trace-config=rate=1",
        f"--trace-config=triton,file={path}",
    )
    for name in ("http", "grpc"):
        with Client(name, server) as client:
            client.infer("echo", client.tensor("INPUT0", np.ones((1, 4), np.float32)), request_id=name)
    repeat(server, 5, 6, responses=3)
    stop(server)
    traces, activities = read_traces(path)
    assert traces == [
        {"id": 1, "model_name": "echo", "model_version": 1, "request_id": "http"},
        {"id": 2, "model_name": "echo", "model_version": 1, "request_id": "grpc"},
        {"id": 3, "model_name": "repeat", "model_version": 1},
    ]
    assert all(set(activities[each["id"]]) > CORE for each in traces)
    assert "HTTP_SEND_END" in activities[1]
    assert "GRPC_SEND_END" in activities[2]
    assert activities[3].count("GRPC_SEND_END") == 3


def test_an_ensemble_is_the_parent_of_its_steps(pick: Pick, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    server = serve(pick("chain", "onnx_add_sub", "torch_double"), f"--trace-file={path}")
    with Client("grpc", server) as client:
        levels = ["TIMESTAMPS", "TENSORS"]
        client.call("update_trace_settings", "chain", {"trace_level": levels, "trace_rate": "1"})
        inputs = client.tell("get_model_metadata", "chain")["inputs"]
        tensors = [
            client.tensor(
                each["name"], np.ones([max(int(size), 1) for size in each["shape"]], DTYPES[each["datatype"]])
            )
            for each in inputs
        ]
        client.infer("chain", *tensors, request_id="7")
    stop(server)
    traces, activities = read_traces(path)
    parent, *steps = traces
    assert (parent["model_name"], parent["request_id"]) == ("chain", "7")
    assert "COMPUTE_START" not in activities[parent["id"]]
    assert len(steps) > 1
    for step in steps:
        assert step["parent_id"] == parent["id"]
        assert set(activities[step["id"]]) == CORE
    activities_of_tensors = {each["activity"] for each in json.loads(path.read_text()) if "tensor" in each}
    assert activities_of_tensors == {"TENSOR_QUEUE_INPUT", "TENSOR_BACKEND_OUTPUT"}


def test_traces_are_counted_and_written_while_the_server_runs(
    pick: Pick, serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "trace.json"
    server = serve(pick("echo"), f"--trace-config=triton,file={path}")
    with Client("http", server) as client:
        wanted = {"trace_level": ["TIMESTAMPS"], "trace_rate": "2", "trace_count": "3", "log_frequency": "2"}
        client.call("update_trace_settings", "echo", wanted)
        for _ in range(10):
            client.infer("echo", client.tensor("INPUT0", np.ones((1, 4), np.float32)))
        poll((tmp_path / "trace.json.1").exists, "the last trace is written")
        assert client.call("get_trace_settings", "echo")["trace_count"] == "0"
    stop(server)
    assert [len(read_traces(tmp_path / f"trace.json.{number}")[0]) for number in (0, 1)] == [2, 1]
    assert not path.exists()


# --- the access log ---


def test_each_request_is_a_line_of_the_access_log(pick: Pick, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    server = serve(pick("echo", "repeat"), f"--access-log-file={path}")
    for name in ("http", "grpc"):
        with Client(name, server) as client:
            client.infer("echo", client.tensor("INPUT0", np.ones((1, 4), np.float32)))
    repeat(server, 5, -1, responses=3)
    stop(server)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["protocol"], line["model"], line["status"], line["responses"]) for line in lines] == [
        ("HTTP", "echo", "OK", 1),
        ("gRPC", "echo", "OK", 1),
        ("gRPC", "repeat", "INVALID_ARG", 2),
    ]
    assert all(line["compute_infer_us"] <= line["total_us"] for line in lines[:2])


def test_every_third_request_is_a_line_where_that_is_asked_for(
    pick: Pick, serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "access.jsonl"
    server = serve(pick("echo"), f"--access-log-file={path}", "--access-log-rate=3")
    with Client("http", server) as client:
        for number in range(7):
            tensor = client.tensor("INPUT0", np.ones((1, 4), np.float32))
            client.infer("echo", tensor, request_id=str(number))
    stop(server)
    assert [json.loads(line)["request_id"] for line in path.read_text().splitlines()] == ["2", "5"]
