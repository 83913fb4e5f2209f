"""The bare doors: what listens and answers, with no house behind it.

One process serves an aiohttp low-level server and the least that is HTTP/2 (see `bare_http2`) on one uvloop.
Both answer FP32[1,16] with what was sent. The HTTP door reads the body, looks at nothing but the request's id
in the JSON header, and sends a header back that is constant but for it; the gRPC door goes through the
generated messages. Nothing is validated, queued or timed, so their CPU time per request is the floor, and
what deuteron spends above it is what the house adds.

The flags are tritonserver's; the model repository and the metrics port are accepted and not used.
"""

import argparse
import asyncio
import json
import re
import signal
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvloop
from aiohttp import web
from bare_http2 import Answer, Door
from tritonclient.grpc import service_pb2

MODEL = "identity"
SERVICE = "/inference.GRPCInferenceService"
TENSOR_BYTES = 16 * 4
METADATA: dict[str, Any] = {
    "name": MODEL,
    "versions": ["1"],
    "platform": "python",
    "inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [-1, 16]}],
    "outputs": [{"name": "OUTPUT0", "datatype": "FP32", "shape": [-1, 16]}],
}
CONFIG: dict[str, Any] = {
    "name": MODEL,
    "backend": "python",
    "max_batch_size": 8,
    "input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [16]}],
    "output": [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [16]}],
}
SERVER: dict[str, Any] = {
    "name": "bare doors",
    "version": "0",
    "extensions": ["statistics", "binary_tensor_data"],
}

REQUEST_ID = re.compile(rb'"id":"([^"]*)"')  # asynchronous clients miss it in the answer
RESPONSE_HEADER = json.dumps(
    {
        "id": "%s",
        "model_name": MODEL,
        "model_version": "1",
        "outputs": [
            {
                "name": "OUTPUT0",
                "datatype": "FP32",
                "shape": [1, 16],
                "parameters": {"binary_data_size": TENSOR_BYTES},
            }
        ],
    },
    separators=(",", ":"),
).encode()


@dataclass(slots=True)
class Tally:
    """How many requests both doors have answered."""

    answered: int = 0

    def statistics(self) -> dict[str, Any]:
        """Return the statistics extension's message: perf_analyzer insists on counters that move."""
        done = {"count": self.answered, "ns": self.answered}
        phases = ("success", "queue", "compute_input", "compute_infer", "compute_output")
        return {
            "model_stats": [
                {
                    "name": MODEL,
                    "version": "1",
                    "inference_count": self.answered,
                    "execution_count": self.answered,
                    "inference_stats": dict.fromkeys(phases, done),
                }
            ]
        }


class HttpDoor:
    """An aiohttp handler that echoes."""

    def __init__(self, tally: Tally) -> None:
        """Count into `tally`."""
        self.tally = tally

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer inference with the tensor it brought, everything else with a constant."""
        path = request.path
        if path.endswith("/infer"):
            self.tally.answered += 1
            return await self.infer(request)
        if path.endswith("/stats"):
            return web.json_response(self.tally.statistics())
        if path.endswith("/config"):
            return web.json_response(CONFIG)
        if path.startswith("/v2/models/"):
            return web.json_response(METADATA)
        return web.json_response(SERVER)

    async def infer(self, request: web.BaseRequest) -> web.Response:
        """Send back the binary part of the body under the request's id."""
        body = await request.read()
        boundary = int(request.headers["Inference-Header-Content-Length"])
        found = REQUEST_ID.search(body, 0, boundary)
        header = RESPONSE_HEADER % (found[1] if found else b"")
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(header)),
        }
        return web.Response(body=header + body[boundary:], headers=headers)


class GrpcDoor:
    """Plain functions from message to message that echo."""

    def __init__(self, tally: Tally) -> None:
        """Count into `tally`."""
        self.tally = tally
        told = {
            "ServerReady": service_pb2.ServerReadyResponse(ready=True),
            "ModelReady": service_pb2.ModelReadyResponse(ready=True),
            "ServerMetadata": service_pb2.ServerMetadataResponse(**SERVER),
            "ModelMetadata": service_pb2.ModelMetadataResponse(**METADATA),
            "ModelConfig": service_pb2.ModelConfigResponse(config=CONFIG),
        }
        self.answers: dict[str, Answer] = {}
        for method, message in told.items():
            self.answers[f"{SERVICE}/{method}"] = partial(said, message.SerializeToString())
        self.answers[f"{SERVICE}/ModelInfer"] = self.infer
        self.answers[f"{SERVICE}/ModelStatistics"] = self.statistics

    def infer(self, body: bytes) -> bytes:
        """Answer with the tensor the request brought."""
        self.tally.answered += 1
        request = service_pb2.ModelInferRequest.FromString(body)
        response = service_pb2.ModelInferResponse(
            model_name=MODEL,
            model_version="1",
            id=request.id,
            raw_output_contents=request.raw_input_contents,
        )
        response.outputs.add(name="OUTPUT0", datatype="FP32", shape=request.inputs[0].shape)
        answer: bytes = response.SerializeToString()
        return answer

    def statistics(self, _body: bytes) -> bytes:
        """Return the tally."""
        told: bytes = service_pb2.ModelStatisticsResponse(**self.tally.statistics()).SerializeToString()
        return told


def said(answer: bytes, _body: bytes) -> bytes:
    """Answer what is always answered."""
    return answer


async def serve(flags: argparse.Namespace) -> None:
    """Open both doors and keep them open until SIGTERM or SIGINT."""
    tally = Tally()
    answers = GrpcDoor(tally).answers
    await asyncio.get_running_loop().create_server(lambda: Door(answers), flags.grpc_address, flags.grpc_port)
    runner = web.ServerRunner(web.Server(HttpDoor(tally).handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, flags.http_address, flags.http_port).start()
    stopped = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    await stopped.wait()
    await runner.cleanup()


def main() -> int:
    """Serve with tritonserver's flags."""
    parser = argparse.ArgumentParser(description="Bare HTTP and gRPC servers that echo FP32[1,16].")
    parser.add_argument("--model-repository", help="accepted, not used")
    parser.add_argument("--metrics-port", help="accepted, not used")
    parser.add_argument("--http-address", default="127.0.0.1")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--grpc-address", default="127.0.0.1")
    parser.add_argument("--grpc-port", type=int, default=8001)
    uvloop.run(serve(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
