"""The calls as a table: which method of which service is answered by whom."""

from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import grpc
from google.protobuf.message import Message

from ...proto.errors import Fault, InferError
from ...proto.schema import grpc_service_pb2 as pb
from ...proto.schema import health_pb2
from ..doorway import Doorway
from .inference import Inference
from .information import Information
from .log_settings import LogControl
from .model_control import ModelControl
from .rpc import Asked, Gate, unary
from .shared_memory import RegionControl
from .stream import OpenStreams, StreamInference

SERVICE: Final = "inference.GRPCInferenceService"
HEALTH_SERVICE: Final = "grpc.health.v1.Health"

ABSENT: Final = ("TraceSetting",)
"""Methods of Triton's service that this version does not have."""


def rpc_handlers(
    doorway: Doorway, gate: Gate, streams: OpenStreams
) -> "list[grpc.GenericRpcHandler[bytes, bytes]]":
    """Return the handlers of all services.

    They are generic on purpose: for every method that is registered by its name, grpcio's server waits for
    one more future with each call that comes in.
    """

    def answered(
        message_type: type[Asked], answer: Callable[[Asked], Awaitable[Message]]
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        return grpc.unary_unary_rpc_method_handler(unary(gate, message_type, answer))

    information = Information(doorway)
    control = ModelControl(doorway)
    regions = RegionControl(doorway.shared_memory)
    stream = StreamInference(doorway, gate, streams)
    methods = {
        "ModelInfer": answered(pb.ModelInferRequest, Inference(doorway).infer),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(stream.infer),
        "ServerLive": answered(pb.ServerLiveRequest, information.server_live),
        "ServerReady": answered(pb.ServerReadyRequest, information.server_ready),
        "ServerMetadata": answered(pb.ServerMetadataRequest, information.server_metadata),
        "ModelReady": answered(pb.ModelReadyRequest, information.model_ready),
        "ModelMetadata": answered(pb.ModelMetadataRequest, information.model_metadata),
        "ModelConfig": answered(pb.ModelConfigRequest, information.model_config),
        "ModelStatistics": answered(pb.ModelStatisticsRequest, information.statistics),
        "RepositoryIndex": answered(pb.RepositoryIndexRequest, information.repository_index),
        "RepositoryModelLoad": answered(pb.RepositoryModelLoadRequest, control.load),
        "RepositoryModelUnload": answered(pb.RepositoryModelUnloadRequest, control.unload),
        "LogSettings": answered(pb.LogSettingsRequest, LogControl(doorway.log).handle),
        "SystemSharedMemoryStatus": answered(pb.SystemSharedMemoryStatusRequest, regions.system_status),
        "SystemSharedMemoryRegister": answered(pb.SystemSharedMemoryRegisterRequest, regions.register_system),
        "SystemSharedMemoryUnregister": answered(
            pb.SystemSharedMemoryUnregisterRequest, regions.unregister_system
        ),
        "CudaSharedMemoryStatus": answered(pb.CudaSharedMemoryStatusRequest, regions.cuda_status),
        "CudaSharedMemoryRegister": answered(pb.CudaSharedMemoryRegisterRequest, regions.register_cuda),
        "CudaSharedMemoryUnregister": answered(pb.CudaSharedMemoryUnregisterRequest, regions.unregister_cuda),
        **{name: answered(pb.ServerLiveRequest, _absent(name)) for name in ABSENT},
    }
    health = {"Check": answered(health_pb2.HealthCheckRequest, information.health)}
    return [
        grpc.method_handlers_generic_handler(SERVICE, methods),
        grpc.method_handlers_generic_handler(HEALTH_SERVICE, health),
    ]


def _absent(name: str) -> Callable[[Message], Awaitable[Message]]:
    async def refuse(_asked: Message) -> NoReturn:
        raise InferError(Fault.UNSUPPORTED, f"{name} is not available in this version of deuteron")

    return refuse
