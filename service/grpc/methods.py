"""The calls as a table: which method of which service is answered by whom."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from google.protobuf.message import Message

from ...proto.schema import grpc_service_pb2 as pb
from ...proto.schema import health_pb2
from ..doorway import Doorway
from ..settings import Compression, GrpcSettings
from .forwarding import forwarding_to_message
from .health import Health
from .inference import Inference
from .information import Information
from .log_settings import LogControl
from .method import Behaviour, Method, Streaming, Unary
from .model_control import ModelControl
from .reflection import SERVICES as REFLECTION_SERVICES
from .reflection import Reflection
from .rpc import Gate
from .sessions import Sessions
from .shared_memory import RegionControl
from .stream import OpenStreams, StreamInference
from .trace_settings import TraceControl

SERVICE: Final = "inference.GRPCInferenceService"
HEALTH_SERVICE: Final = "grpc.health.v1.Health"
COMPRESSED: Final = ("ModelInfer", "ModelStreamInfer")
"""The methods whose answers are compressed where the operator wants it."""


class Service:
    """Everything that is served over gRPC, whichever engine carries it."""

    def __init__(self, doorway: Doorway, settings: GrpcSettings) -> None:
        self.gate: Final = Gate()
        self.sessions: Final = Sessions()
        self.streams: Final = OpenStreams()
        behaviours = {
            SERVICE: self._inference(doorway, settings),
            HEALTH_SERVICE: self._health(doorway),
        }
        reflection = Reflection((*behaviours, *REFLECTION_SERVICES), self.sessions)
        for name in REFLECTION_SERVICES:
            behaviours[name] = {"ServerReflectionInfo": Streaming(reflection.info)}
        self.methods: Final[Mapping[str, Method]] = {
            f"/{service}/{name}": Method(
                behaviour,
                settings.policy.of_rpc(service, name),
                settings.compression if name in COMPRESSED else Compression.NONE,
            )
            for service, methods in behaviours.items()
            for name, behaviour in methods.items()
        }
        """The methods by their paths."""

    def wind_down(self) -> None:
        """Refuse new calls, and let those that last come to their ends."""
        self.gate.close()
        self.streams.close()
        self.sessions.close()

    def _inference(self, doorway: Doorway, settings: GrpcSettings) -> dict[str, Behaviour]:
        answered = self._answered
        information = Information(doorway)
        control = ModelControl(doorway)
        regions = RegionControl(doorway.shared_memory)
        forward = forwarding_to_message(settings.forward_pattern)
        stream = StreamInference(doorway, self.gate, self.streams, forward)
        return {
            "ModelInfer": Inference(doorway, self.gate, forward),
            "ModelStreamInfer": Streaming(stream.infer),
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
            "SystemSharedMemoryRegister": answered(
                pb.SystemSharedMemoryRegisterRequest, regions.register_system
            ),
            "SystemSharedMemoryUnregister": answered(
                pb.SystemSharedMemoryUnregisterRequest, regions.unregister_system
            ),
            "CudaSharedMemoryStatus": answered(pb.CudaSharedMemoryStatusRequest, regions.cuda_status),
            "CudaSharedMemoryRegister": answered(pb.CudaSharedMemoryRegisterRequest, regions.register_cuda),
            "CudaSharedMemoryUnregister": answered(
                pb.CudaSharedMemoryUnregisterRequest, regions.unregister_cuda
            ),
        }

    def _health(self, doorway: Doorway) -> dict[str, Behaviour]:
        health = Health(doorway.repository, self.sessions)
        return {
            "Check": self._answered(health_pb2.HealthCheckRequest, health.check),
            "Watch": Streaming(health.watch),
        }

    def _answered(self, message_type: type[Message], answer: Callable[[Any], Awaitable[Message]]) -> Unary:
        return Unary(self.gate, message_type, answer)
