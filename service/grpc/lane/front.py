"""A listening server of the lane: how it opens, stops accepting, and closes."""

import asyncio
import ssl
from typing import Final

import structlog

from ...http2.budget import PingRules
from ...http2.limits import Limits
from ...listening import ListenAt, Reservation, bound_to_path, not_listening, remove
from ...settings import GrpcSettings, GrpcTlsSettings, KeepaliveSettings
from ...tls import read_root, server_context
from ..methods import Service
from .heads import head_reader
from .link import Link, Links

log: Final = structlog.stdlib.get_logger(__name__)

BACKLOG: Final = 1024
HANDSHAKE_S: Final = 20.0
"""Seconds that a client may take to agree on TLS."""
PARTING_S: Final = 1.0
"""Seconds that clients may take to hang up when all is answered."""


class LaneFront:
    """Where gRPC calls come in, carried by the lane."""

    def __init__(
        self,
        service: Service,
        settings: GrpcSettings,
        keepalive: KeepaliveSettings,
        tls: GrpcTlsSettings,
    ) -> None:
        self.service = "GRPCInferenceService"
        self.port = settings.port
        """The port listened at; where 0 was asked for, it is known once started."""
        self._socket = ListenAt(settings.address, settings.port, settings.reuse_port)
        self._service = service
        self._keepalive = keepalive
        self._tls = tls
        self._read = head_reader(service.methods)
        self._limits = Limits(pings=_ping_rules(keepalive))
        self._links = Links()
        self._reservation: Reservation | None = None
        self._context: ssl.SSLContext | None = None
        self._listener: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """Where it listens, as `address:port` or `unix:path`."""
        return self._socket.named(self.port)

    def prepare(self) -> None:
        """Keep the place to listen at; raises InferError where it or the certificate cannot be had."""
        if self._tls.enabled:
            self._context = _tls(self._tls)
        self._reservation = Reservation(self._socket)
        self._socket = self._reservation.place

    async def start(self) -> None:
        """Listen; raises InferError where that cannot be."""
        if self._reservation is None:
            self.prepare()
        assert self._reservation is not None
        self._reservation.make_way()
        try:
            self._listener = await self._listen()
        except OSError as error:
            raise not_listening(self.address, error) from None
        finally:
            self._release()
        if not self._socket.path:
            self.port = self._listener.sockets[0].getsockname()[1]
        log.info("Started %s at %s", self.service, self.address)

    async def stop_accepting(self) -> None:
        """Refuse new calls from now on; those that are being answered go on."""
        self._release()
        self._service.gate.close()

    async def close(self, grace_s: float) -> None:
        """End every call after its answer, or after the grace; streams take no further requests.

        Until all are answered the port is open: whoever comes is told why there is no answer.
        """
        self._service.wind_down()
        try:
            async with asyncio.timeout(grace_s):
                await self._service.gate.wait_until_empty()
        except TimeoutError:
            for link in self._links:
                link.connection.end()
                link.flush()
        self._stop_listening()
        for link in self._links:
            link.leave()
        await self._parting()

    async def _parting(self) -> None:
        """Wait a moment for those who are being hung up on, then for nobody."""
        try:
            async with asyncio.timeout(PARTING_S):
                await self._links.wait_until_none()
        except TimeoutError:
            for link in self._links:
                link.abort()

    def _link(self) -> Link:
        return Link(self._read, self._limits, self._keepalive, self._links)

    def _release(self) -> None:
        if self._reservation is not None:
            self._reservation.release()

    async def _listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        handshake_s = HANDSHAKE_S if self._context is not None else None
        path = self._socket.path
        if path:
            return await loop.create_unix_server(
                self._link,
                sock=bound_to_path(path),
                backlog=BACKLOG,
                ssl=self._context,
                ssl_handshake_timeout=handshake_s,
            )
        return await loop.create_server(
            self._link,
            self._socket.address or None,
            self._socket.port,
            backlog=BACKLOG,
            reuse_port=self._socket.reuse_port or None,
            ssl=self._context,
            ssl_handshake_timeout=handshake_s,
        )

    def _stop_listening(self) -> None:
        if self._listener is not None and self._listener.is_serving():
            self._listener.close()
            if self._socket.path:
                remove(self._socket.path)


def _ping_rules(keepalive: KeepaliveSettings) -> PingRules:
    return PingRules(
        keepalive.min_ping_interval_without_data_ms / 1000.0,
        keepalive.max_ping_strikes,
        keepalive.permit_without_calls,
    )


def _tls(tls: GrpcTlsSettings) -> ssl.SSLContext:
    """Return TLS that agrees on HTTP/2, with clients that are vouched for where that is asked for."""
    context = server_context(tls)
    context.set_alpn_protocols(["h2"])
    if tls.root is not None:
        context.load_verify_locations(cadata=read_root(tls.root).decode("ascii"))
    if tls.mutual:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
