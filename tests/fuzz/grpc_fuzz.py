"""Mutated messages over gRPC, to every method and on streams."""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any, Final

import grpc

from deuteron.proto.schema import grpc_service_pb2 as pb

from ..differential.grpc_requests import GrpcRequest, grpc_requests
from .mutations import mutated
from .tally import Tally

CHANNELS: Final = 4
CALLERS: Final = 32
PATIENCE_S: Final = 30.0
MUTATED: Final = 0.95
"""The part of the messages that is mutated."""
SERVICE: Final = "/inference.GRPCInferenceService/"


def _others() -> list[GrpcRequest]:
    """Return calls that random inference requests do not reach."""
    load = pb.RepositoryModelLoadRequest(model_name="add_sub")
    load.parameters["config"].string_param = "{}"
    load.parameters["file:1/m"].bytes_param = b"x"
    trace = pb.TraceSettingRequest(model_name="add_sub")
    trace.settings["trace_rate"].value.append("5")
    log = pb.LogSettingsRequest()
    log.settings["log_info"].bool_param = False
    region = pb.SystemSharedMemoryRegisterRequest(name="r", key="/no", byte_size=8)
    return [
        GrpcRequest("other", method, (message.SerializeToString(),))
        for method, message in (
            ("RepositoryModelLoad", load),
            ("TraceSetting", trace),
            ("LogSettings", log),
            (
                "SystemSharedMemoryRegister",
                region,
            ),
            ("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest(name="r")),
            ("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(name="r")),
            ("CudaSharedMemoryRegister", pb.CudaSharedMemoryRegisterRequest(name="r", raw_handle=bytes(64))),
            ("CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest(name="r")),
            ("CudaSharedMemoryUnregister", pb.CudaSharedMemoryUnregisterRequest(name="r")),
        )
    ]


class GrpcFuzz:
    """Sends until its share is sent."""

    def __init__(self, address: str, rng: Random, number: int, tally: Tally) -> None:
        self._address = address
        self._rng = rng
        self._seeds = [*grpc_requests(rng, 2000), *_others() * 40]
        self._left = number
        self._tally = tally

    async def run(self) -> None:
        """Send everything."""
        channels = [grpc.aio.insecure_channel(self._address, options=(("n", n),)) for n in range(CHANNELS)]
        try:
            async with asyncio.TaskGroup() as group:
                for place in range(CALLERS):
                    group.create_task(self._call(channels[place % CHANNELS]))
        finally:
            for channel in channels:
                await channel.close(None)

    def _maybe_mutated(self, message: bytes) -> bytes:
        return mutated(self._rng, message) if self._rng.random() < MUTATED else message

    async def _call(self, channel: grpc.aio.Channel) -> None:
        while self._left > 0:
            seed = self._rng.choice(self._seeds)
            messages = [
                mutated(self._rng, each) if self._rng.random() < 0.95 else each for each in seed.messages
            ]
            self._left -= len(messages)
            rpc: Any
            try:
                if seed.streams:
                    rpc = channel.stream_stream(SERVICE + seed.method, None, None)
                    told = b"".join(
                        [answer async for answer in rpc(_one_by_one(messages), timeout=PATIENCE_S)]
                    )
                else:
                    rpc = channel.unary_unary(SERVICE + seed.method, None, None)
                    told = await rpc(messages[0], timeout=PATIENCE_S)
                status = "OK"
            except grpc.aio.AioRpcError as error:
                status, told = error.code().name, (error.details() or "").encode()
            for message in messages:
                self._tally.count(f"gRPC {status}", told, f"{seed.method} ".encode() + message)


async def _one_by_one(messages: list[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message
