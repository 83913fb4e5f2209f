"""Requests made to exhaust a server: each is refused, in bounded memory, and the next good one is served."""

import gzip
import json
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from .house import Server
from .wire import SERVICE, TIMEOUT_S, ask, call, call_infer, infer, infer_binary

MIB: Final = 1 << 20
BUDGET: Final = 512 * MIB
"""Bytes that one bomb may cost for a moment: eight times the largest body of JSON."""
SCALARS: Final = 1400 * MIB
"""What a body full of texts may cost: each is worth eight times its bytes, and the body is read twice."""
MANY: Final = 1_000_000

INFER: Final = "POST /v2/models/echo/infer"
GOOD: Final = {"name": "INPUT0", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}


# --- how a bomb is watched ---


def reset_peak(server: Server) -> int:
    """Let the peak of the server's memory begin anew; return what it holds now."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    return server.resident_bytes()


def peak(server: Server) -> int:
    """Return the most that the server has held since then."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.fixture
def within_budget(house: Server, request: pytest.FixtureRequest) -> Iterator[None]:
    """See that the server stays within its budget, and serves on."""
    before = reset_peak(house)
    yield
    budget = getattr(request, "param", BUDGET)
    assert peak(house) - before < budget, f"{(peak(house) - before) / MIB:.0f} MiB"
    assert infer(house.http, "echo", {"inputs": [GOOD]})[0] == 200
    assert call_infer(house.grpc, message())[0] == grpc.StatusCode.OK


def message(**changes: object) -> pb.ModelInferRequest:
    """Return a good request over gRPC."""
    asked = pb.ModelInferRequest(model_name="echo", raw_input_contents=[bytes(8)])
    tensor = asked.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 2])
    for name, value in changes.items():
        getattr(tensor, name)[:] = value
    return asked


# --- over HTTP ---


def data(text: bytes) -> bytes:
    """Put a text in the place of the data of a good request."""
    return json.dumps({"inputs": [GOOD]}).encode().replace(b"[1, 2]}", text + b"}")


def nested(opened: bytes, closed: bytes, depth: int = MANY // 2) -> bytes:
    return opened * depth + b"1" + closed * depth


def listed(name: str, entry: str, count: int = MANY) -> bytes:
    """Give a good request so many entries of a list."""
    body: dict[str, Any] = {"inputs": [GOOD]} | {name: "@"}
    return json.dumps(body).replace('"@"', f"[{','.join([entry] * count)}]").encode()


def named(count: int = MANY) -> bytes:
    """Give a good request so many parameters."""
    return json.dumps({"inputs": [GOOD], "parameters": {str(number): 1 for number in range(count)}}).encode()


HTTP_BOMBS: Final[dict[str, Callable[[], bytes]]] = {
    "data in arrays without end": lambda: data(nested(b"[", b"]")),
    "data in arrays that do not close": lambda: data(b"[" * MANY),
    "data in objects without end": lambda: data(nested(b'{"a":', b"}")),
    "parameters without end": lambda: b'{"inputs":[],"parameters":' + nested(b'{"a":', b"}") + b"}",
    "a body of arrays in arrays": lambda: nested(b"[", b"]"),
    "a million inputs": lambda: listed("inputs", "{}"),
    "a million good inputs": lambda: listed("inputs", json.dumps(GOOD), MANY // 2),
    "a million outputs": lambda: listed("outputs", '{"name":"O"}'),
    "a million parameters": named,
    "a million dimensions": lambda: json.dumps(
        {"inputs": [{**GOOD, "shape": [1] * MANY, "data": [1]}]}
    ).encode(),
    "a body full of arrays": lambda: data(b"[" + b"[]," * (20 * MANY) + b"[]]"),
    "a number of a million digits": lambda: data(b"[1," + b"9" * MANY + b"]"),
    "an id as long as a body may be": lambda: json.dumps({"id": "i" * (63 * MIB), "inputs": []}).encode(),
    "a body that is too large": lambda: bytes(65 * MIB),
}


@pytest.mark.usefixtures("within_budget")
@pytest.mark.parametrize("bomb", HTTP_BOMBS.values(), ids=HTTP_BOMBS)
@pytest.mark.parametrize("path", ["infer", "generate"])
def test_json_that_explodes_is_refused(house: Server, bomb: Callable[[], bytes], path: str) -> None:
    model = "echo" if path == "infer" else "labelled"
    assert 400 <= ask(house.http, f"POST /v2/models/{model}/{path}", bomb()).status <= 500


@pytest.mark.usefixtures("within_budget")
@pytest.mark.parametrize("within_budget", [SCALARS], indirect=True)
@pytest.mark.parametrize("scalar", [b"1", b'"ab"', b"true"])
def test_a_body_full_of_scalars_is_refused(house: Server, scalar: bytes) -> None:
    body = data(b"[" + b",".join([scalar] * (63 * MIB // (len(scalar) + 1))) + b"]")
    assert 400 <= infer(house.http, "echo", body)[0] <= 500


OTHERS: Final = (
    "POST /v2/repository/index",
    "POST /v2/repository/models/echo/load",
    "POST /v2/repository/models/echo/unload",
    "POST /v2/logging",
    "POST /v2/trace/setting",
    "POST /v2/systemsharedmemory/region/r/register",
    "POST /v2/cudasharedmemory/region/r/register",
)


@pytest.mark.usefixtures("within_budget")
@pytest.mark.parametrize("line", OTHERS)
@pytest.mark.parametrize("bomb", [nested(b"[", b"]"), nested(b'{"parameters":', b"}"), b"{" + bytes(MIB)])
def test_other_routes_refuse_the_same(house: Server, line: str, bomb: bytes) -> None:
    assert 400 <= ask(house.http, line, bomb).status <= 503


SIZES: Final = (2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30)


@pytest.mark.usefixtures("within_budget")
@pytest.mark.parametrize("size", SIZES)
def test_sizes_beyond_all_bounds_are_refused(house: Server, size: int) -> None:
    for shape in ([1, size], [size, 2], [size, size], [2**32, 2**32, size], [0, size]):
        for datatype in ("FP32", "BYTES", "FP64"):
            head = {"inputs": [{**GOOD, "shape": shape, "datatype": datatype}]}
            assert 400 <= infer(house.http, "echo", head)[0] <= 500
            tensor = {"name": "INPUT0", "datatype": datatype, "shape": shape}
            binary = {"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}
            assert 400 <= infer_binary(house.http, "echo", binary, bytes(8))[0] <= 500
    for parameter in ("timeout", "priority", "sequence_id"):
        body = {"inputs": [GOOD], "parameters": {parameter: size}}
        assert infer(house.http, "echo", body)[0] in (200, 400, 500)
    outputs = [{"name": "OUTPUT0", "parameters": {"classification": size}}]
    assert infer(house.http, "echo", {"inputs": [GOOD], "outputs": outputs})[0] in (200, 400, 500)


@pytest.mark.usefixtures("within_budget")
@pytest.mark.parametrize("length", [2**32 - 1, 2**31 - 1, 5])
def test_a_text_longer_than_its_tensor_is_refused(house: Server, length: int) -> None:
    tensor = {"name": "INPUT0", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": 8}}
    blob = struct.pack("<I", length) + bytes(4)
    assert infer_binary(house.http, "echo", {"inputs": [tensor]}, blob)[0] == 400


def packed(size: int, window: int) -> bytes:
    """Return zeros, packed: after a full flush the same bytes stand for the same zeros again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    head = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(16 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * (size // (16 * MIB)) + packer.flush()


GZIP: Final = 31
DEFLATE: Final = 15


COMPRESSED: Final[dict[str, tuple[str, Callable[[], bytes]]]] = {
    "4 GiB in gzip": ("gzip", lambda: packed(4096 * MIB, GZIP)),
    "1 GiB in deflate": ("deflate", lambda: packed(1024 * MIB, DEFLATE)),
    "many small members": ("gzip", lambda: gzip.compress(bytes(MIB)) * 20_000),
    "gzip in gzip": ("gzip", lambda: gzip.compress(packed(1024 * MIB, GZIP))),
    "nothing": ("gzip", lambda: b""),
    "no gzip": ("gzip", lambda: b"\x1f\x8b" + bytes(1000)),
    "half of one": ("gzip", lambda: gzip.compress(json.dumps({"inputs": [GOOD]}).encode())[:-9]),
}


@pytest.mark.usefixtures("within_budget")
@pytest.mark.parametrize(("encoding", "bomb"), COMPRESSED.values(), ids=COMPRESSED)
def test_what_unpacks_to_too_much_is_refused(house: Server, encoding: str, bomb: Callable[[], bytes]) -> None:
    assert 400 <= infer(house.http, "echo", bomb(), {"Content-Encoding": encoding})[0] <= 500


@pytest.mark.usefixtures("within_budget")
@pytest.mark.parametrize("count", [1000, MANY])
def test_headers_without_end_are_hung_up_on(house: Server, count: int) -> None:
    host, port = house.http.split(":")
    with socket.create_connection((host, int(port)), TIMEOUT_S) as raw:
        raw.sendall(b"GET /v2 HTTP/1.1\r\nHost: house\r\n")
        try:
            for _ in range(count // 1000):
                raw.sendall(b"X: x\r\n" * 1000)
            heard = raw.recv(4096)
        except ConnectionError:
            return  # the server said why, and hung up while headers were still coming
    assert heard.startswith(b"HTTP/1.1 400 ") or not heard


@pytest.mark.usefixtures("within_budget")
def test_chunks_without_end_are_hung_up_on(house: Server) -> None:
    def one_byte_each() -> Iterator[bytes]:
        for _ in range(100_000):
            yield b" "

    try:
        answer = ask(house.http, INFER, one_byte_each())
    except ConnectionError:
        return  # the server said why, and hung up while chunks were still coming
    assert "exceeds maximum of 65536 non-empty chunks" in answer.body["error"]


@pytest.mark.usefixtures("within_budget")
def test_large_bodies_that_are_announced_and_never_come_hold_no_memory(house: Server) -> None:
    host, port = house.http.split(":")
    head = f"{INFER} HTTP/1.1\r\nHost: house\r\nInference-Header-Content-Length: 10\r\n"
    with ExitStack() as stack:
        for number in range(500):
            raw = stack.enter_context(socket.create_connection((host, int(port)), TIMEOUT_S))
            raw.sendall(f"{head}Content-Length: {2**31 - 1}\r\n\r\n".encode() + b"{" * (number % 2 * 1000))
        assert infer(house.http, "echo", {"inputs": [GOOD]})[0] == 200


# --- over gRPC ---


def many(field: str, count: int = MANY) -> pb.ModelInferRequest:
    """Return a request with a million of something."""
    asked = message()
    entry = {
        "inputs": pb.ModelInferRequest.InferInputTensor(),
        "outputs": pb.ModelInferRequest.InferRequestedOutputTensor(),
        "raw_input_contents": b"",
    }[field]
    getattr(asked, field).extend([entry] * count)
    return asked


def with_parameters(count: int) -> pb.ModelInferRequest:
    asked = message()
    for number in range(count):
        asked.parameters[str(number)].int64_param = 1
    return asked


def typed(field: str, values: list[Any]) -> pb.ModelInferRequest:
    asked = message()
    del asked.raw_input_contents[:]
    getattr(asked.inputs[0].contents, field).extend(values)
    return asked


GRPC_BOMBS: Final[dict[str, Callable[[], pb.ModelInferRequest]]] = {
    "a million inputs": lambda: many("inputs"),
    "a million outputs": lambda: many("outputs"),
    "a hundred thousand parameters": lambda: with_parameters(100_000),
    "a million dimensions": lambda: message(shape=[1] * MANY),
    "ten million typed elements": lambda: typed("fp32_contents", [1.0] * (10 * MANY)),
    "a million texts": lambda: typed("bytes_contents", [b""] * MANY),
    **{
        f"dimensions of {size}": (lambda size=size: message(shape=[size, size]))  # type: ignore[misc]
        for size in (2**31, 2**32, 2**62, 2**63 - 1, -1, -(2**63))
    },
}


@pytest.mark.usefixtures("within_budget")
@pytest.mark.parametrize("bomb", GRPC_BOMBS.values(), ids=GRPC_BOMBS)
def test_messages_that_explode_are_refused(house: Server, bomb: Callable[[], pb.ModelInferRequest]) -> None:
    code, told = call_infer(house.grpc, bomb())
    assert code == grpc.StatusCode.INVALID_ARGUMENT, told


def group(depth: int) -> bytes:
    """Return a field that nobody knows, with groups within groups."""
    return bytes([0x9B, 0x06]) * depth + bytes([0x9C, 0x06]) * depth


BROKEN: Final = {
    "groups within groups": group(100_000),
    "a length beyond the end": b"\x0a\xff\xff\xff\xff\x07",
    "a length of 64 bits": b"\x0a" + b"\xff" * 9 + b"\x01",
    "a number that does not end": b"\x08" + b"\xff" * 1000,
    "text that is no UTF-8": b"\x0a\x02\xff\xfe",
    "a field without a number": b"\x00\x00",
}


@pytest.mark.usefixtures("within_budget")
@pytest.mark.parametrize("words", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("method", ["ModelInfer", "RepositoryModelLoad", "TraceSetting", "LogSettings"])
def test_what_is_no_message_is_refused(house: Server, method: str, words: bytes) -> None:
    assert call(house.grpc, method, words) == (grpc.StatusCode.INTERNAL, "Unable to parse request")


@pytest.mark.usefixtures("within_budget")
def test_metadata_without_end_are_refused(house: Server) -> None:
    with grpc.insecure_channel(house.grpc, options=[("grpc.max_metadata_size", 1 << 30)]) as channel:
        rpc = channel.unary_unary(f"/{SERVICE}/ServerLive", None, None)
        metadata = tuple((f"key-{number}", "x" * 100) for number in range(10_000))
        with pytest.raises(grpc.RpcError) as error:
            rpc(b"", metadata=metadata, timeout=TIMEOUT_S)
    assert error.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


@pytest.mark.usefixtures("within_budget")
def test_a_setting_of_a_million_values_is_refused(house: Server) -> None:
    asked = pb.TraceSettingRequest()
    asked.settings["trace_rate"].value.extend(["1"] * MANY)
    code, told = call(house.grpc, "TraceSetting", asked.SerializeToString())
    assert (code, told) == (grpc.StatusCode.INVALID_ARGUMENT, "expect only 1 value for 'trace_rate'")
