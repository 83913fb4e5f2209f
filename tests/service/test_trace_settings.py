"""Clients see what is traced and change it, for all models or for one; where traces go they do not choose."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.grpc.aio import InferenceServerClient as GrpcClient
from tritonclient.http import InferInput
from tritonclient.http.aio import InferenceServerClient as HttpClient
from tritonclient.utils import InferenceServerException

from deuteron.proto import kserve_http
from deuteron.proto.errors import invalid
from deuteron.proto.trace_level import TraceLevel
from deuteron.service.access_log import AccessLog
from deuteron.service.doorway import Doorway
from deuteron.service.grpc.front import grpc_front
from deuteron.service.http.door import http_front
from deuteron.service.observer import Observer
from deuteron.service.settings import (
    ControlMode,
    GrpcEngine,
    GrpcSettings,
    HttpSettings,
    KeepaliveSettings,
    TraceSettings,
)
from deuteron.service.tracer import Tracer

HERE = "127.0.0.1"


@pytest.fixture
def trace_path(tmp_path: Path) -> Path:
    (tmp_path / "seen").mkdir()
    return tmp_path / "seen" / "trace.json"


@pytest.fixture
def access_path(trace_path: Path) -> Path:
    return trace_path.with_name("access.jsonl")


@pytest.fixture
async def observed(doorway: Doorway, trace_path: Path, access_path: Path) -> AsyncIterator[Doorway]:
    """Put an observer before the models: a trace file, though nothing is traced yet, and an access log."""
    observer = Observer(Tracer(TraceSettings(file=trace_path)), AccessLog(access_path, 1))
    yield Doorway(doorway.repository, ControlMode.NONE, "house", "1.2.3", observer=observer)
    observer.close()


@pytest.fixture
async def http_client(observed: Doorway) -> AsyncIterator[HttpClient]:
    front = http_front(observed, HttpSettings(address=HERE, port=0))
    await front.start()
    async with HttpClient(front.address) as client:
        client.address = front.address
        yield client
    await front.close(1.0)


@pytest.fixture
async def grpc_client(observed: Doorway, engine: GrpcEngine) -> AsyncIterator[GrpcClient]:
    front = grpc_front(observed, GrpcSettings(address=HERE, port=0, engine=engine), KeepaliveSettings())
    await front.start()
    async with GrpcClient(front.address) as client:
        yield client
    await front.close(1.0)


@pytest.fixture
def at_first(trace_path: Path) -> dict[str, Any]:
    return {
        "trace_level": ["OFF"],
        "trace_rate": "1000",
        "trace_count": "-1",
        "log_frequency": "0",
        "trace_file": str(trace_path),
        "trace_mode": "triton",
    }


def plain(response: Any) -> dict[str, Any]:  # noqa: ANN401 - the client is not typed
    """Return the settings of a response of gRPC in the form of HTTP."""
    return {
        name: list(each.value) if name == "trace_level" else "".join(each.value)
        for name, each in response.settings.items()
    }


async def test_both_protocols_tell_the_same(
    http_client: HttpClient, grpc_client: GrpcClient, at_first: dict[str, Any]
) -> None:
    for model in (None, "simple"):
        assert await http_client.get_trace_settings(model) == at_first
        assert plain(await grpc_client.get_trace_settings(model)) == at_first


async def test_settings_of_a_model_stand_before_those_of_all(
    http_client: HttpClient, grpc_client: GrpcClient, at_first: dict[str, Any]
) -> None:
    own = await http_client.update_trace_settings("simple", {"trace_rate": "5", "log_frequency": "2"})
    assert own == {**at_first, "trace_rate": "5", "log_frequency": "2"}
    everyone = plain(await grpc_client.update_trace_settings(None, {"trace_rate": "9", "trace_count": "3"}))
    assert everyone == {**at_first, "trace_rate": "9", "trace_count": "3"}
    expected = {**at_first, "trace_rate": "5", "trace_count": "3", "log_frequency": "2"}
    assert await http_client.get_trace_settings("simple") == expected
    assert plain(await grpc_client.get_trace_settings("simple")) == expected
    cleared = {"trace_rate": None, "log_frequency": None}
    assert await http_client.update_trace_settings("simple", cleared) == everyone
    cleared = {"trace_rate": None, "trace_count": None}
    assert plain(await grpc_client.update_trace_settings(None, cleared)) == at_first


async def test_levels_are_set_and_cleared_over_both(
    http_client: HttpClient, grpc_client: GrpcClient, at_first: dict[str, Any]
) -> None:
    both = {"trace_level": ["TENSORS", "TIMESTAMPS"]}
    told = await http_client.update_trace_settings(None, both)
    assert told["trace_level"] == ["TIMESTAMPS", "TENSORS"]
    told = plain(await grpc_client.update_trace_settings(None, {"trace_level": ["TENSORS"]}))
    assert told["trace_level"] == ["TENSORS"]
    assert await http_client.update_trace_settings(None, {"trace_level": None}) == at_first


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (
            {"trace_file": "x"},
            501,
            "trace file location can not be updated through network protocol",
        ),
        ({"trace_level": ["OFF", "TENSORS"]}, 400, "Expect only one trace level 'OFF' is specified"),
        ({"trace_level": "OFF"}, 500, "attempt to access JSON non-array as array"),
        ({"trace_level": [1]}, 500, "attempt to access JSON non-string as string"),
        ({"trace_rate": 1}, 500, "attempt to access JSON non-string as string"),
        ({"trace_rate": "x"}, 400, "Unable to parse 'trace_rate', got: x"),
        ({"trace_count": "-2"}, 400, "Unable to parse 'trace_count'. Expecting value >= -1, got:-2"),
        (
            {"trace_level": ["TENSORS"], "trace_rate": "0"},
            400,
            "Attempting to set invalid trace setting :sample rate must be non-zero",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/v2/trace/setting", "/v2/models/simple/trace/setting"])
async def test_http_refuses_in_tritons_words_and_changes_nothing(
    http_client: HttpClient,
    at_first: dict[str, Any],
    path: str,
    body: dict[str, Any],
    status: int,
    message: str,
) -> None:
    async with aiohttp.ClientSession(f"http://{http_client.address}") as session:
        async with session.post(path, data=json.dumps({"log_frequency": "9", **body})) as response:
            assert (response.status, await response.json()) == (status, {"error": message})
        async with session.get(path) as response:
            assert await response.json() == at_first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trace_count": "-2"}, "Unable to parse 'trace_count'. Expecting value >= -1, got: -2"),
        ({"trace_rate": ["1", "2"]}, "expect only 1 value for 'trace_rate'"),
        ({"trace_level": ["OFF", "OFF"]}, "Expect only one trace level 'OFF' is specified"),
    ],
)
async def test_grpc_refuses_in_tritons_words(
    grpc_client: GrpcClient, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        await grpc_client.update_trace_settings(None, settings)
    assert (caught.value.status(), caught.value.message()) == ("StatusCode.INVALID_ARGUMENT", message)


async def test_the_trace_file_is_refused_over_grpc(grpc_client: GrpcClient) -> None:
    with pytest.raises(InferenceServerException, match="can not be updated through network") as caught:
        await grpc_client.update_trace_settings(None, {"trace_file": "x"})
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


async def test_a_model_nobody_knows_has_no_settings(http_client: HttpClient, grpc_client: GrpcClient) -> None:
    for client in (http_client, grpc_client):
        with pytest.raises(InferenceServerException, match="Request for unknown model : no"):
            await client.get_trace_settings("no")


# --- what is seen of requests ---


def rows(count: int = 3) -> InferInput:
    tensor = InferInput("INPUT0", [count, 4], "FP32")
    return tensor.set_data_from_numpy(np.arange(4 * count, dtype=np.float32).reshape(count, 4))


def grpc_rows(count: int = 3) -> tritonclient.grpc.InferInput:
    tensor = tritonclient.grpc.InferInput("INPUT0", [count, 4], "FP32")
    return tensor.set_data_from_numpy(np.arange(4 * count, dtype=np.float32).reshape(count, 4))


CORE = ["REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START"]
CORE += ["COMPUTE_END", "REQUEST_END"]
HTTP = ["HTTP_RECV_START", "HTTP_RECV_END", "INFER_RESPONSE_COMPLETE", "HTTP_SEND_START", "HTTP_SEND_END"]
GRPC = ["GRPC_WAITREAD_START", "GRPC_WAITREAD_END", "INFER_RESPONSE_COMPLETE"]
GRPC += ["GRPC_SEND_START", "GRPC_SEND_END"]


def read_objects(path: Path) -> list[dict[str, Any]]:
    """Return what a trace file holds."""
    objects: list[dict[str, Any]] = json.loads(path.read_text())
    return objects


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return what an access log holds."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def activities(path: Path) -> dict[int, list[tuple[str, int]]]:
    """Return the timestamps of each trace of a file."""
    found: dict[int, list[tuple[str, int]]] = {}
    for each in read_objects(path):
        for timestamp in each.get("timestamps", []):
            found.setdefault(each["id"], []).append((timestamp["name"], timestamp["ns"]))
    return found


async def test_a_traced_request_tells_all_its_activities_in_their_order(
    observed: Doorway, http_client: HttpClient, grpc_client: GrpcClient, trace_path: Path
) -> None:
    observed.observer.change_trace("", {"level": TraceLevel.TIMESTAMPS, "rate": 1})
    await http_client.infer("simple", [rows()], request_id="over HTTP")
    await grpc_client.infer("simple", [grpc_rows()])
    observed.observer.close()
    objects = read_objects(trace_path)
    assert [each for each in objects if "model_name" in each] == [
        {"id": 1, "model_name": "simple", "model_version": 1, "request_id": "over HTTP"},
        {"id": 2, "model_name": "simple", "model_version": 1},
    ]
    found = activities(trace_path)
    assert [name for name, _ in found[1]] == CORE + HTTP
    assert [name for name, _ in found[2]] == CORE + GRPC
    for front, moments in ((HTTP, dict(found[1])), (GRPC, dict(found[2]))):
        way = [front[0], front[1], *CORE[:-1], *front[2:]]
        assert [moments[name] for name in way] == sorted(moments[name] for name in way)


async def test_tensors_are_traced_where_they_are_asked_for(
    observed: Doorway, http_client: HttpClient, trace_path: Path
) -> None:
    observed.observer.change_trace("simple", {"level": TraceLevel.TENSORS, "rate": 1})
    await http_client.infer("simple", [rows(1)])
    await http_client.infer("slow", [rows(1).set_shape([4])])
    observed.observer.close()
    tensor = {"data": "0,1,2,3", "shape": "1,4", "dtype": "FP32"}
    assert read_objects(trace_path) == [
        {"id": 1, "model_name": "simple", "model_version": 1},
        {"id": 1, "activity": "TENSOR_QUEUE_INPUT", "tensor": {"name": "INPUT0", **tensor}},
        {"id": 1, "activity": "TENSOR_BACKEND_OUTPUT", "tensor": {"name": "OUTPUT0", **tensor}},
    ]


async def test_each_request_is_a_line_of_the_access_log(
    observed: Doorway, http_client: HttpClient, grpc_client: GrpcClient, access_path: Path
) -> None:
    forged = 'a"\n{"event": "forged"}'
    await http_client.infer("simple", [rows()], request_id=forged)
    await grpc_client.infer("simple", [grpc_rows(2)])
    with pytest.raises(InferenceServerException):
        await grpc_client.infer("simple", [grpc_rows(9)])
    observed.observer.close()
    lines = read_lines(access_path)
    assert [
        (line["protocol"], line["model"], line["version"], line["status"], line["responses"])
        for line in lines
    ] == [
        ("HTTP", "simple", 1, "OK", 1),
        ("gRPC", "simple", 1, "OK", 1),
        ("gRPC", "simple", 1, "INVALID_ARG", 0),
    ]
    first, second, refused = lines
    assert (first["request_id"], first["batch_size"], second["batch_size"]) == (
        'a"\\n{"event": "forged"}',
        3,
        2,
    )
    assert "batch-size must be <= 8" in refused["error"]
    assert "queue_us" not in refused
    phases = [
        "receive_us",
        "queue_us",
        "compute_input_us",
        "compute_infer_us",
        "compute_output_us",
        "send_us",
    ]
    for line in (first, second):
        assert [name for name in line if name in phases] == phases
        assert 0 < sum(line[name] for name in phases) <= line["total_us"]


async def test_a_request_that_nobody_waits_for_any_more_is_a_line_too(
    http_client: HttpClient, access_path: Path, until: Callable[[Callable[[], object]], Awaitable[None]]
) -> None:
    body = '{"inputs": [{"name": "INPUT0", "shape": [4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}'
    async with aiohttp.ClientSession(f"http://{http_client.address}") as session:
        with pytest.raises(TimeoutError):
            await session.post("/v2/models/slow/infer", data=body, timeout=aiohttp.ClientTimeout(total=0.02))
    await until(lambda: read_lines(access_path))
    (line,) = read_lines(access_path)
    assert (line["model"], line["status"], line["responses"]) == ("slow", "CANCELLED", 0)


async def test_what_cannot_be_told_to_the_client_is_no_success(
    observed: Doorway, http_client: HttpClient, access_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise invalid("sending FP16 data via JSON is not supported")

    monkeypatch.setattr(kserve_http, "encode_infer", refuse)
    with pytest.raises(InferenceServerException):
        await http_client.infer("simple", [rows()])
    observed.observer.close()
    assert [line["status"] for line in read_lines(access_path)] == ["INVALID_ARG"]


async def test_one_of_so_many_requests_is_a_line(access_path: Path) -> None:
    access_log = AccessLog(access_path, 3)
    assert [access_log.wants() for _ in range(6)] == [False, False, True, False, False, True]
    access_log.close()


async def test_while_the_disk_stands_still_lines_are_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deuteron.service.access_log.MOST_WAITING", 2)
    access_log = AccessLog(tmp_path / "access.jsonl", 1)
    for number in range(5):
        access_log.write({"number": number})
    access_log.close()
    assert read_lines(tmp_path / "access.jsonl") == [
        {"number": 0},
        {"number": 1},
        {"event": "dropped", "requests": 3},
    ]
