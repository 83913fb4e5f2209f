"""The calls as a table: which method of which service is answered by whom."""

from collections.abc import Awaitable, Callable
from typing import Final

import grpc
from google.protobuf.message import Message

from ...proto.schema import grpc_service_pb2 as pb
from ...proto.schema import health_pb2
from ..doorway import Doorway
from ..settings import GrpcSettings
from .forwarding import forwarding_to_message
from .guard import compressing, guarded_all
from .health import Health
from .inference import Inference
from .information import Information
from .log_settings import LogControl
from .model_control import ModelControl
from .reflection import SERVICES as REFLECTION_SERVICES
from .reflection import Reflection
from .rpc import Asked, Gate, unary
from .sessions import Sessions
from .shared_memory import RegionControl
from .stream import OpenStreams, StreamInference
from .trace_settings import TraceControl

SERVICE: Final = "inference.GRPCInferenceService"
HEALTH_SERVICE: Final = "grpc.health.v1.Health"


def rpc_handlers(
    doorway: Doorway, settings: GrpcSettings, gate: Gate, streams: OpenStreams, sessions: Sessions
) -> "list[grpc.GenericRpcHandler[bytes, bytes]]":
    """Return the handlers of all services, each behind the guard that the policy sets before it.

    They are generic on purpose: for every method that is registered by its name, grpcio's server waits for
    one more future with each call that comes in.
    """

    def answered(
        message_type: type[Asked], answer: Callable[[Asked], Awaitable[Message]]
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        return grpc.unary_unary_rpc_method_handler(
            unary(gate, message_type, lambda asked, _context: answer(asked))
        )

    information = Information(doorway)
    control = ModelControl(doorway)
    regions = RegionControl(doorway.shared_memory)
    forward = forwarding_to_message(settings.forward_pattern)
    stream = StreamInference(doorway, gate, streams, forward)
    methods = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(
            unary(gate, pb.ModelInferRequest, Inference(doorway, forward).infer)
        ),
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
        "TraceSetting": answered(pb.TraceSettingRequest, TraceControl(doorway).handle),
        "LogSettings": answered(pb.LogSettingsRequest, LogControl(doorway.log).handle),
        "SystemSharedMemoryStatus": answered(pb.SystemSharedMemoryStatusRequest, regions.system_status),
        "SystemSharedMemoryRegister": answered(pb.SystemSharedMemoryRegisterRequest, regions.register_system),
        "SystemSharedMemoryUnregister": answered(
            pb.SystemSharedMemoryUnregisterRequest, regions.unregister_system
        ),
        "CudaSharedMemoryStatus": answered(pb.CudaSharedMemoryStatusRequest, regions.cuda_status),
        "CudaSharedMemoryRegister": answered(pb.CudaSharedMemoryRegisterRequest, regions.register_cuda),
        "CudaSharedMemoryUnregister": answered(pb.CudaSharedMemoryUnregisterRequest, regions.unregister_cuda),
    }
    for name in ("ModelInfer", "ModelStreamInfer"):
        methods[name] = compressing(methods[name], settings.compression)
    health = Health(doorway.repository, sessions)
    services = {
        SERVICE: methods,
        HEALTH_SERVICE: {
            "Check": answered(health_pb2.HealthCheckRequest, health.check),
            "Watch": grpc.unary_stream_rpc_method_handler(health.watch),
        },
    }
    reflection = Reflection((*services, *REFLECTION_SERVICES), sessions)
    for name in REFLECTION_SERVICES:
        services[name] = {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(reflection.info)}
    return [
        grpc.method_handlers_generic_handler(service, guarded_all(service, handlers, settings.policy))
        for service, handlers in services.items()
    ]
