"""The gRPC door, with the engine that the operator chose."""

from typing import Final, Protocol

from ..doorway import Doorway
from ..lifecycle import Front
from ..settings import GrpcEngine, GrpcSettings, GrpcTlsSettings, KeepaliveSettings
from .lane.front import LaneFront
from .methods import Service

NO_TLS: Final = GrpcTlsSettings()


class GrpcFront(Front, Protocol):
    """Where gRPC calls come in."""

    @property
    def port(self) -> int:
        """The port listened at; where 0 was asked for, it is known once started."""


def grpc_front(
    doorway: Doorway,
    settings: GrpcSettings,
    keepalive: KeepaliveSettings,
    tls: GrpcTlsSettings = NO_TLS,
) -> GrpcFront:
    """Return the front that serves the inference protocol."""
    service = Service(doorway, settings)
    if settings.engine is GrpcEngine.LANE:
        return LaneFront(service, settings, keepalive, tls)
    from .grpcio.front import GrpcioFront  # noqa: PLC0415 - only who asks for grpcio waits for its import

    return GrpcioFront(service, settings, keepalive, tls)
