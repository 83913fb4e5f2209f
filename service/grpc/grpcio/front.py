"""A listening server of grpcio: how it opens, stops accepting, and closes."""

import asyncio
import socket
from typing import Final

import grpc
import structlog

from ....proto.errors import Fault, InferError
from ....proto.kserve_grpc import MAX_MESSAGE_SIZE
from ...listening import ListenAt, Reservation, check_free, not_listening
from ...settings import GrpcSettings, GrpcTlsSettings, KeepaliveSettings
from ...tls import read_pem, read_root, server_context
from ..methods import Service
from .calls import rpc_handlers

log: Final = structlog.stdlib.get_logger(__name__)


class GrpcioFront:
    """Where gRPC calls come in, carried by grpcio."""

    def __init__(
        self,
        service: Service,
        settings: GrpcSettings,
        keepalive: KeepaliveSettings,
        tls: GrpcTlsSettings,
    ) -> None:
        self.service = "GRPCInferenceService"
        self._socket = ListenAt(settings.address, settings.port, settings.reuse_port)
        self._reservation: Reservation | None = None
        self._credentials: grpc.ServerCredentials | None = None
        self._tls = tls
        self._service = service
        self.port = settings.port
        """The port listened at; where 0 was asked for, it is known once started."""
        self._server = grpc.aio.server(
            handlers=[rpc_handlers(service.methods)],
            options=channel_options(settings, keepalive),
        )

    @property
    def address(self) -> str:
        """Where it listens, as `address:port` or `unix:path`."""
        return self._socket.named(self.port)

    def prepare(self) -> None:
        """Keep the place to listen at; raises InferError where it or the certificate cannot be had."""
        if self._tls.enabled:
            self._credentials = _credentials(self._tls)
        self._reservation = Reservation(self._socket)
        self._socket = self._reservation.place

    async def start(self) -> None:
        """Listen; raises InferError where that cannot be."""
        if self._reservation is None:
            self.prepare()
        assert self._reservation is not None
        self._reservation.make_way()
        target = _target(self._socket)
        try:
            if self._socket.path:
                check_free(self._socket.path)  # gRPC would push aside whoever listens there
            if self._credentials is None:
                port = self._server.add_insecure_port(target)
            else:
                port = self._server.add_secure_port(target, self._credentials)
        except OSError as error:
            raise not_listening(self.address, error) from None
        except RuntimeError as error:
            raise _not_listening(self.address, self._socket, error) from None
        finally:
            self._release()
        if not self._socket.path:
            self.port = port
        await self._server.start()
        log.info("Started %s at %s", self.service, self.address)

    def _release(self) -> None:
        if self._reservation is not None:
            self._reservation.release()

    async def stop_accepting(self) -> None:
        """Refuse new calls from now on; those that are being answered go on."""
        self._release()
        self._service.gate.close()

    async def close(self, grace_s: float) -> None:
        """End every call after its answer, or after the grace; streams take no further requests.

        grpcio itself stops last: once it does, it breaks off newcomers without a word.
        """
        self._service.wind_down()
        try:
            async with asyncio.timeout(grace_s):
                await self._service.gate.wait_until_empty()
        except TimeoutError:
            grace_s = 0
        await self._server.stop(grace_s)


def _credentials(tls: GrpcTlsSettings) -> grpc.ServerCredentials:
    """Return what gRPC needs of the certificates; raises InferError, as gRPC itself would not."""
    server_context(tls)
    assert tls.key is not None
    assert tls.certificate is not None
    return grpc.ssl_server_credentials(
        [(read_pem(tls.key), read_pem(tls.certificate))],
        root_certificates=None if tls.root is None else read_root(tls.root),
        require_client_auth=tls.mutual,
    )


def _not_listening(where: str, at: ListenAt, refused: RuntimeError) -> InferError:
    """Return the error of a port that gRPC could not have; it does not say why, so ask the system."""
    if not at.path:
        try:
            socket.create_server((at.address, at.port)).close()
        except OSError as error:
            return not_listening(where, error)
    return InferError(Fault.UNAVAILABLE, f"cannot listen at '{where}': {refused}")


def _target(at: ListenAt) -> str:
    if at.path:
        return at.address
    return f"[{at.address}]:{at.port}" if ":" in at.address else f"{at.address or '0.0.0.0'}:{at.port}"  # noqa: S104


def channel_options(settings: GrpcSettings, keepalive: KeepaliveSettings) -> list[tuple[str, int]]:
    """Return gRPC's channel arguments."""
    options = [
        ("grpc.so_reuseport", int(settings.reuse_port)),
        ("grpc.max_receive_message_length", MAX_MESSAGE_SIZE),
        ("grpc.max_send_message_length", MAX_MESSAGE_SIZE),
        ("grpc.keepalive_time_ms", keepalive.time_ms),
        ("grpc.keepalive_timeout_ms", keepalive.timeout_ms),
        ("grpc.keepalive_permit_without_calls", int(keepalive.permit_without_calls)),
        ("grpc.http2.max_pings_without_data", keepalive.max_pings_without_data),
        (
            "grpc.http2.min_recv_ping_interval_without_data_ms",
            keepalive.min_ping_interval_without_data_ms,
        ),
        ("grpc.http2.max_ping_strikes", keepalive.max_ping_strikes),
    ]
    if keepalive.max_connection_age_ms > 0:
        options.append(("grpc.max_connection_age_ms", keepalive.max_connection_age_ms))
    if keepalive.max_connection_age_grace_ms > 0:
        options.append(("grpc.max_connection_age_grace_ms", keepalive.max_connection_age_grace_ms))
    return options
