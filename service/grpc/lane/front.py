"""A listening server of the lane: how it opens, stops accepting, and closes."""

import asyncio
import ssl
from typing import Final

from ...http2.budget import PingRules
from ...http2.limits import Limits
from ...listener import Listener
from ...listening import ListenAt
from ...settings import GrpcSettings, GrpcTlsSettings, KeepaliveSettings
from ...tls import read_root, server_context
from ..methods import Service
from .heads import head_reader
from .link import Link, Links

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
        self._listener = Listener(
            "GRPCInferenceService", ListenAt(settings.address, settings.port, settings.reuse_port)
        )
        self._service = service
        self._keepalive = keepalive
        self._tls = tls
        self._read = head_reader(service.methods)
        self._limits = Limits(pings=_ping_rules(keepalive))
        self._links = Links()

    @property
    def service(self) -> str:
        """What it is called in the log."""
        return self._listener.service

    @property
    def port(self) -> int:
        """The port listened at; where 0 was asked for, it is known once started."""
        return self._listener.port

    @property
    def address(self) -> str:
        """Where it listens, as `address:port` or `unix:path`."""
        return self._listener.address

    def prepare(self) -> None:
        """Keep the place to listen at; raises InferError where it or the certificate cannot be had."""
        self._listener.prepare(_tls(self._tls) if self._tls.enabled else None)

    async def start(self) -> None:
        """Listen; raises InferError where that cannot be."""
        if not self._listener.is_prepared:
            self.prepare()
        await self._listener.start(self._link)

    async def stop_accepting(self) -> None:
        """Refuse new calls from now on; those that are being answered go on."""
        self._listener.release()
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
        self._listener.stop()
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
