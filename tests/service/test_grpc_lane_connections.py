"""How the lane keeps connections: windows, probes, ages, and clients that do not behave."""

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    PingReceived,
)
from h2.settings import SettingCodes

from deuteron.proto.schema import grpc_service_pb2 as pb
from deuteron.service.doorway import Doorway
from deuteron.service.grpc import stream
from deuteron.service.grpc.front import GrpcFront
from deuteron.service.grpc.inference import InferCall
from deuteron.service.grpc.lane import link, streaming
from deuteron.service.grpc.lane.keeping import Keeper
from deuteron.service.grpc.lane.streaming import StreamExchange
from deuteron.service.grpc.lane.unary import RefusedExchange, UnaryExchange
from deuteron.service.grpc.status import Status
from deuteron.service.http2.connection import Connection
from deuteron.service.http2.errors import ErrorCode
from deuteron.service.http2.frames import ACK, DATA, END_STREAM, GOAWAY, PING, WINDOW_UPDATE, frame
from deuteron.service.http2.frames import HEADERS as HEADERS_FRAME
from deuteron.service.http2.stream import Stream

from .http2_peer import sent_frames
from .lane_wire import HEADERS, Wire, connected, framed, request

HERE = "127.0.0.1"
Open = Callable[..., Awaitable[GrpcFront]]
Until = Callable[[Callable[[], object]], Awaitable[None]]


# --- windows ---


async def test_an_answer_waits_for_the_window_of_its_client(wire: Wire) -> None:
    wire.makes_room = False
    body = framed(request("large", 60_000))
    pieces = [body[at : at + 16_000] for at in range(0, len(body), 16_000)]
    stream_id = wire.call(*pieces)
    assert (await wire.answer(stream_id)).status[0] is Status.OK
    await wire.until(lambda: wire.h2.outbound_flow_control_window > 65_535)
    second = wire.call(*pieces)
    await wire.until(lambda: sum(len(e.data) for e in wire.events if isinstance(e, DataReceived)) == 65_535)
    third = wire.call(framed(pb.ModelInferRequest(model_name="no").SerializeToString()))
    assert (await wire.answer(third)).status[0] is Status.NOT_FOUND
    wire.h2.increment_flow_control_window(100_000)
    wire.flush()
    assert (await wire.answer(second)).status[0] is Status.OK


async def test_an_answer_that_finds_no_room_for_long_is_taken_back(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "PATIENCE_S", 0.02)
    wire.makes_room = False
    await wire.until(lambda: wire.h2.outbound_flow_control_window > 65_535)
    body = framed(request("large", 40_000))
    pieces = [body[at : at + 16_000] for at in range(0, len(body), 16_000)]
    first, second = wire.call(*pieces), wire.call(*pieces)
    assert (await wire.answer(first)).status[0] is Status.OK
    assert (await wire.answer(second)).reset == ErrorCode.CANCEL
    wire.h2.increment_flow_control_window(100_000)
    assert (await wire.answer(wire.call(*pieces))).status[0] is Status.OK


async def test_a_stream_whose_requests_wait_is_allowed_no_more(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is slow and the client quick: the window stays shut until the model has caught up."""
    monkeypatch.setattr(stream, "MAX_OPEN", 1)
    monkeypatch.setattr(streaming, "BACKLOG", 1000)
    await wire.until(lambda: wire.h2.remote_settings.initial_window_size > 65_535)
    call = wire.call(ends=False, path="ModelStreamInfer")
    slow = pb.ModelInferRequest.FromString(request("slow"))
    slow.parameters["ballast"].string_param = "x" * 1_000_000
    body = framed(slow.SerializeToString())
    for at in range(0, 4 * len(body), 16_000):
        wire.h2.send_data(call, (4 * body)[at : at + 16_000])
    wire.h2.end_stream(call)
    wire.flush()
    assert (await wire.answer(call)).status[0] is Status.OK
    heard = [kind for kind, _, stream_id, _ in sent_frames(wire.raw) if stream_id == call]
    assert heard.count(DATA) == 4
    assert WINDOW_UPDATE not in heard[: heard.index(DATA)]


# --- how connections are kept ---


async def test_a_silent_client_is_probed_and_hung_up_on_when_it_does_not_answer(open_lane: Open) -> None:
    front = await open_lane(time_ms=20, timeout_ms=20, permit_without_calls=True)
    async with connected(front) as wire:
        await wire.until(lambda: sum(isinstance(event, PingReceived) for event in wire.events) > 2)
        assert not wire.closed  # it answers: the package h2 does by itself
        wire.flush = lambda: None  # type: ignore[method-assign]
        await wire.until(lambda: wire.closed)


async def test_a_client_without_calls_is_not_probed_where_that_is_not_permitted(open_lane: Open) -> None:
    front = await open_lane(time_ms=10, timeout_ms=10)
    async with connected(front) as wire:
        call = wire.call(ends=False, path="ModelStreamInfer")
        await wire.until(lambda: any(isinstance(event, PingReceived) for event in wire.events))
        wire.h2.end_stream(call)
        wire.flush()
        await wire.answer(call)
        wire.events.clear()
        for _ in range(3):
            assert (await wire.infer(framed(request("slow")))).status[0] is Status.OK
        assert sum(isinstance(event, PingReceived) for event in wire.events) <= 3 * 2


async def test_a_connection_of_age_is_told_to_come_anew_after_its_calls(open_lane: Open) -> None:
    """First that it is about to end, then, as soon as that was heard, with which call."""
    front = await open_lane(max_connection_age_ms=20)
    async with connected(front) as wire:
        wire.only_listens = True
        call = wire.call(ends=False, path="ModelStreamInfer")
        await wire.until(lambda: wire.told(PING))
        assert [int.from_bytes(payload[:4]) for payload in wire.told(GOAWAY)] == [2**31 - 1]
        wire.send_raw(frame(PING, ACK, 0, wire.told(PING)[0]))
        await wire.until(lambda: len(wire.told(GOAWAY)) > 1)
        assert int.from_bytes(wire.told(GOAWAY)[1][:4]) == call
        assert not wire.told(HEADERS_FRAME)
        wire.send_raw(frame(DATA, END_STREAM, call))
        await wire.until(lambda: wire.closed)
        assert len(wire.told(HEADERS_FRAME)) == 2


async def test_a_connection_of_age_is_hung_up_on_after_its_grace(open_lane: Open) -> None:
    front = await open_lane(max_connection_age_ms=10, max_connection_age_grace_ms=10)
    async with connected(front) as wire:
        wire.only_listens = True
        wire.call(ends=False, path="ModelStreamInfer")
        await wire.until(lambda: wire.told(PING))
        wire.send_raw(frame(PING, ACK, 0, wire.told(PING)[0]))
        await wire.until(lambda: wire.closed)


async def test_a_client_that_probes_too_often_is_hung_up_on(open_lane: Open) -> None:
    front = await open_lane(max_ping_strikes=1)
    async with connected(front) as wire, connected(front) as other:
        for _ in range(4):
            wire.h2.ping(b"12345678")
        wire.flush()
        assert await wire.end() == (ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings")
        assert (await other.infer(framed(request()))).status[0] is Status.OK


async def test_who_does_not_greet_in_time_is_hung_up_on(
    open_lane: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "GREETING_S", 0.02)
    reader, writer = await asyncio.open_connection(HERE, (await open_lane()).port)
    writer.write(b"PRI * HT")
    async with asyncio.timeout(5):
        assert (await reader.read()).endswith(ErrorCode.SETTINGS_TIMEOUT.to_bytes(4))
    writer.close()


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\nHost: me\r\n\r\n", bytes(100), b"\x16\x03\x01\x02"])
async def test_who_speaks_something_else_is_hung_up_on(open_lane: Open, words: bytes) -> None:
    reader, writer = await asyncio.open_connection(HERE, (await open_lane()).port)
    writer.write(words)
    async with asyncio.timeout(5):
        assert b"no HTTP/2" in await reader.read()
    writer.close()


async def test_a_client_that_reads_nothing_is_hung_up_on(
    open_lane: Open, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """Its windows are wide open and its socket is full."""
    monkeypatch.setattr(link, "STALLED_S", 0.02)
    front = await open_lane()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (HERE, front.port))
        client = H2Connection(H2Configuration(client_side=True))
        client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 30})
        client.initiate_connection()
        client.increment_flow_control_window(1 << 30)
        sent = client.data_to_send()
        for number in range(1, 9, 2):
            client.send_headers(number, HEADERS)
            body = framed(request("large", 3_000_000))
            frames_ = [body[at : at + 16_000] for at in range(0, len(body), 16_000)]
            sent += client.data_to_send()
            sent += b"".join(len(each).to_bytes(3) + b"\0\0" + number.to_bytes(4) + each for each in frames_)
            sent += b"\0\0\0\0\1" + number.to_bytes(4)
        async with asyncio.timeout(10):
            with suppress(ConnectionError):
                while True:
                    await asyncio.get_running_loop().sock_sendall(sock, sent)
                    sent = frame(PING, ACK, 0, bytes(8))


async def test_calls_in_flight_are_taken_back_when_their_connection_is_lost(
    open_lane: Open, doorway: Doorway, until: Until
) -> None:
    slow = doorway.repository.find("slow")
    async with connected(await open_lane()) as wire:
        for _ in range(20):
            wire.call(framed(request("slow")))
        await until(lambda: slow.statistics.pending > 10)
    await until(lambda: not slow.statistics.pending)
    assert slow.statistics.failures["CANCELED"] > 5


async def test_calls_and_connections_that_are_over_leave_nothing_to_the_collector(
    open_lane: Open, until: Until
) -> None:
    """What holds each other stays until the collector comes by, which it seldom does."""
    front = await open_lane()
    gc.collect()
    gc.disable()
    try:
        async with connected(front) as wire:
            for body in (framed(request()), b"broken", framed(request("no"))):
                for _ in range(3):
                    await wire.infer(body)
            await wire.answer(wire.call(framed(request()), path="ModelStreamInfer"))
            await wire.answer(wire.call(path="No"))
            wire.h2.reset_stream(wire.call(framed(request("slow"))))
            wire.flush()
            await wire.infer(framed(request()))
            await until(lambda: not left(Stream, UnaryExchange, StreamExchange, RefusedExchange, InferCall))
        await front.close(1.0)
        await until(lambda: not left(link.Link, Connection, Keeper))
    finally:
        gc.enable()


def left(*kinds: type) -> list[object]:
    """Return what there is of these kinds."""
    # By their true types: some libraries warn of whoever looks at the class of an object of theirs.
    return [each for each in gc.get_objects() if issubclass(type(each), kinds)]
