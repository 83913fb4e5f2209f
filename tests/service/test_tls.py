"""Both doors speak TLS, with certificates that are made for each run of these tests."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from aiohttp import ClientConnectorError, ClientSession
from tritonclient.grpc.aio import InferenceServerClient as GrpcClient
from tritonclient.http.aio import InferenceServerClient as HttpClient

from deuteron.proto.errors import Fault, InferError
from deuteron.service.doorway import Doorway
from deuteron.service.grpc.front import GrpcFront, grpc_front
from deuteron.service.http.door import http_front
from deuteron.service.settings import (
    GrpcEngine,
    GrpcSettings,
    GrpcTlsSettings,
    HttpSettings,
    KeepaliveSettings,
    TlsSettings,
)

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")

HERE = "127.0.0.1"

OpenGrpc = Callable[[GrpcTlsSettings], Awaitable[GrpcFront]]


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    certificate: Path
    key: Path


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def authority(folder: Path, name: str) -> Identity:
    """Make somebody who vouches for others."""
    made = Identity(folder / f"{name}.pem", folder / f"{name}.key")
    openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj", f"/CN={name}"),
        *("-keyout", made.key, "-out", made.certificate),
    )
    return made


def vouched_for(folder: Path, name: str, by: Identity) -> Identity:
    """Make somebody for whom an authority vouches, at this address."""
    made = Identity(folder / f"{name}.pem", folder / f"{name}.key")
    asked, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName=IP:{HERE},DNS:localhost\n")
    openssl(
        *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", made.key, "-out", asked)
    )
    openssl(
        *("x509", "-req", "-days", 2, "-in", asked, "-CA", by.certificate, "-CAkey", by.key),
        *("-CAcreateserial", "-extfile", extensions, "-out", made.certificate),
    )
    return made


@dataclass(frozen=True)
class World:
    """Who there is: a server and a client of one authority, and a client of another."""

    root: Identity
    server: Identity
    client: Identity
    stranger: Identity


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("certificates")
    root = authority(folder, "root")
    return World(
        root,
        vouched_for(folder, "server", root),
        vouched_for(folder, "client", root),
        vouched_for(folder, "stranger", authority(folder, "elsewhere")),
    )


@pytest.fixture
async def open_grpc(doorway: Doorway, engine: GrpcEngine) -> AsyncIterator[OpenGrpc]:
    """Open a gRPC door with these certificates."""
    async with AsyncExitStack() as stack:

        async def open_(tls: GrpcTlsSettings) -> GrpcFront:
            settings = GrpcSettings(address=HERE, port=0, engine=engine)
            front = grpc_front(doorway, settings, KeepaliveSettings(), tls)
            await front.start()
            stack.push_async_callback(front.close, 1.0)
            return front

        yield open_


async def test_https_is_spoken_to_who_trusts_the_certificate(doorway: Doorway, world: World) -> None:
    tls = TlsSettings(True, world.server.certificate, world.server.key)
    front = http_front(doorway, HttpSettings(address=HERE, port=0), tls)
    await front.start()
    trusting = ssl.create_default_context(cafile=world.root.certificate)
    try:
        async with ClientSession() as session:
            async with session.get(f"https://{front.address}/v2", ssl=trusting) as answer:
                assert (await answer.json())["name"] == "house"
            with pytest.raises(ClientConnectorError):
                await session.get(f"https://{front.address}/v2")
        async with HttpClient(front.address, ssl=True, ssl_context=trusting) as client:
            assert await client.is_server_live()
            assert await client.is_model_ready("simple")
    finally:
        await front.close(1.0)


async def test_https_serves_large_bodies_and_curl(doorway: Doorway, world: World, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not here")
    tls = TlsSettings(True, world.server.certificate, world.server.key)
    front = http_front(doorway, HttpSettings(address=HERE, port=0), tls)
    await front.start()
    body = tmp_path / "body"
    body.write_bytes(bytes(3_000_000))
    try:
        curl = await asyncio.create_subprocess_exec(
            *("curl", "-sS", "--cacert", str(world.root.certificate)),
            *("-H", "Inference-Header-Content-Length: 0", "--data-binary", f"@{body}"),
            f"https://{front.address}/v2/models/large/infer",
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await curl.communicate()
    finally:
        await front.close(1.0)
    assert told.endswith(bytes(3_000_000))


async def test_grpc_speaks_tls_to_who_trusts_the_certificate(open_grpc: OpenGrpc, world: World) -> None:
    front = await open_grpc(GrpcTlsSettings(True, world.server.certificate, world.server.key))
    async with GrpcClient(front.address, ssl=True, root_certificates=str(world.root.certificate)) as client:
        assert await client.is_server_live()
    assert not await is_live(front, world.stranger, world.stranger)


async def is_live(front: GrpcFront, trusted: Identity, client: Identity | None) -> bool:
    """Ask whether the server is live, with a certificate of one's own or without."""
    credentials = grpc.ssl_channel_credentials(
        trusted.certificate.read_bytes(),
        client.key.read_bytes() if client else None,
        client.certificate.read_bytes() if client else None,
    )
    async with grpc.aio.secure_channel(front.address, credentials) as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive", None, None)
        try:
            return bool(await live(b"", timeout=5) == b"\x08\x01")
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return False
            raise


async def test_mutual_tls_lets_in_only_whom_the_root_vouches_for(open_grpc: OpenGrpc, world: World) -> None:
    front = await open_grpc(
        GrpcTlsSettings(True, world.server.certificate, world.server.key, True, world.root.certificate)
    )
    assert await is_live(front, world.root, world.client)
    assert not await is_live(front, world.root, None)
    assert not await is_live(front, world.root, world.stranger)


async def test_who_agrees_on_tls_and_not_on_http2_is_hung_up_on(doorway: Doorway, world: World) -> None:
    """What grpcio does then is its own affair."""
    settings = GrpcSettings(address=HERE, port=0, engine=GrpcEngine.LANE)
    tls = GrpcTlsSettings(True, world.server.certificate, world.server.key)
    front = grpc_front(doorway, settings, KeepaliveSettings(), tls)
    await front.start()
    context = ssl.create_default_context(cafile=world.root.certificate)
    reader, writer = await asyncio.open_connection(HERE, front.port, ssl=context)
    async with asyncio.timeout(5):
        with suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()
    await front.close(1.0)


@pytest.mark.parametrize("fault", ["missing", "not a certificate", "of another key"])
async def test_certificates_that_do_not_fit_are_told_before_the_door_opens(
    doorway: Doorway,
    world: World,
    tmp_path: Path,
    fault: str,
    engine: GrpcEngine,
) -> None:
    certificate, key = world.server.certificate, world.server.key
    match fault:
        case "missing":
            certificate = tmp_path / "none.pem"
        case "not a certificate":
            certificate = tmp_path / "text.pem"
            certificate.write_text("nothing")
        case _:
            key = world.client.key
    for front in (
        http_front(doorway, HttpSettings(address=HERE, port=0), TlsSettings(True, certificate, key)),
        grpc_front(
            doorway,
            GrpcSettings(address=HERE, port=0, engine=engine),
            KeepaliveSettings(),
            GrpcTlsSettings(True, certificate, key),
        ),
    ):
        with pytest.raises(InferError, match="cannot use certificate") as caught:
            await front.start()
        assert caught.value.fault is Fault.INVALID_ARG
        await front.close(0)


async def test_a_root_that_vouches_for_nobody_is_told(
    open_grpc: OpenGrpc, world: World, tmp_path: Path
) -> None:
    for root, told in ((tmp_path / "none", "cannot read"), (world.server.key, "cannot use root certificate")):
        with pytest.raises(InferError, match=told):
            await open_grpc(GrpcTlsSettings(True, world.server.certificate, world.server.key, True, root))
