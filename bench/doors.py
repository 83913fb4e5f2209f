"""The bare doors: the front-end libraries that deuteron builds on, with no house behind them.

One process serves an aiohttp low-level server and a grpcio asyncio server on one uvloop, as deuteron does.
Both answer FP32[1,16] with what was sent. The HTTP door reads the body, looks at nothing but the request's id
in the JSON header, and sends a header back that is constant but for it; the gRPC door goes through the
generated messages, as any grpcio handler does. Nothing is validated, queued or timed, so their CPU time per
request is the floor that the libraries set, and what deuteron spends above it is what the house adds.

The flags are tritonserver's; the model repository and the metrics port are accepted and not used.
"""

import argparse
import asyncio
import json
import re
import signal
import sys
from dataclasses import dataclass
from typing import Any

import grpc.aio
import uvloop
from aiohttp import web
from tritonclient.grpc import service_pb2, service_pb2_grpc

MODEL = "identity"
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


class GrpcDoor(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # generated, untyped
    """A grpcio servicer that echoes."""

    def __init__(self, tally: Tally) -> None:
        """Count into `tally`."""
        self.tally = tally

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer with the tensor the request brought."""
        self.tally.answered += 1
        response = service_pb2.ModelInferResponse(
            model_name=MODEL,
            model_version="1",
            id=request.id,
            raw_output_contents=request.raw_input_contents,
        )
        response.outputs.add(name="OUTPUT0", datatype="FP32", shape=request.inputs[0].shape)
        return response

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Be ready."""
        return service_pb2.ServerReadyResponse(ready=True)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Be ready."""
        return service_pb2.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Name the server."""
        return service_pb2.ServerMetadataResponse(**SERVER)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Describe the model."""
        return service_pb2.ModelMetadataResponse(**METADATA)

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return the model's configuration."""
        return service_pb2.ModelConfigResponse(config=CONFIG)

    async def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return the tally."""
        return service_pb2.ModelStatisticsResponse(**self.tally.statistics())


async def serve(flags: argparse.Namespace) -> None:
    """Open both doors and keep them open until SIGTERM or SIGINT."""
    tally = Tally()
    grpc_server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(GrpcDoor(tally), grpc_server)
    grpc_server.add_insecure_port(f"{flags.grpc_address}:{flags.grpc_port}")
    await grpc_server.start()
    runner = web.ServerRunner(web.Server(HttpDoor(tally).handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, flags.http_address, flags.http_port).start()
    stopped = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    await stopped.wait()
    await runner.cleanup()
    await grpc_server.stop(grace=None)


def main() -> int:
    """Serve with tritonserver's flags."""
    parser = argparse.ArgumentParser(description="Bare aiohttp and grpcio servers that echo FP32[1,16].")
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
