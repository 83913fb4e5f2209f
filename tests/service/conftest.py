"""A small house with its doors open: real models in a real repository, behind real sockets."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop

from deuteron.actors.loading import LoadOptions
from deuteron.actors.repository import Repository
from deuteron.backends.catalog import Catalog
from deuteron.service.doorway import Doorway
from deuteron.service.grpc.front import GrpcFront, grpc_front
from deuteron.service.http.door import http_front
from deuteron.service.http.front import HttpFront
from deuteron.service.http.metrics import metrics_front
from deuteron.service.settings import (
    ControlMode,
    GrpcEngine,
    GrpcSettings,
    HttpEngine,
    HttpSettings,
    KeepaliveSettings,
    MetricsSettings,
)

from .lane_wire import Wire, connected

HERE = "127.0.0.1"

BATCHING = """
backend: "identity"
max_batch_size: 8
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] }]
"""

ANY_SIZE = """
backend: "identity"
input [{ name: "INPUT0" data_type: TYPE_UINT8 dims: [ -1 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_UINT8 dims: [ -1 ] }]
"""

STRINGS = """
backend: "identity"
input [{ name: "INPUT0" data_type: TYPE_STRING dims: [ -1 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_STRING dims: [ -1 ] }]
"""

SLOW = """
backend: "identity"
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] }]
instance_group [{ kind: KIND_CPU count: 1 }]
parameters { key: "execute_delay_ms" value { string_value: "50" } }
"""

MODELS = {
    "simple": BATCHING,
    "large": ANY_SIZE,
    "strings": STRINGS,
    "slow": SLOW,
    "broken": 'backend: "none"',
}


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the doors on the loop that they are made for."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Let a test configure the log of this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


BuildDoorway = Callable[..., Awaitable[Doorway]]
Open = Callable[..., Awaitable[HttpFront]]
OpenLane = Callable[..., Awaitable[GrpcFront]]


@pytest.fixture
async def build_doorway(tmp_path: Path) -> AsyncIterator[BuildDoorway]:
    """Load the models given, or all of this file, into a house that comes down at the end of the test."""
    async with AsyncExitStack() as stack:

        async def build(
            models: Mapping[str, str] = MODELS, control_mode: ControlMode = ControlMode.NONE
        ) -> Doorway:
            for name, config in models.items():
                (tmp_path / name / "1").mkdir(parents=True)
                (tmp_path / name / "config.pbtxt").write_text(config)
            repository = Repository([tmp_path], Catalog(), LoadOptions())
            await stack.enter_async_context(repository)
            await repository.load_at_start([] if control_mode is ControlMode.EXPLICIT else None)
            return Doorway(repository, control_mode, "house", "1.2.3")

        yield build


@pytest.fixture
def until() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """Wait until something is the case, for ten seconds at most."""

    async def until_(is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not is_so():  # noqa: ASYNC110 - counters call nobody when they move
                await asyncio.sleep(0)

    return until_


@pytest.fixture
async def doorway(build_doorway: BuildDoorway) -> Doorway:
    """Load all models of this file."""
    return await build_doorway()


@pytest.fixture(params=HttpEngine, ids=lambda engine: engine.value)
async def open_http(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Open the HTTP door of a house, with either engine; it closes at the end of the test."""
    async with AsyncExitStack() as stack:

        async def open_(doorway: Doorway, max_input_size: int = HttpSettings().max_input_size) -> HttpFront:
            settings = HttpSettings(address=HERE, port=0, max_input_size=max_input_size, engine=request.param)
            front = http_front(doorway, settings)
            await front.start()
            stack.push_async_callback(front.close, 1.0)
            return front

        yield open_


@pytest.fixture
async def http(doorway: Doorway, open_http: Open) -> HttpFront:
    """Open the HTTP door."""
    return await open_http(doorway)


@pytest.fixture(params=GrpcEngine, ids=lambda engine: engine.value)
def engine(request: pytest.FixtureRequest) -> GrpcEngine:
    """Carry gRPC by each of its engines in turn."""
    assert isinstance(request.param, GrpcEngine)
    return request.param


@pytest.fixture
async def grpc_door(doorway: Doorway, engine: GrpcEngine) -> AsyncIterator[GrpcFront]:
    """Open the gRPC door."""
    front = grpc_front(doorway, GrpcSettings(address=HERE, port=0, engine=engine), KeepaliveSettings())
    await front.start()
    yield front
    await front.close(1.0)


@pytest.fixture
async def metrics(doorway: Doorway) -> AsyncIterator[HttpFront]:
    """Open the door for those who collect metrics."""
    front = metrics_front(doorway, MetricsSettings(address=HERE, port=0))
    await front.start()
    yield front
    await front.close(1.0)


@pytest.fixture
async def open_lane(doorway: Doorway) -> AsyncIterator[OpenLane]:
    """Open gRPC doors with the lane, and with what keepalive is given."""
    async with AsyncExitStack() as stack_:

        async def open_(**keepalive: Any) -> GrpcFront:  # noqa: ANN401 - milliseconds, numbers and flags
            settings = GrpcSettings(address=HERE, port=0, engine=GrpcEngine.LANE)
            front = grpc_front(doorway, settings, KeepaliveSettings(**keepalive))
            await front.start()
            stack_.push_async_callback(front.close, 1.0)
            return front

        yield open_


@pytest.fixture
async def wire(open_lane: OpenLane) -> AsyncIterator[Wire]:
    """Connect to such a door."""
    async with connected(await open_lane()) as wire:
        yield wire
