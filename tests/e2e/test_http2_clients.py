"""Clients that others wrote speak HTTP/2 with the gRPC door: curl, nghttp, h2load, and gRPC for Node."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tritonclient.grpc import service_pb2 as pb

from .house import Server
from .wire import SERVICE

ROOT = Path(__file__).parents[2]
NODE_MODULES = ROOT / ".peers" / "node" / "node_modules"
TIMEOUT_S = 60

GRPC = ("te: trailers", "content-type: application/grpc")
CALLS = 2000
INFER = f"/{SERVICE}/ModelInfer"


def needs(program: str, package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not there: see {package}")


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def message(tmp_path: Path) -> Path:
    """Write a request for inference as it travels."""
    asked = pb.ModelInferRequest(model_name="echo", id="seven", raw_input_contents=[bytes(8)])
    asked.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 2])
    body = asked.SerializeToString()
    path = tmp_path / "message"
    path.write_bytes(b"\0" + len(body).to_bytes(4) + body)
    return path


@needs("curl", "Debian's curl")
def test_curl_is_answered(house: Server, message: Path, tmp_path: Path) -> None:
    answer, headers = tmp_path / "answer", tmp_path / "headers"
    given = [word for header in GRPC for word in ("-H", header)]
    run(
        *("curl", "-sS", "--http2-prior-knowledge", *given, "--data-binary", f"@{message}"),
        *("-o", answer, "-D", headers, f"http://{house.grpc}{INFER}"),
    )
    assert pb.ModelInferResponse.FromString(answer.read_bytes()[5:]).id == "seven"
    assert headers.read_text().startswith("HTTP/2 200")
    assert "grpc-status: 0" in headers.read_text()


@needs("curl", "Debian's curl")
def test_curl_is_told_that_this_is_no_place_to_browse(house: Server) -> None:
    command = ("curl", "-sS", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code}")
    assert run(*command, f"http://{house.grpc}/") == "405"
    assert run(*command, "-X", "POST", f"http://{house.grpc}{INFER}") == "415"


@needs("nghttp", "Debian's nghttp2-client")
def test_nghttp_sees_nothing_amiss(house: Server, message: Path) -> None:
    """It sends priorities and padding, and tells of each frame."""
    given = [word for header in GRPC for word in ("-H", header)]
    told = run("nghttp", "-nv", "-b", "200", *given, "-d", message, f"http://{house.grpc}{INFER}")
    assert re.search(r"recv \(stream_id=\d+\) :status: 200", told)
    assert re.search(r"recv \(stream_id=\d+\) grpc-status: 0", told)
    assert "RST_STREAM" not in told.partition("recv GOAWAY")[0]
    assert "error_code=NO_ERROR" in told or "recv GOAWAY" not in told


@needs("h2load", "Debian's nghttp2-client")
@pytest.mark.parametrize("streams", [1, 100])
def test_h2load_gets_all_it_asks_for(house: Server, message: Path, streams: int) -> None:
    given = [word for header in GRPC for word in ("-H", header)]
    load = ("-n", str(CALLS), "-c", "4", "-m", str(streams))
    told = run("h2load", *load, *given, "-d", message, f"http://{house.grpc}{INFER}")
    assert f"{CALLS} succeeded, 0 failed, 0 errored, 0 timeout" in told
    assert f"status codes: {CALLS} 2xx" in told


@pytest.mark.skipif(
    shutil.which("node") is None or not (NODE_MODULES / "@grpc" / "grpc-js").exists(),
    reason="gRPC for Node is not there: `make test` installs it where npm is",
)
def test_grpc_for_node_is_answered(house: Server) -> None:
    program = Path(__file__).parent / "programs" / "ask.js"
    proto = ROOT / "proto" / "schema" / "grpc_service.proto"
    told = json.loads(run("node", program, house.grpc, proto, NODE_PATH=str(NODE_MODULES)))
    assert told["ids"] == [str(number) for number in range(200)]
    assert told["values"] == list(range(200))
    assert told["wrong"] == [5, "Request for unknown model: 'nö%' is not found"]
    assert told["late"] == 4
    assert told["large"] == 4_000_000
    assert told["streamed"] == [str(number) for number in range(50)]
    assert told["status"] == 0


@pytest.mark.parametrize("engine", ["lane", "grpcio"])
def test_either_engine_can_be_chosen(
    pick: Callable[..., Path], serve: Callable[..., Server], engine: str
) -> None:
    server = serve(pick("echo"), f"--grpc-engine={engine}")
    modules = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert ("cygrpc" in modules) == (engine == "grpcio")
