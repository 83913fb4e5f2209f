"""Every route and every call has bounds: none takes a body that is too large, or a message that is none."""

from collections.abc import AsyncIterator

import grpc
import pytest
from aiohttp import ClientSession

from deuteron.service.doorway import Doorway
from deuteron.service.grpc.front import GrpcFront
from deuteron.service.http.door import http_front
from deuteron.service.http.front import HttpFront
from deuteron.service.http.routes import ROUTES, spelt_out
from deuteron.service.policy import GROUP_OF_RPC
from deuteron.service.settings import ControlMode, HttpSettings
from deuteron.service.shared_memory import SharedMemory

LIMIT = 1000
POSTS = [
    path.replace("{model}", "simple").replace("{version}", "1").replace("{region}", "r")
    for route in ROUTES
    if "POST" in route.methods
    for path in spelt_out(route.template)
]
GETS = [
    path.replace("{model}", "simple").replace("{version}", "1").replace("{region}", "r")
    for route in ROUTES
    if "GET" in route.methods
    for path in spelt_out(route.template)
]
TAKES_NO_BODY = {path for path in POSTS if path.endswith("/unregister")}
REFUSED_BEFORE = {
    "/v2/systemsharedmemory/register",  # without the name of a region
    "/v2/cudasharedmemory/register",
    "/v2/repository/{repository}/models/simple/load",  # with that of a repository
    "/v2/repository/{repository}/models/simple/unload",
}


@pytest.fixture
async def bounded(doorway: Doorway) -> AsyncIterator[HttpFront]:
    """Open the HTTP door with everything allowed, and bodies of a kilobyte at most."""
    allowed = Doorway(
        doorway.repository, ControlMode.EXPLICIT, "house", "1", shared_memory=SharedMemory(allowed=True)
    )
    front = http_front(allowed, HttpSettings(address="127.0.0.1", port=0, max_input_size=LIMIT))
    await front.start()
    yield front
    await front.close(1.0)


@pytest.mark.parametrize("path", POSTS)
async def test_a_body_that_is_too_large_is_refused(bounded: HttpFront, path: str) -> None:
    async with (
        ClientSession() as session,
        session.post(f"http://{bounded.address}{path}", data=b" " * (LIMIT + 1)) as answer,
    ):
        told = await answer.text()
    if path in TAKES_NO_BODY:
        assert answer.status == 200
    elif path in REFUSED_BEFORE:
        assert answer.status in (400, 501)
    else:
        assert (answer.status, "exceeds the maximum allowed input size of 1000 bytes" in told) == (400, True)


@pytest.mark.parametrize("path", POSTS)
async def test_a_body_without_end_is_not_waited_for(bounded: HttpFront, path: str) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65536

    async with ClientSession() as session:
        try:
            async with session.post(f"http://{bounded.address}{path}", data=endless()) as answer:
                assert path in TAKES_NO_BODY or answer.status in (400, 501)
        except OSError:
            pass  # the server answered, and hung up while the body was still being sent


@pytest.mark.parametrize("path", GETS)
async def test_a_question_takes_no_body(bounded: HttpFront, path: str) -> None:
    async with (
        ClientSession() as session,
        session.get(f"http://{bounded.address}{path}", data=b" " * 100_000) as answer,
    ):
        assert answer.status in (200, 400, 404)
        await answer.read()


async def told(front: GrpcFront, name: str, message: bytes) -> tuple[grpc.StatusCode, bytes]:
    """Make a call with bytes as they are; return its status, and its answers or the details."""
    async with grpc.aio.insecure_channel(front.address) as channel:
        call = channel.stream_stream(f"/{name}", None, None)(iter([message]), timeout=10)
        try:
            return grpc.StatusCode.OK, b"".join([answer async for answer in call])
        except grpc.aio.AioRpcError as error:
            return error.code(), (error.details() or "").encode()


@pytest.mark.parametrize("name", GROUP_OF_RPC)
async def test_what_is_no_message_is_refused(grpc_door: GrpcFront, name: str) -> None:
    code, text = await told(grpc_door, name, b"\xff" * 9)
    if name.endswith("/ModelStreamInfer"):
        assert b"Unable to parse request" in text  # the stream goes on after an error
    else:
        assert code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)
