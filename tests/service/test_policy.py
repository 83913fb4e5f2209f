"""What an operator has closed opens with its header only, on every route and every call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import grpc
import pytest
from aiohttp import ClientSession

from deuteron.proto.schema import grpc_service_pb2, health_pb2, reflection_pb2
from deuteron.service.doorway import Doorway
from deuteron.service.grpc.front import GrpcFront, grpc_front
from deuteron.service.http.door import http_front
from deuteron.service.http.front import HttpFront
from deuteron.service.http.routes import ROUTES, match
from deuteron.service.operations import Operation
from deuteron.service.policy import (
    GROUP_OF_OPERATION,
    GROUP_OF_RPC,
    Group,
    Policy,
    Requirement,
    policy_of,
)
from deuteron.service.settings import GrpcEngine, GrpcSettings, HttpSettings, KeepaliveSettings

HERE = "127.0.0.1"
KEY = "triton-grpc-protocol-admin-key"

LINES = [
    "GET /v2",
    "GET /v2/openapi.json",
    "GET /v2/health/live",
    "GET /v2/health/ready",
    "GET /v2/models/simple",
    "GET /v2/models/simple/ready",
    "GET /v2/models/simple/config",
    "GET /v2/models/simple/stats",
    "GET /v2/models/stats",
    "POST /v2/models/simple/infer",
    "POST /v2/models/simple/versions/1/infer",
    "POST /v2/models/simple/generate",
    "POST /v2/models/simple/generate_stream",
    "GET /v2/models/simple/trace/setting",
    "POST /v2/models/simple/trace/setting",
    "GET /v2/trace/setting",
    "GET /v2/logging",
    "POST /v2/logging",
    "GET /v2/systemsharedmemory/status",
    "GET /v2/cudasharedmemory/region/r/status",
    "POST /v2/systemsharedmemory/region/r/register",
    "POST /v2/cudasharedmemory/unregister",
    "POST /v2/repository/index",
    "POST /v2/repository/main/index",
    "POST /v2/repository/models/simple/load",
    "POST /v2/repository/models/simple/unload",
]

FILES = (grpc_service_pb2, health_pb2, reflection_pb2)
DESCRIBED = [
    (f"{service.full_name}/{method.name}", bool(method.server_streaming))
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
CALLS = [*DESCRIBED, ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", True)]
"""Every call of every service, and whether its answer is a stream."""

Tell = Callable[..., Awaitable[tuple[grpc.StatusCode, str]]]


def closed(*groups: Group, header: str = "admin-key") -> Policy:
    return Policy(dict.fromkeys(groups, Requirement(header, "sésame")))


@pytest.fixture
async def ask(doorway: Doorway) -> AsyncIterator[Callable[..., Awaitable[tuple[int, str]]]]:
    """Ask an HTTP door with these groups closed."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(ClientSession())
        fronts: dict[tuple[Group, ...], HttpFront] = {}

        async def ask_(line: str, *groups: Group, **headers: str) -> tuple[int, str]:
            front = fronts.get(groups)
            if front is None:
                front = http_front(doorway, HttpSettings(address=HERE, port=0, policy=closed(*groups)))
                fronts[groups] = front
                await front.start()
                stack.push_async_callback(front.close, 1.0)
            method, path = line.split(" ")
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            async with session.request(method, f"http://{front.address}{path}", headers=named) as answer:
                return answer.status, await answer.text()

        yield ask_


@pytest.fixture
async def closed_grpc(doorway: Doorway, engine: GrpcEngine) -> AsyncIterator[GrpcFront]:
    """Open a gRPC door on which every group is closed."""
    policy = closed(*Group, header=KEY)
    front = grpc_front(
        doorway, GrpcSettings(address=HERE, port=0, engine=engine, policy=policy), KeepaliveSettings()
    )
    await front.start()
    yield front
    await front.close(1.0)


async def call(
    front: GrpcFront, method: str, *, streams: bool, key: str | None = None, asks: bool = False
) -> tuple[grpc.StatusCode, str]:
    """Make a call; return its status, OK where an answer came. A stream asks with nothing, or just waits."""
    metadata = () if key is None else ((KEY, key),)
    over = asyncio.Event()

    async def messages() -> AsyncIterator[bytes]:
        if asks:
            yield b""
        await over.wait()

    async with grpc.aio.insecure_channel(front.address) as channel:
        try:
            if method.endswith("/Watch"):
                await channel.unary_stream(f"/{method}", None, None)(
                    b"", metadata=metadata, timeout=10
                ).read()
            elif streams:
                stream = channel.stream_stream(f"/{method}", None, None)
                await stream(messages(), metadata=metadata, timeout=10).read()
            else:
                await channel.unary_unary(f"/{method}", None, None)(b"", metadata=metadata, timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        finally:
            over.set()
    return grpc.StatusCode.OK, ""


def test_every_operation_and_every_call_is_in_a_group() -> None:
    assert set(GROUP_OF_OPERATION) == set(Operation)
    assert {route.operation for route in ROUTES} == set(Operation)
    assert set(GROUP_OF_RPC) == {name for name, _ in CALLS}
    assert set(GROUP_OF_OPERATION.values()) == set(GROUP_OF_RPC.values()) == set(Group)


def test_the_lines_of_these_tests_use_every_route() -> None:
    paths = [line.split(" ")[1] for line in LINES]
    for route in ROUTES:
        assert any(route.pattern.fullmatch(path) for path in paths), route.pattern.pattern


@pytest.mark.parametrize("line", LINES)
async def test_a_closed_route_opens_with_its_header_only(
    ask: Callable[..., Awaitable[tuple[int, str]]], line: str
) -> None:
    operation = match(*line.split(" ")).operation
    group = GROUP_OF_OPERATION[operation]
    refused = (403, '{"error":"This API is restricted, expecting header \'admin-key\'"}')
    assert await ask(line, group) == refused
    assert await ask(line, group, admin_key="wrong") == refused
    assert await ask(line, group, admin_key="") == refused
    assert (await ask(line, group, ADMIN_KEY="sésame"))[0] != 403
    others = [other for other in Group if other is not group]
    assert (await ask(line, *others))[0] != 403


@pytest.mark.parametrize("line", LINES)
async def test_who_may_not_ask_is_not_told_how_to(
    ask: Callable[..., Awaitable[tuple[int, str]]], line: str
) -> None:
    group = GROUP_OF_OPERATION[match(*line.split(" ")).operation]
    wrong = f"DELETE {line.split(' ')[1]}"
    assert (await ask(wrong, group))[0] == 403
    assert await ask(wrong, group, ADMIN_KEY="sésame") == (405, '{"error":"Method Not Allowed"}')
    assert await ask(wrong) == (405, '{"error":"Method Not Allowed"}')


@pytest.mark.parametrize(("method", "streams"), CALLS)
async def test_a_closed_call_opens_with_its_key_only(
    closed_grpc: GrpcFront, method: str, streams: bool
) -> None:
    refused = (
        grpc.StatusCode.UNAVAILABLE,
        "This protocol is restricted, expecting header 'triton-grpc-protocol-admin-key'",
    )
    assert await call(closed_grpc, method, streams=streams) == refused
    assert await call(closed_grpc, method, streams=streams, key="wrong") == refused


@pytest.mark.parametrize(("method", "streams"), CALLS)
async def test_the_key_opens_a_closed_call(
    doorway: Doorway, engine: GrpcEngine, method: str, streams: bool
) -> None:
    """A key is ASCII here: metadata carries nothing else."""
    policy = Policy(dict.fromkeys(Group, Requirement("triton-grpc-protocol-Admin-Key", "sesame")))
    front = grpc_front(
        doorway, GrpcSettings(address=HERE, port=0, engine=engine, policy=policy), KeepaliveSettings()
    )
    await front.start()
    try:
        _, told = await call(front, method, streams=streams, key="sesame", asks=True)
        assert "restricted" not in told
    finally:
        await front.close(1.0)


async def test_what_is_open_has_no_guard_before_it(doorway: Doorway) -> None:
    """A door without a policy holds the handlers themselves, and methods that ask for nothing."""
    from deuteron.service.grpc.methods import Service
    from deuteron.service.http.guard import guarded

    async def handler(*_: object) -> object:
        return None

    assert guarded(handler, None) is handler  # type: ignore[arg-type]
    methods = Service(doorway, GrpcSettings()).methods.values()
    assert {method.requirement for method in methods} == {None}


def test_a_group_is_closed_by_one_rule_only() -> None:
    rules = [((Group.HEALTH, Group.TRACE), "a", "1"), ((Group.TRACE,), "b", "2")]
    assert policy_of(rules[:1], "p-").requirements[Group.TRACE] == Requirement("p-a", "1")
    with pytest.raises(ValueError, match=r"^trace$"):
        policy_of(rules)
