"""A gRPC channel that sends messages as bytes and tells what came back."""

from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToDict

from deuteron.proto.schema import grpc_service_pb2 as pb

from .answers import Answer, plain
from .grpc_requests import GrpcRequest

TIMEOUT_S: Final = 5.0
SERVICE: Final = "inference.GRPCInferenceService"

_STREAM_RESPONSE: Final = pb.ModelStreamInferResponse
_RESPONSES: Final[dict[str, Any]] = {
    name: getattr(pb, f"{name}Response")
    for name in (
        "ServerLive",
        "ServerReady",
        "ServerMetadata",
        "ModelReady",
        "ModelMetadata",
        "ModelConfig",
        "ModelStatistics",
        "ModelInfer",
        "RepositoryIndex",
        "RepositoryModelLoad",
        "RepositoryModelUnload",
    )
}


class GrpcWire:
    """A channel to one server."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)

    def ask(self, request: GrpcRequest) -> Answer:
        """Make a call and return the answer; one that is late is an answer of its own."""
        told: list[str] = []
        try:
            if request.streams:
                call = self._channel.stream_stream(f"/{SERVICE}/{request.method}", None, None)
                bodies = call(iter(request.messages), timeout=TIMEOUT_S, metadata=request.metadata)
                told.extend(_said(_STREAM_RESPONSE, body) for body in bodies)
            else:
                (message,) = request.messages
                answered = self._channel.unary_unary(f"/{SERVICE}/{request.method}", None, None)
                told.append(_said(_RESPONSES[request.method], answered(message, timeout=TIMEOUT_S)))
        except grpc.RpcError as error:
            told.append(error.details() or "")
            return Answer(_status(error.code()), "\n".join(told))
        return Answer("OK", "\n".join(told))

    def close(self) -> None:
        """Hang up."""
        self._channel.close()


def _status(code: grpc.StatusCode) -> str:
    return "no answer" if code is grpc.StatusCode.DEADLINE_EXCEEDED else code.name


def _said(kind: Any, body: bytes) -> str:  # noqa: ANN401 - the messages have no common type of use here
    return plain(MessageToDict(kind.FromString(body), preserving_proto_field_name=True))
