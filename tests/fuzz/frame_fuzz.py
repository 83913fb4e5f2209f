"""Mutated frames of HTTP/2: calls as a client makes them, with frames changed, doubled and out of order."""

import asyncio
from random import Random
from typing import Final

import hpack

from deuteron.service.http2 import frames
from deuteron.service.http2.errors import ErrorCode
from deuteron.service.http2.frames import frame

from ..differential.grpc_requests import GrpcRequest, grpc_requests
from .http_fuzz import hang_up
from .mutations import mutated
from .tally import Tally

CONNECTIONS: Final = 16
CALLS: Final = 12
"""Calls of one connection, if it lives to see them."""
PATIENCE_S: Final = 10.0
MUTATED: Final = 0.15
"""The part of the frames that is mutated; a connection seldom survives its first few."""
SERVICE: Final = "/inference.GRPCInferenceService/"


class FrameFuzz:
    """Sends until its share of frames is sent."""

    def __init__(self, address: str, rng: Random, number: int, tally: Tally) -> None:
        self._host, _, port = address.partition(":")
        self._port = int(port)
        self._rng = rng
        self._seeds = list(grpc_requests(rng, 500))
        self._left = number
        self._tally = tally

    async def run(self) -> None:
        """Send everything."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(self._connect())

    async def _connect(self) -> None:
        while self._left > 0:
            sent = self._session()
            self._left -= len(sent)
            data = b"".join(sent)
            told = await self._speak(data)
            for each in sent:
                self._tally.count(f"frames, {ended_with(told)}", told, each)

    async def _speak(self, data: bytes) -> bytes:
        """Send bytes cut anywhere, and return what came back until nobody had more to say."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                reader, writer = await asyncio.open_connection(self._host, self._port)
        except (OSError, TimeoutError) as error:
            return type(error).__name__.encode()
        hearing = asyncio.ensure_future(reader.read())
        try:
            async with asyncio.timeout(PATIENCE_S):
                at = 0
                while at < len(data) and not hearing.done():
                    size = self._rng.choice((1, 9, 100, 1000, 65_536))
                    writer.write(data[at : at + size])
                    await asyncio.sleep(0)
                    at += size
                writer.write_eof()
                return await hearing
        except (OSError, TimeoutError) as error:
            return type(error).__name__.encode()
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
            await hang_up(writer)

    def _session(self) -> list[bytes]:
        rng = self._rng
        encoder = hpack.Encoder()
        sent: list[bytes] = []
        for number in range(1, 2 * CALLS, 2):
            sent += self._call(encoder, number, rng.choice(self._seeds))
        for _ in range(rng.randrange(4)):
            sent.insert(rng.randrange(len(sent)), rng.choice(sent))
            at = rng.randrange(len(sent) - 1)
            sent[at], sent[at + 1] = sent[at + 1], sent[at]
        changed = [self._changed(each) if rng.random() < MUTATED else each for each in sent]
        settings = frames.settings({frames.INITIAL_WINDOW_SIZE: rng.choice((0, 100, 65_535, 2**31 - 1))})
        return [frames.PREFACE + settings, *changed]

    def _call(self, encoder: hpack.Encoder, number: int, seed: GrpcRequest) -> list[bytes]:
        """Return the frames of a call, cut as a client might."""
        rng = self._rng
        block = encoder.encode(
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", SERVICE + seed.method),
                (":authority", "here"),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                *([("grpc-timeout", rng.choice(("1S", "5m", "1n")))] if rng.random() < 0.3 else []),
                *([("x-mine", str(rng.random()))] if rng.random() < 0.3 else []),
            ]
        )
        cut = rng.randrange(len(block)) if rng.random() < 0.2 else len(block)
        sent = [frame(frames.HEADERS, 0 if cut < len(block) else frames.END_HEADERS, number, block[:cut])]
        if cut < len(block):
            sent.append(frame(frames.CONTINUATION, frames.END_HEADERS, number, block[cut:]))
        body = b"".join(b"\0" + len(message).to_bytes(4) + message for message in seed.messages)
        step = rng.choice((1 << 20, 1000, 50))
        sent += [frame(frames.DATA, 0, number, body[at : at + step]) for at in range(0, len(body), step)][:40]
        sent.append(
            rng.choice(
                (
                    frame(frames.DATA, frames.END_STREAM, number),
                    frame(frames.DATA, frames.END_STREAM | frames.PADDED, number, b"\4abcd1234"),
                    frames.rst_stream(number, ErrorCode.CANCEL),
                )
            )
        )
        sent.append(frames.window_update(rng.choice((0, number)), rng.choice((1, 1000, 2**20))))
        if rng.random() < 0.3:
            sent.append(frame(frames.PING, rng.randrange(2), 0, bytes(8)))
        return sent

    def _changed(self, whole: bytes) -> bytes:
        """Return a frame with its head changed, or its payload, or both, and mostly with its true length."""
        rng = self._rng
        high, _, kind, flags, stream_id = frames.HEAD.unpack_from(whole)
        payload = whole[frames.HEAD_SIZE :]
        match rng.randrange(6):
            case 0:
                kind = rng.randrange(12)
            case 1:
                flags ^= 1 << rng.randrange(8)
            case 2:
                stream_id = rng.choice((0, 1, 2, stream_id - 2, stream_id + 2, stream_id | 1 << 31)) % 2**32
            case 3:
                return frames.HEAD.pack(high, rng.randrange(256), kind, flags, stream_id) + payload
            case _:
                payload = mutated(rng, payload)
        return frame(kind, flags, stream_id, payload)


def ended_with(told: bytes) -> str:
    """Return how a server ended a connection: the error of its farewell."""
    if told.isalpha():
        return told.decode()
    code = None
    while len(told) >= frames.HEAD_SIZE:
        high, low, kind, _, _ = frames.HEAD.unpack_from(told)
        end = frames.HEAD_SIZE + (high << 8 | low)
        if kind == frames.GOAWAY:
            code = int.from_bytes(told[frames.HEAD_SIZE + 4 : frames.HEAD_SIZE + 8])
        told = told[end:]
    return "hung up on" if code is None else ErrorCode(code).name
