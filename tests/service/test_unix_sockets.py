"""Both doors listen at paths as well as at ports."""

import asyncio
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import ClientSession, UnixConnector
from tritonclient.grpc.aio import InferenceServerClient

from deuteron.proto.errors import Fault, InferError
from deuteron.service.doorway import Doorway
from deuteron.service.grpc.front import GrpcFront, grpc_front
from deuteron.service.http.door import http_front
from deuteron.service.http.front import HttpFront
from deuteron.service.lifecycle import Front
from deuteron.service.settings import GrpcEngine, GrpcSettings, HttpSettings, KeepaliveSettings

At = Callable[[Doorway, Path], Front]
GrpcAt = Callable[[Doorway, Path], GrpcFront]


def leave(path: Path, text: str) -> None:
    path.write_text(text)


def found(path: Path) -> str:
    """Return the text of a file, empty where there is none."""
    return path.read_text() if path.exists() else ""


def http_at(doorway: Doorway, path: Path) -> HttpFront:
    return http_front(doorway, HttpSettings(address=f"unix:{path}"))


def lane_at(doorway: Doorway, path: Path) -> GrpcFront:
    settings = GrpcSettings(address=f"unix:{path}", engine=GrpcEngine.LANE)
    return grpc_front(doorway, settings, KeepaliveSettings())


def grpcio_at(doorway: Doorway, path: Path) -> GrpcFront:
    settings = GrpcSettings(address=f"unix:{path}", engine=GrpcEngine.GRPCIO)
    return grpc_front(doorway, settings, KeepaliveSettings())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "door"


async def test_http_is_served_at_a_path(doorway: Doorway, path: Path) -> None:
    front = http_at(doorway, path)
    await front.start()
    assert front.address == f"unix:{path}"
    async with (
        ClientSession(connector=UnixConnector(str(path))) as session,
        session.get("http://here/v2") as answer,
    ):
        assert (await answer.json())["name"] == "house"
    if shutil.which("curl"):
        curl = await asyncio.create_subprocess_exec(
            *("curl", "-sS", "--unix-socket", str(path), "http://here/v2/models/simple"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert json.loads((await curl.communicate())[0])["name"] == "simple"
    await front.close(1.0)
    assert not found(path)


@pytest.mark.parametrize("at", [lane_at, grpcio_at])
async def test_grpc_is_served_at_a_path(doorway: Doorway, path: Path, at: GrpcAt) -> None:
    front = at(doorway, path)
    await front.start()
    assert front.address == f"unix:{path}"
    async with InferenceServerClient(front.address) as client:
        assert await client.is_model_ready("simple")
    await front.close(1.0)


@pytest.mark.parametrize("at", [http_at, lane_at, grpcio_at])
async def test_a_path_that_a_dead_server_left_is_taken_over(doorway: Doorway, path: Path, at: At) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    front = at(doorway, path)
    await front.start()
    await front.close(1.0)


@pytest.mark.parametrize("at", [http_at, lane_at, grpcio_at])
async def test_a_living_server_keeps_its_path(doorway: Doorway, path: Path, at: At) -> None:
    first = http_at(doorway, path)
    await first.start()
    second = at(doorway, path)
    with pytest.raises(InferError, match=f"Socket 'unix:{path}' already in use ") as caught:
        await second.start()
    assert caught.value.fault is Fault.UNAVAILABLE
    await second.close(0)
    async with (
        ClientSession(connector=UnixConnector(str(path))) as session,
        session.get("http://here/v2/health/live") as answer,
    ):
        assert answer.status == 200
    await first.close(1.0)


@pytest.mark.parametrize("at", [http_at, lane_at, grpcio_at])
async def test_a_path_that_cannot_be_is_told(doorway: Doorway, tmp_path: Path, at: At) -> None:
    front = at(doorway, tmp_path / "none" / "door")
    with pytest.raises(InferError, match="cannot listen at 'unix:"):
        await front.start()
    await front.close(0)


async def test_a_file_is_not_taken_for_a_socket(doorway: Doorway, path: Path) -> None:
    leave(path, "precious")
    for front in (http_at(doorway, path), lane_at(doorway, path), grpcio_at(doorway, path)):
        with pytest.raises(InferError):
            await front.start()
        await front.close(0)
    assert found(path) == "precious"
