"""Mutated requests over HTTP: bodies on kept connections, one by one or several ahead, and whole requests."""

import asyncio
from contextlib import suppress
from random import Random
from typing import Final

from ..differential.http_drafts import HttpRequest
from ..differential.http_requests import http_requests
from .mutations import mutated
from .tally import Tally

CONNECTIONS: Final = 16
AHEAD: Final = 8
ODD_ONES: Final = 0.1
"""The part of the requests that is mutated as a whole, head and body."""
PATIENCE_S: Final = 30.0
"""How long a request whose length is told right may take."""
ODD_PATIENCE_S: Final = 0.05
"""How long to wait for the answer to what may be half a request."""

ROUTES: Final = (
    (
        "POST",
        "/v2/models/add_sub/generate",
        b'{"INPUT0": [1,2,3,4], "INPUT1": [1,2,3,4], "parameters": {"x": 1}}',
    ),
    ("POST", "/v2/models/repeat/generate_stream", b'{"INPUT0": [1, 2, 3]}'),
    ("POST", "/v2/repository/index", b'{"ready": true}'),
    ("POST", "/v2/repository/models/add_sub/load", b'{"parameters": {"config": "{}", "file:1/m": "AAAA"}}'),
    ("POST", "/v2/trace/setting", b'{"trace_level": ["OFF"], "trace_rate": "5", "trace_count": null}'),
    ("POST", "/v2/logging", b'{"log_info": false, "log_verbose_level": 0}'),
    ("POST", "/v2/systemsharedmemory/region/r/register", b'{"key": "/nothing", "offset": 0, "byte_size": 8}'),
    ("POST", "/v2/cudasharedmemory/region/r/register", b'{"raw_handle": {"b64": "AAAA"}, "byte_size": 8}'),
    ("GET", "/v2/models/add_sub/versions/1/config", b""),
)
"""What random inference requests do not reach."""


def seeds(rng: Random, number: int) -> list[HttpRequest]:
    """Return requests to be mutated."""
    others = [HttpRequest("route", method, path, body) for method, path, body in ROUTES]
    return [*http_requests(rng, number), *others * (number // 50)]


def _head(request: HttpRequest, size: int) -> bytes:
    lines = [f"{request.method} {request.path} HTTP/1.1", "Host: fuzz", f"Content-Length: {size}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


class HttpFuzz:
    """Sends until its share is sent."""

    def __init__(self, address: str, rng: Random, number: int, tally: Tally) -> None:
        self._host, _, port = address.partition(":")
        self._port = int(port)
        self._rng = rng
        self._seeds = seeds(rng, 2000)
        self._left = number
        self._odd_ones_left = int(number * ODD_ONES)
        self._tally = tally

    async def run(self) -> None:
        """Send everything."""
        async with asyncio.TaskGroup() as group:
            for place in range(CONNECTIONS):
                if place % 4 == 3:
                    group.create_task(self._send_odd_ones())
                else:
                    group.create_task(self._send_bodies(1 if place % 2 else AHEAD))

    @property
    def _others_left(self) -> int:
        return self._left - self._odd_ones_left

    def _take(self, number: int) -> int:
        taken = max(0, min(number, self._left))
        self._left -= taken
        return taken

    def _well_framed(self) -> bytes:
        """Return a request whose body alone is mutated, so that both sides know where it ends."""
        seed = self._rng.choice(self._seeds)
        body = mutated(self._rng, seed.body) if self._rng.random() < 0.95 else seed.body
        return _head(seed, len(body)) + body

    async def _send_bodies(self, ahead: int) -> None:
        while taken := self._take(min(200, self._others_left)):
            reader, writer = await asyncio.open_connection(self._host, self._port)
            try:
                while taken > 0:
                    requests = [self._well_framed() for _ in range(min(ahead, taken))]
                    taken -= len(requests)
                    writer.write(b"".join(requests))
                    for request in requests:
                        async with asyncio.timeout(PATIENCE_S):
                            status, answer = await _response(reader, is_head=request.startswith(b"HEAD"))
                        self._tally.count(f"HTTP {status}", answer, request)
            except (ConnectionError, asyncio.IncompleteReadError):
                self._tally.count("HTTP hung up", b"", b"")
                self._left += taken
            finally:
                await hang_up(writer)

    async def _send_odd_ones(self) -> None:
        while self._odd_ones_left > 0 and self._take(1):
            self._odd_ones_left -= 1
            seed = self._rng.choice(self._seeds)
            request = mutated(self._rng, _head(seed, len(seed.body)) + seed.body)
            reader, writer = await asyncio.open_connection(self._host, self._port)
            answer = b""
            try:
                writer.write(request)
                async with asyncio.timeout(ODD_PATIENCE_S):
                    answer = await reader.read(4096)
            except (ConnectionError, TimeoutError):
                pass
            finally:
                await hang_up(writer)
            status = answer[9:12].decode("ascii", "replace") if answer else "no answer"
            self._tally.count(f"HTTP {status}, mutated as a whole", answer, request)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection, and wait until it is."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _response(reader: asyncio.StreamReader, *, is_head: bool) -> tuple[str, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    status = head[9:12].decode()
    lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if is_head:
        return status, b""
    if lines.get(b"transfer-encoding") == b"chunked":
        pieces = []
        while size := int(await reader.readline(), 16):
            pieces.append((await reader.readexactly(size + 2))[:-2])
        await reader.readline()
        return status, b"".join(pieces)
    return status, await reader.readexactly(int(lines.get(b"content-length", b"0")))
