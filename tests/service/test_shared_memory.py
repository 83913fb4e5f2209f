"""The regions that clients register: the register itself, and its two doors."""

import mmap
import resource
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import aiohttp
import grpc
import pytest
from google.protobuf.message import Message

from deuteron.proto.errors import Fault, InferError
from deuteron.proto.schema import grpc_service_pb2 as pb
from deuteron.proto.shared_memory import RegionPart
from deuteron.service.doorway import Doorway
from deuteron.service.grpc.front import grpc_front
from deuteron.service.http.door import http_front
from deuteron.service.http.routes import match
from deuteron.service.settings import GrpcEngine, GrpcSettings, HttpSettings, KeepaliveSettings
from deuteron.service.shared_memory import Loan, SharedMemory

HERE = "127.0.0.1"
PAGE = mmap.ALLOCATIONGRANULARITY
DISABLED = "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."


@pytest.fixture
def segment() -> Iterator[Path]:
    """Make a segment of one page."""
    path = Path(f"/dev/shm/test_{uuid.uuid4().hex}")
    path.write_bytes(bytes(PAGE))
    yield path
    path.unlink()


@pytest.fixture
def memory() -> SharedMemory:
    return SharedMemory(allowed=True)


def lent(memory: SharedMemory) -> Loan:
    loan = memory.lend()
    assert loan is not None
    return loan


def refused(error: pytest.ExceptionInfo[InferError]) -> tuple[Fault, str]:
    return error.value.fault, error.value.message


# --- the register ---


def test_regions_are_found_by_name_and_listed_in_its_order(memory: SharedMemory, segment: Path) -> None:
    for name in ("b", "Ü", "a", "B"):
        memory.register(name, segment.name, 0, 8)
    assert [region.name for region in memory.status("")] == ["B", "a", "b", "Ü"]
    assert [region.name for region in memory.status("a")] == ["a"]
    with lent(memory) as regions:
        assert len(regions.read(RegionPart("b", 4, 4))) == 4
        assert regions.destination(RegionPart("b", 4, 4)).byte_size == 4


def test_a_name_is_taken_until_it_is_forgotten(memory: SharedMemory, segment: Path) -> None:
    memory.register("r", segment.name, 0, 8)
    with pytest.raises(InferError) as error:
        memory.register("r", segment.name, 0, 16)
    assert refused(error) == (Fault.ALREADY_EXISTS, "shared memory region 'r' already in manager")
    memory.unregister("r")
    memory.register("r", segment.name, 0, 16)
    assert memory.status("r")[0].byte_size == 16


def test_a_region_forgotten_while_it_is_lent_stays_until_all_is_given_back(
    memory: SharedMemory, segment: Path
) -> None:
    memory.register("idle", segment.name, 0, 8)
    memory.register("r", segment.name, 0, 8)
    with lent(memory) as first:
        first.read(RegionPart("r", 0, 8))
        memory.unregister("")
        assert [region.name for region in memory.status("")] == ["r"]
        with lent(memory) as second:
            second.destination(RegionPart("r", 0, 8)).write(b"12345678")
            first.give_back()
            assert [region.name for region in memory.status("")] == ["r"]
    assert memory.status("") == []
    assert segment.read_bytes()[:8] == b"12345678"
    memory.register("r", segment.name, 0, 4)
    with lent(memory) as third, pytest.raises(InferError):
        third.read(RegionPart("r", 0, 8))
    memory.unregister("r")
    assert memory.status("") == []


def test_there_is_nothing_to_lend_while_there_are_no_regions(memory: SharedMemory, segment: Path) -> None:
    assert memory.lend() is None
    memory.register("other", segment.name, 0, 8)
    with lent(memory) as regions, pytest.raises(InferError) as error:
        regions.read(RegionPart("r", 0, 8))
    assert refused(error) == (Fault.NOT_FOUND, "Unable to find shared memory region: 'r'")


def test_what_could_not_be_registered_leaves_nothing_behind(memory: SharedMemory, segment: Path) -> None:
    for name, offset, size in (("n" * 1025, 0, 8), ("r", 0, PAGE + 1), ("r", 1, 8), ("r", 0, 0)):
        with pytest.raises(InferError):
            memory.register(name, segment.name, offset, size)
    assert memory.status("") == []


def test_there_are_only_so_many_regions(segment: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 128), hard))
    try:
        memory = SharedMemory(allowed=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for number in range(32):
        memory.register(f"r{number}", segment.name, 0, 8)
    with pytest.raises(InferError) as error:
        memory.register("more", segment.name, 0, 8)
    assert error.value.fault is Fault.UNAVAILABLE
    memory.unregister("r0")
    memory.register("more", segment.name, 0, 8)


def test_what_is_not_allowed_is_not_even_looked_at(segment: Path) -> None:
    memory = SharedMemory()
    for change in (
        partial(memory.register, "r", segment.name, 0, 8),
        partial(memory.register, "", "/", 0, 0),
        partial(memory.unregister, "r"),
        partial(memory.unregister, ""),
        partial(memory.register_cuda, "r", bytes(64)),
        memory.unregister_cuda,
    ):
        with pytest.raises(InferError) as error:
            change()
        assert refused(error) == (Fault.UNSUPPORTED, DISABLED)
    assert memory.status("") == []


# --- the doors ---


@pytest.fixture
async def http(doorway: Doorway, memory: SharedMemory) -> AsyncIterator[str]:
    """Open the HTTP door of a house that shares memory."""
    front = http_front(replace(doorway, shared_memory=memory), HttpSettings(address=HERE, port=0))
    await front.start()
    yield f"http://{front.address}/v2"
    await front.close(1.0)


@pytest.fixture
async def channel(
    doorway: Doorway, memory: SharedMemory, engine: GrpcEngine
) -> AsyncIterator[grpc.aio.Channel]:
    """Connect to the gRPC door of a house that shares memory."""
    sharing = replace(doorway, shared_memory=memory)
    front = grpc_front(sharing, GrpcSettings(address=HERE, port=0, engine=engine), KeepaliveSettings())
    await front.start()
    async with grpc.aio.insecure_channel(front.address) as channel:
        yield channel
    await front.close(1.0)


async def posted(http: str, path: str, body: str = "") -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.post(f"{http}/{path}", data=body) as response:
        return response.status, response.headers["Content-Type"], await response.text()


@pytest.mark.parametrize(
    ("body", "status", "complaint"),
    [
        ("", 400, "Shared memory register request has no 'key' field"),
        ("[]", 400, "Shared memory register request has no 'key' field"),
        ('{"byte_size": 8}', 400, "Shared memory register request has no 'key' field"),
        ('{"key": 7}', 500, "attempt to access JSON non-string as string"),
        (
            '{"key": "k", "offset": -1}',
            500,
            "attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        ('{"key": "k"}', 400, "Shared memory register request has no 'byte_size' field"),
        (
            '{"key": "k", "byte_size": "8"}',
            500,
            "attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        ('{"key": "no_such", "byte_size": 8}', 500, "Unable to open shared memory region: 'no_such'"),
        ('{"key": "x\\u0000y", "byte_size": 8}', 500, "Unable to open shared memory region: 'x\\u0000y'"),
        ("{", 500, "failed to parse the request JSON buffer: Missing a name for object member. at 1"),
    ],
)
async def test_http_refuses_a_bad_registration_in_tritons_words(
    http: str, body: str, status: int, complaint: str
) -> None:
    told = await posted(http, "systemsharedmemory/region/r/register", body)
    assert told == (status, "application/json", f'{{"error":"{complaint}"}}')


async def test_http_registers_lists_and_forgets(http: str, segment: Path) -> None:
    body = f'{{"key": "/{segment.name}", "byte_size": 8}}'
    assert await posted(http, "systemsharedmemory/region/r/register", body) == (200, "application/json", "")
    async with aiohttp.ClientSession() as session:
        for path in ("systemsharedmemory/status", "systemsharedmemory/region/r/status"):
            async with session.get(f"{http}/{path}") as response:
                assert await response.json() == [
                    {"name": "r", "key": f"/{segment.name}", "offset": 0, "byte_size": 8}
                ]
        async with session.post(f"{http}/systemsharedmemory/status") as response:
            assert response.status == 405
        async with session.get(f"{http}/systemsharedmemory/unregister") as response:
            assert response.status == 405
    assert (await posted(http, "systemsharedmemory/region/r/unregister"))[0] == 200
    assert (await posted(http, "systemsharedmemory/unregister"))[0] == 200
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{http}/systemsharedmemory/status") as response,
    ):
        assert await response.json() == []


async def test_a_registration_over_http_needs_a_name(http: str) -> None:
    for kind in ("system", "cuda"):
        complaint = f"'region name' is necessary to register {kind} shared memory region"
        told = await posted(http, f"{kind}sharedmemory/register", "{}")
        assert told == (400, "application/json", f'{{"error":"{complaint}"}}')


async def test_a_registration_over_grpc_needs_none(
    channel: grpc.aio.Channel, memory: SharedMemory, segment: Path
) -> None:
    asked = pb.SystemSharedMemoryRegisterRequest(key=segment.name, byte_size=8)
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/SystemSharedMemoryRegister", type(asked).SerializeToString, bytes
    )
    await call(asked)
    assert [region.name for region in memory.status("")] == [""]
    memory.unregister("")
    assert memory.status("") == []


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("{}", "Shared memory register request has no 'raw_handle' field"),
        ('{"raw_handle": {"b64": "?"}}', "'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t"),
        ('{"raw_handle": {"b64": "AAAA"}}', "'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t"),
    ],
)
async def test_a_region_on_a_gpu_needs_a_handle(http: str, body: str, complaint: str) -> None:
    told = await posted(http, "cudasharedmemory/region/r/register", body)
    assert told == (400, "application/json", f'{{"error":"{complaint}"}}')


async def test_grpc_refuses_a_handle_of_another_size(channel: grpc.aio.Channel) -> None:
    asked = pb.CudaSharedMemoryRegisterRequest(name="r", raw_handle=b"short")
    complaint = "failed to register shared memory region: invalid args"
    assert await refusal(channel, asked) == (grpc.StatusCode.INVALID_ARGUMENT, complaint)


async def refusal(channel: grpc.aio.Channel, asked: Message) -> tuple[grpc.StatusCode, str]:
    """Call the method whose request this is; return the status it ends with."""
    method = asked.DESCRIPTOR.name.removesuffix("Request")
    call = channel.unary_unary(
        f"/inference.GRPCInferenceService/{method}", type(asked).SerializeToString, bytes
    )
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(asked)
    return error.value.code(), error.value.details() or ""


async def test_grpc_takes_sizes_of_64_bits(channel: grpc.aio.Channel, segment: Path) -> None:
    for offset, size in ((2**63, 8), (2**64 - 8, 8), (0, 2**64 - 1), (2**64 - 1, 2**64 - 1)):
        asked = pb.SystemSharedMemoryRegisterRequest(
            name="r", key=segment.name, offset=offset, byte_size=size
        )
        complaint = "failed to register shared memory region 'r': invalid args"
        assert await refusal(channel, asked) == (grpc.StatusCode.INVALID_ARGUMENT, complaint)


def test_a_path_tells_region_memory_and_change() -> None:
    found = match("POST", "/v2/cudasharedmemory/region/r/unregister")
    assert (found.region, found.memory, found.change) == ("r", "cuda", "unregister")
    found = match("GET", "/v2/systemsharedmemory/status")
    assert (found.region, found.memory, found.change) == ("", "system", "")
