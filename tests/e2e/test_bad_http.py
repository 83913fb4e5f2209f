"""What is not a request (broken HTTP, broken JSON, broken sizes) gets its status and message, and no more."""

import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .house import Server
from .wire import TIMEOUT_S, ask, infer, infer_binary, speak

pytestmark = pytest.mark.usefixtures("all_is_well")

Serve = Callable[..., Server]

ROW = {"name": "INPUT0", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
BINARY = {"name": "INPUT0", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
LENGTH = "Inference-Header-Content-Length"


def row(**changes: object) -> dict[str, Any]:
    """Return a request of one row with some members of its input changed; those that are None left out."""
    members = {**ROW, **changes}
    return {"inputs": [{name: value for name, value in members.items() if value is not None}]}


# --- lines and methods ---


@pytest.mark.parametrize(
    "line",
    [
        "GET /",
        "GET /v2/",
        "GET /v3",
        "GET /v2/models",
        "GET /v2/models/echo/",
        "GET /v2/models/echo/nothing",
        "POST /v2/models/echo/versions/one/infer",
        "POST /v2/models/echo/versions/-1/infer",
        "POST /v2/models/echo/versions//infer",
        "GET /v2/health",
        "GET /v2/../../etc/passwd",
    ],
)
def test_a_path_that_means_nothing_is_not_found(house: Server, line: str) -> None:
    assert ask(house.http, line)[:2] == (404, {"error": "Not Found"})


@pytest.mark.parametrize(
    "line",
    [
        "GET /v2/models/echo/infer",
        "POST /v2",
        "POST /v2/health/live",
        "PUT /v2/models/echo/infer",
        "DELETE /v2/models/echo",
        "GET /v2/repository/index",
    ],
)
def test_a_method_that_does_not_go_with_its_path_is_not_allowed(house: Server, line: str) -> None:
    assert ask(house.http, line)[:2] == (405, {"error": "Method Not Allowed"})


def test_a_version_beyond_64_bits_is_refused(house: Server) -> None:
    assert infer(house.http, "echo/versions/99999999999999999999", row()) == (
        400,
        {
            "error": "failed to get model version from specified version string '99999999999999999999' "
            "(details: stol), version should be an integral value > 0"
        },
    )


HOST = b"Host: house\r\n"
NOT_HTTP = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "an unknown version": b"GET /v2 HTTP/9\r\n" + HOST + b"\r\n",
    "an unknown method": b"BREW /v2 HTTP/1.1\r\n" + HOST + b"\r\n",
    "no host": b"GET /v2 HTTP/1.1\r\n\r\n",
    "a header without a colon": b"GET /v2 HTTP/1.1\r\n" + HOST + b"no colon\r\n\r\n",
    "a length that is no number": b"POST /v2 HTTP/1.1\r\n" + HOST + b"Content-Length: many\r\n\r\n",
    "a negative length": b"POST /v2 HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
    "two lengths": b"POST /v2 HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "a chunk without a size": b"POST /v2/repository/index HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a long path": b"GET /" + b"v" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "a long header": b"GET /v2 HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
    "many headers": b"GET /v2 HTTP/1.1\r\n" + HOST + b"X: x\r\n" * 1000 + b"\r\n",
}


@pytest.mark.parametrize("words", NOT_HTTP.values(), ids=NOT_HTTP)
def test_what_is_not_http_is_answered_once_and_hung_up_on(house: Server, words: bytes) -> None:
    heard = speak(house.http, words)
    assert heard.startswith(b"HTTP/1.1 400 ")
    assert heard.count(b"HTTP/1.1 ") == 1
    assert b'{"error":"' in heard


# --- JSON ---

NOT_JSON = {
    b"hello": "Invalid value. at 0",
    b"\xff\xfe{}": "Invalid value. at 0",
    b"{": "Missing a name for object member. at 1",
    b'{"inputs": [}': "Invalid value. at 12",
    b'{"inputs": []} more': "The document root must not be followed by other values. at 15",
    b'{"id": "\n"}': "Invalid escape character in string. at 8",
}


@pytest.mark.parametrize("body", NOT_JSON, ids=range(len(NOT_JSON)))
def test_a_body_that_is_not_json_is_refused(house: Server, body: bytes) -> None:
    told = f"failed to parse the request JSON buffer: {NOT_JSON[body]}"
    assert infer(house.http, "echo", body) == (500, {"error": told})


NO_SOURCE = (
    "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
    "'shared_memory_region' in 'parameters'. But "
)
TOO_MANY_ELEMENTS = (
    "invalid shape for input 'INPUT0': shape [1099511627776,1099511627776] causes total element count to "
    "exceed maximum size of 9223372036854775807"
)
BAD_MEMBERS = {
    "no inputs": ({}, 500, "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"),
    "no name": (
        row(name=None),
        500,
        "Unable to parse 'name': attempt to access non-existing object member 'name'",
    ),
    "no datatype": (
        row(datatype=None),
        500,
        "Unable to parse 'datatype': attempt to access non-existing object member 'datatype'",
    ),
    "no shape": (
        row(shape=None),
        500,
        "Unable to parse 'shape': attempt to access non-existing object member 'shape'",
    ),
    "no data": (
        row(data=None),
        400,
        NO_SOURCE + "no field is set",
    ),
    "data twice": (
        row(parameters={"binary_data_size": 8}),
        400,
        NO_SOURCE + "set 'data' 'binary_data_size'",
    ),
    "data that is no list": (
        row(data=1),
        500,
        "Unable to parse 'data': attempt to access JSON non-array as array",
    ),
    "too much data": (
        row(data=[1, 2, 3]),
        500,
        "Unable to parse 'data': Shape does not match true shape of 'data' field",
    ),
    "too little data": (row(data=[1]), 500, "Failed to parse 'data' field: shape does not match true shape"),
    "a negative dimension": (
        row(shape=[-1, 2]),
        500,
        "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
    ),
    "more elements than there can be": (
        row(shape=[2**40, 2**40]),
        400,
        TOO_MANY_ELEMENTS,
    ),
    "a datatype that does not exist": (row(datatype="FP128"), 400, "invalid datatype for input INPUT0"),
    "half floats as JSON": (
        row(datatype="FP16"),
        400,
        "receiving FP16 data via JSON is not supported. Please use the binary data format for input INPUT0",
    ),
    "a reserved parameter": (
        {**row(), "parameters": {"triton_magic": 1}},
        400,
        "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.",
    ),
    "a parameter of no kind": (
        {**row(), "parameters": {"mine": [1]}},
        400,
        "parameter 'mine' has invalid type. It should be either 'int', 'bool', or 'string'.",
    ),
    "a priority that is no number": (
        {**row(), "parameters": {"priority": "high"}},
        500,
        "Unable to parse 'priority': attempt to access JSON non-unsigned-integer as unsigned-integer",
    ),
}


@pytest.mark.parametrize(("body", "status", "message"), BAD_MEMBERS.values(), ids=BAD_MEMBERS)
def test_json_that_is_not_a_request_is_refused(
    house: Server, body: dict[str, Any], status: int, message: str
) -> None:
    assert infer(house.http, "echo", body) == (status, {"error": message})


@pytest.mark.parametrize("depth", [101, 100_000])
def test_nesting_has_a_limit(house: Server, depth: int) -> None:
    body = json.dumps(row()).encode().replace(b"[1, 2]}", b"[" * depth + b"1" + b"]" * depth + b"}")
    told = "Unable to parse 'data': JSON nesting depth exceeds maximum allowed limit (100)"
    assert infer(house.http, "echo", body) == (400, {"error": told})


def test_half_floats_do_not_come_back_as_json(house: Server) -> None:
    head = {
        "inputs": [
            {"name": "INPUT_FP16", "datatype": "FP16", "shape": [1, 2], "parameters": {"binary_data_size": 4}}
        ],
        "outputs": [{"name": "OUTPUT_FP16"}],
    }
    told = "sending FP16 data via JSON is not supported. Please use the binary data format for output"
    assert infer_binary(house.http, "everything", head, bytes(4)) == (400, {"error": told})


# --- sizes of binary tensors ---


@pytest.mark.parametrize(
    ("blobs", "message"),
    [
        (bytes(5), "unexpected size for input 'INPUT0', expecting 3 additional bytes for model 'echo'"),
        (bytes(9), "unexpected additional input data for model 'echo'"),
    ],
)
def test_binary_data_has_the_size_that_was_told(house: Server, blobs: bytes, message: str) -> None:
    assert infer_binary(house.http, "echo", {"inputs": [BINARY]}, blobs) == (400, {"error": message})


@pytest.mark.parametrize("size", [-1, "8", 2**70, 1.5])
def test_a_binary_size_is_a_number_of_bytes(house: Server, size: object) -> None:
    tensor = {**BINARY, "parameters": {"binary_data_size": size}}
    status, told = infer_binary(house.http, "echo", {"inputs": [tensor]}, bytes(8))
    assert status == 500
    assert told["error"].startswith("Unable to parse 'binary_data_size': attempt to access JSON non-")


@pytest.mark.parametrize(
    ("length", "message"),
    [
        ("-1", "inference header size should be in range (0, {size}), got: -1"),
        ("999", "inference header size should be in range (0, {size}), got: 999"),
        (
            "99999999999",
            f"Unable to parse {LENGTH}, value is out of range [ -2147483648, 2147483647 ], got: 99999999999",
        ),
    ],
)
def test_the_length_of_the_json_lies_within_the_body(house: Server, length: str, message: str) -> None:
    body = json.dumps({"inputs": [BINARY]}).encode() + bytes(8)
    assert infer(house.http, "echo", body, {LENGTH: length}) == (
        400,
        {"error": message.format(size=len(body))},
    )


# --- sizes of bodies ---


@pytest.fixture
def small_house(pick: Callable[..., Any], serve: Serve) -> Server:
    """Serve with a limit of one kilobyte for JSON."""
    return serve(pick("echo"), "--http-max-input-size=1024")


def test_a_body_that_is_too_large_is_refused_before_it_is_read(small_house: Server) -> None:
    body = row(data=[0.5] * 2000)
    size = len(json.dumps(body))
    told = (
        f"request JSON size of {size} bytes exceeds the maximum allowed input size of 1024 bytes. "
        "Use --http-max-input-size to increase the limit."
    )
    assert infer(small_house.http, "echo", body) == (400, {"error": told})
    assert infer(small_house.http, "echo", row())[0] == 200


def test_a_body_in_chunks_is_given_up_where_it_becomes_too_large(small_house: Server) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * 700

    with pytest.raises((ConnectionError, BrokenPipeError)):
        ask(small_house.http, "POST /v2/models/echo/infer", endless())
    assert infer(small_house.http, "echo", row())[0] == 200


def test_a_body_that_breaks_off_from_its_chunks_is_refused_at_once(small_house: Server) -> None:
    host, port = small_house.http.split(":")
    with socket.create_connection((host, int(port)), TIMEOUT_S) as raw:
        raw.sendall(
            b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: house\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        raw.sendall(b"4\r\n    \r\n")
        time.sleep(0.1)  # so that the request is being served when its body breaks
        raw.sendall(b"no chunk\r\n")
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"the request body could not be read" in answer


def test_a_bomb_is_not_decompressed(small_house: Server) -> None:
    bomb = gzip.compress(bytes(50 << 20))[:1000]
    assert infer(small_house.http, "echo", bomb, {"Content-Encoding": "gzip"}) == (
        400,
        {
            "error": "Decompressed data size exceeds the maximum allowed value of 1024 bytes. "
            "Use --http-max-input-size to increase the limit."
        },
    )


def test_binary_tensors_may_be_larger_than_json(small_house: Server) -> None:
    tensor = {**BINARY, "shape": [1, 1000], "parameters": {"binary_data_size": 4000}}
    assert infer_binary(small_house.http, "echo", {"inputs": [tensor]}, bytes(4000))[0] == 200


def test_an_unknown_compression_is_refused(house: Server) -> None:
    answer = ask(house.http, "POST /v2/models/echo/infer", row(), {"Content-Encoding": "br"})
    assert (answer.status, answer.body) == (501, {"error": "Unsupported compression type"})
    assert answer.headers["Accept-Encoding"] == "gzip, deflate"


# --- connections ---


def test_a_client_that_stops_in_the_middle_of_a_body_holds_nobody_up(house: Server) -> None:
    host, port = house.http.split(":")
    halves = [socket.create_connection((host, int(port)), TIMEOUT_S) for _ in range(50)]
    try:
        for half in halves:
            half.sendall(
                b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: house\r\nContent-Length: 100\r\n\r\n{"
            )
        assert infer(house.http, "echo", row())[0] == 200
    finally:
        for half in halves:
            half.close()


def test_requests_may_follow_each_other_unasked_on_one_connection(house: Server) -> None:
    body = json.dumps(row()).encode()
    request = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: house\r\nContent-Length: %d\r\n" % len(body)
    heard = speak(house.http, (request + b"\r\n" + body) * 9 + request + b"Connection: close\r\n\r\n" + body)
    assert heard.count(b"HTTP/1.1 200 OK") == 10
