"""What gRPC brings along: health, reflection, and the compression of responses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from deuteron.proto.schema import grpc_service_pb2 as pb
from deuteron.proto.schema import health_pb2
from deuteron.proto.schema import reflection_pb2 as reflection
from deuteron.service.doorway import Doorway
from deuteron.service.grpc import health, sessions
from deuteron.service.grpc.front import GrpcFront, grpc_front
from deuteron.service.settings import Compression, GrpcEngine, GrpcSettings, KeepaliveSettings

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

WATCH = "/grpc.health.v1.Health/Watch"
REFLECTIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


@pytest.fixture
async def channel(grpc_door: GrpcFront) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(grpc_door.address) as channel:
        yield channel


def watch(channel: grpc.aio.Channel) -> "grpc.aio.UnaryStreamCall[bytes, bytes]":
    return channel.unary_stream(WATCH, None, None)(b"", timeout=20)


async def status(call: "grpc.aio.UnaryStreamCall[bytes, bytes]") -> int:
    told = await call.read()
    assert isinstance(told, bytes)
    return health_pb2.HealthCheckResponse.FromString(told).status


# --- health ---


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService", "what.you.Like"])
async def test_health_is_checked_for_the_server_as_a_whole(
    channel: grpc.aio.Channel, doorway: Doorway, service: str
) -> None:
    check = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
    asked = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    expected = SERVING if doorway.repository.ready else NOT_SERVING
    assert health_pb2.HealthCheckResponse.FromString(await check(asked)).status == expected


async def test_who_watches_is_told_at_once_and_of_every_change(
    channel: grpc.aio.Channel, doorway: Doorway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "LOOK_EVERY_S", 0.01)
    first = SERVING if doorway.repository.ready else NOT_SERVING
    call = watch(channel)
    assert await status(call) == first
    doorway.repository._strict_readiness = not doorway.repository._strict_readiness
    assert await status(call) == (NOT_SERVING if first == SERVING else SERVING)
    call.cancel()


async def test_a_watch_ends_well_when_the_server_does(
    grpc_door: GrpcFront, channel: grpc.aio.Channel
) -> None:
    call = watch(channel)
    await call.read()
    await grpc_door.close(10.0)
    assert not isinstance(await call.read(), bytes)
    assert await call.code() is grpc.StatusCode.OK


async def test_watches_are_bounded_and_make_room_when_they_end(
    channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 1)
    first, second = watch(channel), None
    await first.read()
    second = watch(channel)
    assert await second.code() is grpc.StatusCode.UNAVAILABLE
    first.cancel()
    async with asyncio.timeout(10):
        while not isinstance(await _first_message(watch(channel)), bytes):
            pass


async def _first_message(call: "grpc.aio.UnaryStreamCall[bytes, bytes]") -> object:
    try:
        return await call.read()
    except grpc.aio.AioRpcError as error:
        return error


async def test_a_message_that_cannot_be_read_is_refused(channel: grpc.aio.Channel) -> None:
    call = channel.unary_stream(WATCH, None, None)(b"\xff")
    assert await call.code() is grpc.StatusCode.INTERNAL
    asked = channel.stream_stream(f"/{REFLECTIONS[0]}/ServerReflectionInfo", None, None)(iter([b"\xff"]))
    assert await asked.code() is grpc.StatusCode.INTERNAL


# --- reflection ---


async def ask(
    channel: grpc.aio.Channel, *asked: reflection.ServerReflectionRequest, service: str = REFLECTIONS[0]
) -> list[reflection.ServerReflectionResponse]:
    bodies = iter([request.SerializeToString() for request in asked])
    call = channel.stream_stream(f"/{service}/ServerReflectionInfo", None, None)(bodies, timeout=20)
    answers = [reflection.ServerReflectionResponse.FromString(told) async for told in call]
    assert [answer.original_request for answer in answers] == list(asked)
    return answers


@pytest.mark.parametrize("service", REFLECTIONS)
async def test_tools_learn_every_service_and_all_its_messages(
    channel: grpc.aio.Channel, service: str
) -> None:
    (listed,) = await ask(channel, reflection.ServerReflectionRequest(list_services="*"), service=service)
    names = [each.name for each in listed.list_services_response.service]
    assert names == ["inference.GRPCInferenceService", "grpc.health.v1.Health", *REFLECTIONS]
    for name in names[:-1]:
        (told,) = await ask(channel, reflection.ServerReflectionRequest(file_containing_symbol=name))
        pool = DescriptorPool()
        files = [
            FileDescriptorProto.FromString(file)
            for file in told.file_descriptor_response.file_descriptor_proto
        ]
        for file in reversed(files):
            pool.Add(file)
        assert pool.FindServiceByName(name).methods
    assert len(files) == 1


async def test_files_are_told_by_name_and_symbols_of_every_kind(channel: grpc.aio.Channel) -> None:
    by_name, by_message, by_method, extensions = await ask(
        channel,
        reflection.ServerReflectionRequest(file_by_filename="model_config.proto"),
        reflection.ServerReflectionRequest(file_containing_symbol="inference.ModelConfig"),
        reflection.ServerReflectionRequest(
            file_containing_symbol="inference.GRPCInferenceService.ModelInfer"
        ),
        reflection.ServerReflectionRequest(all_extension_numbers_of_type="inference.ModelConfig"),
    )
    assert by_name.file_descriptor_response == by_message.file_descriptor_response
    assert len(by_method.file_descriptor_response.file_descriptor_proto) == 2
    assert extensions.all_extension_numbers_response.base_type_name == "inference.ModelConfig"


async def test_what_there_is_not_is_not_found(channel: grpc.aio.Channel) -> None:
    answers = await ask(
        channel,
        reflection.ServerReflectionRequest(file_by_filename="/etc/passwd"),
        reflection.ServerReflectionRequest(file_containing_symbol="no.Such"),
        reflection.ServerReflectionRequest(all_extension_numbers_of_type="no.Such"),
        reflection.ServerReflectionRequest(
            file_containing_extension={"containing_type": "inference.ModelConfig", "extension_number": 7}
        ),
        reflection.ServerReflectionRequest(),
    )
    assert [answer.error_response.error_code for answer in answers] == [5] * 5


async def test_a_reflection_that_is_left_open_does_not_hold_up_the_end(
    grpc_door: GrpcFront, channel: grpc.aio.Channel
) -> None:
    asked = reflection.ServerReflectionRequest(list_services="").SerializeToString()
    left_open = asyncio.Event()

    async def ask_and_wait() -> AsyncIterator[bytes]:
        yield asked
        await left_open.wait()

    call = channel.stream_stream(f"/{REFLECTIONS[0]}/ServerReflectionInfo", None, None)(ask_and_wait())
    await call.read()
    async with asyncio.timeout(5):
        await grpc_door.close(60.0)
    left_open.set()


# --- compression ---


@pytest.mark.parametrize(
    ("level", "encoding"),
    [
        (Compression.NONE, "identity"),
        (Compression.LOW, "gzip"),
        (Compression.MEDIUM, "deflate"),
        (Compression.HIGH, "deflate"),
    ],
)
async def test_responses_to_inference_are_compressed_as_asked(
    doorway: Doorway, engine: GrpcEngine, level: Compression, encoding: str
) -> None:
    settings = GrpcSettings(address="127.0.0.1", port=0, engine=engine, compression=level)
    front = grpc_front(doorway, settings, KeepaliveSettings())
    await front.start()
    request = pb.ModelInferRequest(model_name="large", raw_input_contents=[bytes(100_000)])
    request.inputs.add(name="INPUT0", datatype="UINT8", shape=[100_000])
    body = request.SerializeToString()
    relay = await Relay.before(front)
    try:
        async with grpc.aio.insecure_channel(relay.address) as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
            answer = pb.ModelInferResponse.FromString(await infer(body))
            assert answer.raw_output_contents == [bytes(100_000)]
            unary = relay.returned
            stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer", None, None)
            told = await stream(iter([body])).read()
            assert isinstance(told, bytes)
            assert pb.ModelStreamInferResponse.FromString(told).infer_response.raw_output_contents
    finally:
        await relay.close()
        await front.close(1.0)
    assert (unary < 50_000) == (encoding != "identity")
    assert (relay.returned - unary < 50_000) == (encoding != "identity")


class Relay:
    """Stands between a client and a door, and counts the bytes that come back."""

    _server: asyncio.Server

    def __init__(self, front: GrpcFront) -> None:
        self._front = front
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.returned = 0
        self.address = ""

    @classmethod
    async def before(cls, front: GrpcFront) -> "Relay":
        relay = cls(front)
        relay._server = await asyncio.start_server(relay._connected, "127.0.0.1", 0)
        host, port = relay._server.sockets[0].getsockname()
        relay.address = f"{host}:{port}"
        return relay

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._front.port)
        self._writers += (writer, forth)
        for source, sink, counts in ((reader, forth, False), (back, writer, True)):
            task = asyncio.ensure_future(self._pass_on(source, sink, counts=counts))
            self._tasks.add(task)

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, counts: bool
    ) -> None:
        while piece := await source.read(65536):
            self.returned += len(piece) * counts
            sink.write(piece)
            await sink.drain()

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
