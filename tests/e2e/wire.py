"""What goes over the wires, byte by byte: for requests that no client library would send."""

import http.client
import json
import socket
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import grpc
from tritonclient.grpc import service_pb2 as pb

TIMEOUT_S = 20
SERVICE = "inference.GRPCInferenceService"


class Answer(NamedTuple):
    """The answer to an HTTP request; a body of JSON as its value."""

    status: int
    body: Any
    headers: Mapping[str, str]


def ask(
    address: str,
    line: str,
    body: bytes | dict[str, Any] | Iterable[bytes] = b"",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one HTTP request, its line such as `GET /v2`; an iterable body is sent in chunks."""
    method, path = line.split(" ", 1)
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    try:
        data = json.dumps(body) if isinstance(body, dict) else body
        connection.request(method, path, data, dict(headers or {}))
        response = connection.getresponse()
        content = response.read()
        is_json = response.headers.get_content_type() == "application/json"
        return Answer(response.status, json.loads(content) if is_json else content, dict(response.headers))
    finally:
        connection.close()


def infer(
    address: str, model: str, body: bytes | dict[str, Any], headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    """Ask a model over HTTP; return status and body."""
    answer = ask(address, f"POST /v2/models/{model}/infer", body, headers)
    return answer.status, answer.body


def infer_binary(address: str, model: str, head: dict[str, Any], blobs: bytes) -> tuple[int, Any]:
    """Ask a model over HTTP with binary tensors behind the JSON."""
    text = json.dumps(head).encode()
    return infer(address, model, text + blobs, {"Inference-Header-Content-Length": str(len(text))})


def speak(address: str, words: bytes) -> bytes:
    """Send bytes to a door, then listen until it hangs up."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), TIMEOUT_S) as connection:
        connection.sendall(words)
        heard = b""
        while piece := connection.recv(65536):
            heard += piece
    return heard


def call(address: str, method: str, message: bytes) -> tuple[grpc.StatusCode, str]:
    """Call a method of the inference service with bytes as they are; return status and details."""
    with grpc.insecure_channel(address) as channel:
        rpc = channel.unary_unary(f"/{SERVICE}/{method}", None, None)
        try:
            rpc(message, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


def call_infer(address: str, message: pb.ModelInferRequest) -> tuple[grpc.StatusCode, str]:
    """Ask a model over gRPC; return status and details."""
    return call(address, "ModelInfer", message.SerializeToString())
