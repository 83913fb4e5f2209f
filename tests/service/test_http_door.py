"""The HTTP door answers over a real socket, whatever is asked, in Triton's statuses and words."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import numpy as np
import pytest
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.http.aio import InferenceServerClient
from yarl import URL

from deuteron.proto import kserve_http
from deuteron.service.doorway import Doorway
from deuteron.service.http.front import HttpFront
from deuteron.service.settings import ControlMode

BuildDoorway = Callable[..., Awaitable[Doorway]]
Open = Callable[..., Awaitable[HttpFront]]
Answer = tuple[int, Any]

ROW = {"name": "INPUT0", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as session:
        yield session


@pytest.fixture
async def ask(http: HttpFront, session: aiohttp.ClientSession) -> Callable[..., Awaitable[Answer]]:
    """Send a request line such as `GET /v2`, and return status and body; JSON comes as its value."""

    async def ask_(line: str, body: object = None, headers: dict[str, str] | None = None) -> Answer:
        method, path = line.split(" ")
        data = json.dumps(body) if isinstance(body, dict) else body
        async with session.request(
            method, f"http://{http.address}{path}", data=data, headers=headers
        ) as response:
            answer = await response.read()
            if response.content_type == "application/json":
                return response.status, json.loads(answer)
            return response.status, answer

    return ask_


Ask = Callable[..., Awaitable[Answer]]


# --- what is told about the server and its models ---


@pytest.mark.parametrize("line", ["GET /v2/health/live", "GET /v2/models/simple/ready"])
async def test_health_is_a_status_without_a_body(ask: Ask, line: str) -> None:
    assert await ask(line) == (200, b"")


async def test_a_broken_model_keeps_the_server_from_being_ready(ask: Ask) -> None:
    assert await ask("GET /v2/health/ready") == (400, b"")


async def test_a_server_whose_models_all_serve_is_ready(
    build_doorway: BuildDoorway, open_http: Open, session: aiohttp.ClientSession
) -> None:
    http = await open_http(await build_doorway({}))
    async with session.get(f"http://{http.address}/v2/health/ready") as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_a_stopping_server_says_so(ask: Ask, doorway: Doorway) -> None:
    doorway.repository.stopping = True
    assert await ask("GET /v2/health/live") == (503, {"error": "Server exiting"})
    assert await ask("GET /v2/health/ready") == (503, {"error": "Server exiting"})
    assert await ask("GET /v2/models/stats") == (503, {"error": "Server not ready"})


async def test_the_server_tells_its_name(ask: Ask) -> None:
    status, members = await ask("GET /v2")
    assert status == 200
    assert (members["name"], members["version"]) == ("house", "1.2.3")
    assert "binary_tensor_data" in members["extensions"]


@pytest.mark.parametrize("path", ["/v2/models/simple", "/v2/models/simple/versions/1"])
async def test_a_model_tells_what_it_takes_and_gives(ask: Ask, path: str) -> None:
    assert await ask(f"GET {path}") == (
        200,
        {
            "name": "simple",
            "versions": ["1"],
            "platform": "identity",
            "inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "OUTPUT0", "datatype": "FP32", "shape": [-1, 4]}],
        },
    )


async def test_a_model_tells_its_configuration(ask: Ask) -> None:
    status, members = await ask("GET /v2/models/simple/config")
    assert status == 200
    assert (members["name"], members["max_batch_size"]) == ("simple", 8)
    assert members["input"][0]["dims"] == [4]


async def test_statistics_count_what_was_asked(ask: Ask) -> None:
    for _ in range(3):
        assert (await ask("POST /v2/models/simple/infer", {"inputs": [ROW]}))[0] == 200
    status, members = await ask("GET /v2/models/simple/versions/1/stats")
    (told,) = members["model_stats"]
    assert status == 200
    assert (told["name"], told["version"], told["inference_count"]) == ("simple", "1", 3)
    assert told["inference_stats"]["success"]["count"] == 3
    everything = (await ask("GET /v2/models/stats"))[1]["model_stats"]
    assert [each["name"] for each in everything] == ["large", "simple", "slow", "strings"]


async def test_the_index_tells_of_broken_models_too(ask: Ask) -> None:
    status, entries = await ask("POST /v2/repository/index")
    found = {entry["name"]: entry for entry in entries}
    assert status == 200
    assert found["simple"] == {"name": "simple", "version": "1", "state": "READY"}
    assert found["broken"]["state"] == "UNAVAILABLE"
    assert "unable to find backend library for backend 'none'" in found["broken"]["reason"]
    ready = (await ask("POST /v2/repository/index", {"ready": True}))[1]
    assert "broken" not in {entry["name"] for entry in ready}


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("GET /v2/models/no", 404, "Request for unknown model: 'no' is not found"),
        ("GET /v2/models/no/ready", 404, "Request for unknown model: 'no' is not found"),
        ("GET /v2/models/no/config", 404, "Request for unknown model: 'no' is not found"),
        ("POST /v2/models/no/infer", 404, "Request for unknown model: 'no' is not found"),
        (
            "GET /v2/models/simple/versions/7",
            404,
            "Request for unknown model: 'simple' version 7 is not found",
        ),
        ("GET /v2/models/no/stats", 400, "requested model 'no' is not available"),
        (
            "GET /v2/models/simple/versions/7/stats",
            400,
            "requested model version is not available for model 'simple'",
        ),
        ("GET /v3", 404, "Not Found"),
        ("GET /v2/models/simple/versions/x", 404, "Not Found"),
        ("GET /v2/models/simple/infer", 405, "Method Not Allowed"),
        ("DELETE /v2", 405, "Method Not Allowed"),
        (
            "POST /v2/repository/models/simple/load",
            503,
            "explicit model load / unload is not allowed if polling is enabled",
        ),
    ],
)
async def test_what_cannot_be_is_refused_in_json(ask: Ask, line: str, status: int, message: str) -> None:
    assert await ask(line) == (status, {"error": message})


# --- inference ---


async def test_json_in_json_out(ask: Ask) -> None:
    assert await ask(
        "POST /v2/models/large/infer",
        {
            "id": "7",
            "inputs": [{"name": "INPUT0", "datatype": "UINT8", "shape": [3], "data": [1, 2, 3]}],
        },
    ) == (
        200,
        {
            "id": "7",
            "model_name": "large",
            "model_version": "1",
            "parameters": {
                "param0": "an example string parameter",
                "param1": 42,
                "param2": False,
                "param3": 123.123,
            },
            "outputs": [{"name": "OUTPUT0", "datatype": "UINT8", "shape": [3], "data": [1, 2, 3]}],
        },
    )


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
async def test_tritons_client_sends_and_takes_tensors_in_either_form(
    http: HttpFront, binary_in: bool, binary_out: bool
) -> None:
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    tensor = InferInput("INPUT0", [2, 4], "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary_in)
    async with InferenceServerClient(http.address) as client:
        result = await client.infer(
            "simple",
            [tensor],
            outputs=[InferRequestedOutput("OUTPUT0", binary_data=binary_out)],
            request_id="abc",
        )
    assert result.get_response()["id"] == "abc"
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), rows)


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_537, 900_000])
async def test_tensors_of_every_size_come_back_whole(http: HttpFront, size: int) -> None:
    """Small ones in one piece, large ones in several, and none at all without the header for binary data."""
    sent = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    tensor = InferInput("INPUT0", [size], "UINT8")
    tensor.set_data_from_numpy(sent)
    async with InferenceServerClient(http.address) as client:
        result = await client.infer("large", [tensor])
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0") if size else sent, sent)


async def test_strings_come_back(http: HttpFront) -> None:
    words = np.array([b"one", b"", "zwölf".encode()], dtype=np.object_)
    tensor = InferInput("INPUT0", [3], "BYTES")
    tensor.set_data_from_numpy(words)
    async with InferenceServerClient(http.address) as client:
        result = await client.infer("strings", [tensor])
    assert list(result.as_numpy("OUTPUT0")) == list(words)


async def test_a_body_without_a_header_of_its_own_is_the_one_input(ask: Ask) -> None:
    status, answer = await ask(
        "POST /v2/models/large/infer", b"abc", {"Inference-Header-Content-Length": "0"}
    )
    assert status == 200
    assert answer.endswith(b"abc")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 500, "failed to parse the request JSON buffer: Missing a name for object member. at 1"),
        (b"[]", 500, "Unable to parse 'inputs'"),
        ({"inputs": [{**ROW, "name": "X"}]}, 400, "unexpected inference input 'X' for model 'simple'"),
        ({"inputs": [{**ROW, "shape": [1, 5]}]}, 500, "shape does not match true shape"),
        ({"inputs": []}, 400, "expected 1 inputs but got 0 inputs for model 'simple'."),
        (
            {"inputs": [{**ROW, "shape": [9, 4], "data": [0] * 36}]},
            400,
            "[request id: <id_unknown>] inference request batch-size must be <= 8 for 'simple'",
        ),
        (
            {"inputs": [ROW], "outputs": [{"name": "Y"}]},
            400,
            "unexpected inference output 'Y' for model 'simple'",
        ),
    ],
    ids=str,
)
async def test_bad_requests_are_told_what_is_wrong(ask: Ask, body: object, status: int, message: str) -> None:
    got, members = await ask("POST /v2/models/simple/infer", body)
    assert got == status
    assert message in members["error"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("x", "Unable to parse Inference-Header-Content-Length, got: x"),
        ("-1", "inference header size should be in range (0, 2), got: -1"),
        ("3", "inference header size should be in range (0, 2), got: 3"),
        ("99999999999", "value is out of range [ -2147483648, 2147483647 ], got: 99999999999"),
    ],
)
async def test_a_broken_header_length_is_refused(ask: Ask, value: str, message: str) -> None:
    status, members = await ask(
        "POST /v2/models/simple/infer", b"{}", {"Inference-Header-Content-Length": value}
    )
    assert status == 400
    assert message in members["error"]


async def test_an_error_of_the_server_ends_one_request(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError("a secret of the server")

    with monkeypatch.context() as patch:
        patch.setattr(kserve_http.Decoder, "decode", explode)
        status, members = await ask("POST /v2/models/simple/infer", {"inputs": [ROW]})
    assert (status, members) == (500, {"error": "unexpected error of the server: ZeroDivisionError"})
    assert (await ask("POST /v2/models/simple/infer", {"inputs": [ROW]}))[0] == 200


# --- sizes and compression ---


@pytest.fixture
async def tight_http(doorway: Doorway, open_http: Open) -> HttpFront:
    """Open an HTTP door that takes no more than 10,000 bytes of JSON."""
    return await open_http(doorway, max_input_size=10_000)


async def test_json_beyond_the_limit_is_refused_and_tensors_behind_it_are_not(
    doorway: Doorway, open_http: Open, session: aiohttp.ClientSession
) -> None:
    http = await open_http(doorway, max_input_size=1000)
    url = f"http://{http.address}/v2/models/large/infer"
    async with session.post(url, data=b" " * 1001) as response:
        assert response.status == 400
        assert await response.json() == {
            "error": "request JSON size of 1001 bytes exceeds the maximum allowed input size of 1000 bytes. "
            "Use --http-max-input-size to increase the limit."
        }
    tensor = InferInput("INPUT0", [5000], "UINT8")
    tensor.set_data_from_numpy(np.zeros(5000, np.uint8))
    async with InferenceServerClient(http.address) as client:
        assert (await client.infer("large", [tensor])).as_numpy("OUTPUT0").size == 5000


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [100, 1_000_000])
async def test_tritons_client_may_compress_both_ways(http: HttpFront, algorithm: str, size: int) -> None:
    tensor = InferInput("INPUT0", [size], "UINT8")
    tensor.set_data_from_numpy(np.ones(size, np.uint8))
    async with InferenceServerClient(http.address) as client:
        result = await client.infer(
            "large",
            [tensor],
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), np.ones(size, np.uint8))


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("deflate, gzip", "deflate"),
        ("deflate;q=0.5, gzip;q=0.8", "gzip"),
        ("gzip;q=0", None),
        ("identity, gzip", None),
        ("br, *", None),
        ("gzip;q=x", None),
        ("", None),
    ],
)
async def test_a_response_comes_in_the_encoding_its_client_likes_best(
    http: HttpFront, session: aiohttp.ClientSession, accepted: str, encoding: str | None
) -> None:
    async with session.post(
        f"http://{http.address}/v2/models/simple/infer",
        json={"inputs": [ROW]},
        headers={"Accept-Encoding": accepted},
    ) as response:
        assert response.status == 200
        assert response.headers.get("Content-Encoding") == encoding
        body = await response.read()
    if encoding is not None:
        body = zlib.decompress(body, 32 + zlib.MAX_WBITS)
    assert json.loads(body)["outputs"][0]["data"] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("encoding", "body", "status", "message"),
    [
        ("br", b"x", 501, "Unsupported compression type"),
        ("gzip", b"", 400, "nothing to be decompressed"),
        ("gzip", b"not gzip", 400, "failed to decompress the request body"),
        ("gzip", gzip.compress(b"{}")[:-4], 400, "failed to decompress the request body: incomplete"),
        ("gzip", gzip.compress(b"{}") + b"more", 400, "failed to decompress the request body: incomplete"),
        (
            "gzip",
            gzip.compress(bytes(10_001)),
            400,
            "Decompressed data size exceeds the maximum allowed value",
        ),
        ("identity", b"{}", 500, "Unable to parse 'inputs'"),
    ],
)
async def test_what_cannot_be_decompressed_is_refused(
    tight_http: HttpFront,
    session: aiohttp.ClientSession,
    encoding: str,
    body: bytes,
    status: int,
    message: str,
) -> None:
    async with session.post(
        f"http://{tight_http.address}/v2/models/simple/infer",
        data=body,
        headers={"Content-Encoding": encoding},
    ) as response:
        assert response.status == status
        assert message in (await response.json())["error"]
        assert response.headers.get("Accept-Encoding") == ("gzip, deflate" if status == 501 else None)


# --- loading and unloading ---


async def test_explicit_mode_loads_and_unloads(
    build_doorway: BuildDoorway, open_http: Open, session: aiohttp.ClientSession
) -> None:
    http = await open_http(await build_doorway(control_mode=ControlMode.EXPLICIT))
    async with InferenceServerClient(http.address) as client:
        assert not await client.is_model_ready("simple")
        await client.load_model("simple")
        assert await client.is_model_ready("simple")
        await client.unload_model("no-such-model")
    base = f"http://{http.address}/v2/repository"
    for path, body, status, message in (
        (
            "/models/broken/load",
            b"",
            400,
            "load failed for model 'broken': version 1 is at UNAVAILABLE state",
        ),
        ("/models/no/load", b"", 500, "failed to load 'no', failed to poll from model repository"),
        ("/models/../load", b"", 400, "invalid model name '..', model name must not contain path traversal"),
        ("/models/%20/load", b"", 500, "failed to load '%20', failed to poll from model repository"),
        ("/main/models/simple/load", b"", 501, "'repository_name' specification is not supported"),
        (
            "/models/simple/load",
            b'{"parameters":{"x":"y"}}',
            500,
            "unexpected error on creating Triton parameter",
        ),
        (
            "/models/simple/load",
            b'{"parameters":{"config":1}}',
            500,
            "attempt to access JSON non-string as string",
        ),
        (
            "/models/simple/load",
            b'{"parameters":{"config":"{}"}}',
            500,
            "failed to load 'simple', failed to poll from model repository",
        ),
        ("/models/simple/unload", b'{"parameters":{"unload_dependents":1}}', 500, "as boolean"),
        ("/index", b'{"ready":1}', 400, "Invalid value for 'ready': expected a boolean"),
        (
            "/index",
            b'{"ready":' + b"[" * 250_000 + b"]" * 250_000 + b"}",
            400,
            "Invalid value for 'ready': expected a boolean",
        ),
        ("/index", b"{", 500, "failed to parse the request JSON buffer"),
    ):
        async with session.post(URL(base + path, encoded=True), data=body) as response:
            assert (response.status, path) == (status, path)
            assert message in (await response.json())["error"]
