"""The lane: requests of all kinds on one connection, whole and in pieces, and who answers them."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from deuteron.service.doorway import Doorway
from deuteron.service.http.door import http_front
from deuteron.service.http.front import HttpFront
from deuteron.service.http.lane import MAX_AHEAD, Connection, Turn
from deuteron.service.settings import HttpSettings

Until = Callable[[Callable[[], object]], Awaitable[None]]

BODY = json.dumps(
    {"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
).encode()


def post(model: str = "simple", body: bytes = BODY, *headers: str) -> bytes:
    lines = [
        f"POST /v2/models/{model}/infer HTTP/1.1",
        "Host: here",
        f"Content-Length: {len(body)}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: here\r\n\r\n"
INDEX = b"POST /v2/repository/index HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = (
    b"POST /v2/models/simple/infer HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
)


@pytest.fixture
async def front(doorway: Doorway) -> AsyncIterator[HttpFront]:
    front = http_front(doorway, HttpSettings(address="127.0.0.1", port=0))
    await front.start()
    yield front
    await front.close(1.0)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, bytes]:
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.partition(b":")[2])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-le")
            )
            return int(head.split(b" ")[1]), await self.reader.readexactly(length)


@asynccontextmanager
async def connected(front: HttpFront) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def the_connection(front: HttpFront) -> Connection:
    assert front._lane is not None
    (connection,) = front._lane.connections
    return connection


async def test_what_the_lane_answers_never_reaches_aiohttp(front: HttpFront) -> None:
    async with connected(front) as client:
        for model, status in [("simple", 200), ("nobody", 404), ("simple", 200)]:
            client.writer.write(post(model))
            assert (await client.answer())[0] == status
        client.writer.write(post(body=b"{nothing"))
        assert (await client.answer())[0] == 500
        assert the_connection(front)._handler is None


async def test_the_lane_reads_again_after_a_request_was_lent(front: HttpFront) -> None:
    async with connected(front) as client:
        for _ in range(3):
            for lent in (LIVE, INDEX):
                client.writer.write(lent)
                assert (await client.answer())[0] == 200
            client.writer.write(post())
            assert (await client.answer())[0] == 200
            assert the_connection(front)._turn is Turn.IDLE


async def test_a_connection_with_a_request_that_is_not_plain_is_given_away(front: HttpFront) -> None:
    async with connected(front) as client:
        for request in (post(), CHUNKED, post(), LIVE, CHUNKED):
            client.writer.write(request)
            assert (await client.answer())[0] == 200
        assert the_connection(front)._turn is Turn.GIVEN


async def test_any_mixture_is_answered_in_order_however_it_is_cut(front: HttpFront) -> None:
    dice = random.Random(7)
    choices = [
        (post(), 200),
        (post("nobody"), 404),
        (LIVE, 200),
        (INDEX, 200),
        (CHUNKED, 200),
        (post(body=b"["), 500),
    ]
    for _ in range(60):
        chosen = dice.choices(choices, k=dice.randint(1, 8))
        text = b"".join(request for request, _ in chosen)
        cuts = sorted(dice.sample(range(1, len(text)), dice.randint(0, 6)))
        async with connected(front) as client:
            for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
                client.writer.write(text[start:end])
                await client.writer.drain()
                for _ in range(dice.randint(0, 3)):
                    await asyncio.sleep(0)
            assert [(await client.answer())[0] for _ in chosen] == [status for _, status in chosen]


async def test_requests_ahead_of_an_answer_are_not_taken_in_without_end(
    front: HttpFront, until: Until
) -> None:
    ahead = 4 * MAX_AHEAD // len(post())
    async with connected(front) as client:
        client.writer.write(post("slow", BODY.replace(b"[1, 4]", b"[4]")) + post() * ahead)
        await until(lambda: the_connection(front)._ahead)
        assert the_connection(front)._ahead_size < 3 * MAX_AHEAD
        for _ in range(1 + ahead):
            assert (await client.answer())[0] == 200
        assert the_connection(front)._turn is Turn.GIVEN


async def test_a_client_that_leaves_takes_its_request_along(
    doorway: Doorway, front: HttpFront, until: Until
) -> None:
    slow = doorway.repository.find("slow")
    async with connected(front) as client:
        client.writer.write(post("slow", BODY.replace(b"[1, 4]", b"[4]")))
        await until(lambda: slow.busy)
    await until(lambda: not slow.busy)
    assert slow.statistics.pending == 0


async def test_a_front_that_closes_answers_what_it_was_asked_and_says_that_it_ends(
    front: HttpFront, until: Until
) -> None:
    async with connected(front) as busy, connected(front) as idle:
        busy.writer.write(post("slow", BODY.replace(b"[1, 4]", b"[4]")))
        assert front._lane is not None
        lane = front._lane
        await until(lambda: any(each._turn is Turn.ASKING for each in lane.connections))
        closing = asyncio.create_task(front.close(10))
        assert await idle.reader.read() == b""
        text = await busy.reader.read()
        assert text.startswith(b"HTTP/1.1 200")
        assert b"\r\nConnection: close\r\n" in text
        await closing
    assert not lane.connections
