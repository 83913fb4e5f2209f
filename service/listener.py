"""A listening socket: its place is kept before models are loaded, listened at afterwards, and given up."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

import structlog

from .listening import ListenAt, Reservation, bound_to_path, not_listening, remove

log: Final = structlog.stdlib.get_logger(__name__)

BACKLOG: Final = 1024
HANDSHAKE_S: Final = 20.0
"""Seconds that a client may take to agree on TLS."""

Protocols = Callable[[], asyncio.Protocol]
"""Makes the protocol of a new connection."""


class Listener:
    """Listens for one front, with asyncio's own servers."""

    __slots__ = ("_context", "_place", "_reservation", "_server", "port", "service")

    def __init__(self, service: str, place: ListenAt) -> None:
        self.service = service
        self.port = place.port
        """The port listened at; where 0 was asked for, it is known once started."""
        self._place = place
        self._reservation: Reservation | None = None
        self._context: ssl.SSLContext | None = None
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """Where it listens, as `address:port` or `unix:path`."""
        return self._place.named(self.port)

    @property
    def is_prepared(self) -> bool:
        """Whether the place is kept."""
        return self._reservation is not None

    def prepare(self, context: ssl.SSLContext | None = None) -> None:
        """Keep the place, to listen at with or without TLS; raises InferError where it cannot be had."""
        self._context = context
        self._reservation = Reservation(self._place)
        self._place = self._reservation.place

    async def start(self, protocols: Protocols) -> None:
        """Listen; raises InferError where that cannot be."""
        assert self._reservation is not None
        self._reservation.make_way()
        try:
            self._server = await self._listen(protocols)
        except OSError as error:
            raise not_listening(self.address, error) from error
        finally:
            self.release()
        if not self._place.path:
            self.port = self._server.sockets[0].getsockname()[1]
        log.info("Started %s at %s", self.service, self.address)

    def release(self) -> None:
        """Give the place up, or leave it to who listens there by now."""
        if self._reservation is not None:
            self._reservation.release()

    def stop(self) -> None:
        """Listen no more; connections that are open go on."""
        self.release()
        if self._server is not None and self._server.is_serving():
            self._server.close()
            if self._place.path:
                remove(self._place.path)

    async def _listen(self, protocols: Protocols) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        handshake_s = HANDSHAKE_S if self._context is not None else None
        path = self._place.path
        if path:
            return await loop.create_unix_server(
                protocols,
                sock=bound_to_path(path),
                backlog=BACKLOG,
                ssl=self._context,
                ssl_handshake_timeout=handshake_s,
            )
        return await loop.create_server(
            protocols,
            self._place.address or None,
            self._place.port,
            backlog=BACKLOG,
            reuse_port=self._place.reuse_port or None,
            ssl=self._context,
            ssl_handshake_timeout=handshake_s,
        )
