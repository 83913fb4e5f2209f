"""The gRPC door answers Triton's own client over a real socket, in Triton's statuses and words."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferInput, InferRequestedOutput, service_pb2, service_pb2_grpc
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from deuteron.proto import kserve_grpc
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.schema import health_pb2
from deuteron.service.doorway import Doorway
from deuteron.service.grpc.front import GrpcFront, grpc_front
from deuteron.service.grpc.grpcio.front import channel_options
from deuteron.service.grpc.status import STATUS_OF
from deuteron.service.settings import ControlMode, GrpcEngine, GrpcSettings, KeepaliveSettings

BuildDoorway = Callable[..., Awaitable[Doorway]]


@pytest.fixture
async def client(grpc_door: GrpcFront) -> AsyncIterator[InferenceServerClient]:
    async with InferenceServerClient(grpc_door.address) as client:
        yield client


@pytest.fixture
async def channel(grpc_door: GrpcFront) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(grpc_door.address) as channel:
        yield channel


def row(rows: int = 1) -> InferInput:
    tensor = InferInput("INPUT0", [rows, 4], "FP32")
    tensor.set_data_from_numpy(np.arange(rows * 4, dtype=np.float32).reshape(rows, 4))
    return tensor


async def raw(channel: grpc.aio.Channel, path: str, body: bytes = b"") -> bytes:
    """Call a method with bytes as they are, and return the bytes of the answer."""
    call: Any = channel.unary_unary(path, None, None)
    answer: bytes = await call(body)
    return answer


async def status_of(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str | None]:
    """Return the status and the message that a call fails with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


# --- what is told about the server and its models ---


async def test_health_is_told_in_both_protocols(
    client: InferenceServerClient, channel: grpc.aio.Channel
) -> None:
    assert await client.is_server_live()
    assert not await client.is_server_ready()  # a model is broken
    assert await client.is_model_ready("simple")
    answer = health_pb2.HealthCheckResponse.FromString(await raw(channel, "/grpc.health.v1.Health/Check"))
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_stopping_server_says_so(channel: grpc.aio.Channel, doorway: Doorway) -> None:
    doorway.repository.stopping = True
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    assert await status_of(stub.ServerLive(service_pb2.ServerLiveRequest())) == (
        grpc.StatusCode.UNAVAILABLE,
        "Server exiting",
    )


async def test_the_server_and_its_models_tell_of_themselves(client: InferenceServerClient) -> None:
    server = await client.get_server_metadata(as_json=True)
    assert (server["name"], server["version"]) == ("house", "1.2.3")
    model = await client.get_model_metadata("simple", as_json=True)
    assert model["versions"] == ["1"]
    assert model["inputs"] == [{"name": "INPUT0", "datatype": "FP32", "shape": ["-1", "4"]}]
    config = await client.get_model_config("simple", "1")
    assert (config.config.name, config.config.max_batch_size) == ("simple", 8)
    index = await client.get_model_repository_index()
    found = {model.name: (model.version, model.state) for model in index.models}
    assert found["simple"] == ("1", "READY")
    assert found["broken"] == ("1", "UNAVAILABLE")


async def test_statistics_count_what_was_asked(client: InferenceServerClient) -> None:
    for _ in range(3):
        await client.infer("simple", [row(2)])
    (told,) = (await client.get_inference_statistics("simple")).model_stats
    assert (told.name, told.version, told.inference_count, told.execution_count) == ("simple", "1", 6, 3)
    assert told.inference_stats.success.count == 3
    assert told.inference_stats.success.ns > 0
    assert [(batch.batch_size, batch.compute_infer.count) for batch in told.batch_stats] == [(2, 3)]
    assert len((await client.get_inference_statistics()).model_stats) == 4


# --- inference ---


async def test_tensors_come_back(client: InferenceServerClient) -> None:
    result = await client.infer("simple", [row(3)], outputs=[InferRequestedOutput("OUTPUT0")], request_id="x")
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), np.arange(12, dtype=np.float32).reshape(3, 4))
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("x", "simple", "1")
    assert len(response.raw_output_contents) == 1


async def test_typed_contents_are_read_too(channel: grpc.aio.Channel) -> None:
    request = service_pb2.ModelInferRequest(model_name="simple")
    tensor = request.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 4])
    tensor.contents.fp32_contents.extend([1, 2, 3, 4])
    response = await service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    assert response.raw_output_contents[0] == np.array([1, 2, 3, 4], np.float32).tobytes()


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
async def test_tensors_of_every_size_come_back_whole(client: InferenceServerClient, size: int) -> None:
    sent = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    tensor = InferInput("INPUT0", [size], "UINT8")
    tensor.set_data_from_numpy(sent)
    np.testing.assert_array_equal((await client.infer("large", [tensor])).as_numpy("OUTPUT0"), sent)


@pytest.mark.parametrize(
    ("model", "version", "code", "message"),
    [
        ("no", "", grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'no' is not found"),
        (
            "simple",
            "7",
            grpc.StatusCode.NOT_FOUND,
            "Request for unknown model: 'simple' version 7 is not found",
        ),
        (
            "simple",
            "x",
            grpc.StatusCode.INVALID_ARGUMENT,
            "failed to get model version from specified version string 'x' (details: stol)",
        ),
        (
            "large",
            "",
            grpc.StatusCode.INVALID_ARGUMENT,
            "[request id: 7] inference input 'INPUT0' data-type is 'FP32', but model 'large' expects 'UINT8'",
        ),
    ],
)
async def test_bad_requests_are_told_what_is_wrong(
    client: InferenceServerClient, model: str, version: str, code: grpc.StatusCode, message: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        await client.infer(model, [row()], model_version=version, request_id="7")
    assert caught.value.status() == str(code)
    assert caught.value.message().startswith(message)


async def test_bytes_that_are_no_message_are_refused(channel: grpc.aio.Channel) -> None:
    call = raw(channel, "/inference.GRPCInferenceService/ModelInfer", b"\xff\xff")
    assert await status_of(call) == (grpc.StatusCode.INTERNAL, "Unable to parse request")


async def test_an_error_of_the_server_ends_one_call(
    client: InferenceServerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError("a secret of the server")

    with monkeypatch.context() as patch:
        patch.setattr(kserve_grpc, "decode_infer", explode)
        with pytest.raises(
            InferenceServerException, match="unexpected error of the server: ZeroDivisionError"
        ):
            await client.infer("simple", [row()])
    assert await client.infer("simple", [row()])


@pytest.mark.parametrize("letter", ["m", "%", "\n", "é", "😀"])
async def test_a_long_message_still_fits_into_a_status(client: InferenceServerClient, letter: str) -> None:
    """In a header each letter takes one byte to twelve; clients refuse headers that are too long."""
    with pytest.raises(InferenceServerException) as caught:
        await client.infer(letter * 100_000, [row()])
    assert caught.value.status() == "StatusCode.NOT_FOUND"
    assert caught.value.message().startswith(f"Request for unknown model: '{letter * 300}")
    assert caught.value.message().endswith("…")


async def test_every_method_of_tritons_service_is_answered(
    grpc_door: GrpcFront, channel: grpc.aio.Channel
) -> None:
    """Those of the published service are all there, and a method that nobody published is not."""
    for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
        told: str | None = ""
        try:
            await raw(channel, f"/inference.GRPCInferenceService/{method.name}")
        except grpc.aio.AioRpcError as error:
            told = error.details()
        assert told != "Method not found!"
    code, details = await status_of(raw(channel, "/inference.GRPCInferenceService/No"))
    assert (code, details) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


# --- loading and unloading ---


async def test_explicit_mode_loads_and_unloads(build_doorway: BuildDoorway, engine: GrpcEngine) -> None:
    front = grpc_front(
        await build_doorway(control_mode=ControlMode.EXPLICIT),
        GrpcSettings(address="127.0.0.1", port=0, engine=engine),
        KeepaliveSettings(),
    )
    await front.start()
    async with InferenceServerClient(front.address) as client:
        await client.load_model("simple")
        assert await client.is_model_ready("simple")
        await client.unload_model("no-such-model", unload_dependents=True)
        for load, message in (
            (client.load_model("no"), "failed to load 'no', failed to poll from model repository"),
            (client.load_model("simple", config="{}"), "failed to load 'simple', failed to poll"),
            (client.load_model(" "), "Model name cannot be empty. Please enter a valid name to deploy."),
        ):
            with pytest.raises(InferenceServerException, match=message):
                await load
    async with grpc.aio.insecure_channel(front.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = service_pb2.RepositoryModelLoadRequest(repository_name="main", model_name="simple")
        assert (await status_of(stub.RepositoryModelLoad(request)))[0] is grpc.StatusCode.UNIMPLEMENTED
        request = service_pb2.RepositoryModelLoadRequest(model_name="simple")
        request.parameters["x"].string_param = "y"
        assert (await status_of(stub.RepositoryModelLoad(request)))[1] == "unrecognized load parameter 'x'."
        del request.parameters["x"]
        request.parameters["config"].bool_param = True
        assert (await status_of(stub.RepositoryModelLoad(request)))[1] == (
            "invalid value type for load parameter 'config', expected string_param."
        )
    await front.close(1.0)


async def test_in_other_modes_nothing_is_loaded(client: InferenceServerClient) -> None:
    with pytest.raises(
        InferenceServerException, match="explicit model load / unload is not allowed"
    ) as caught:
        await client.load_model("simple")
    assert caught.value.status() == "StatusCode.UNAVAILABLE"


# --- the server itself ---


async def test_a_port_that_is_taken_is_an_error(
    doorway: Doorway, grpc_door: GrpcFront, engine: GrpcEngine
) -> None:
    settings = GrpcSettings(address="127.0.0.1", port=grpc_door.port, engine=engine)
    second = grpc_front(doorway, settings, KeepaliveSettings())
    with pytest.raises(InferError, match=rf"Socket '127.0.0.1:{grpc_door.port}' already in use ") as caught:
        await second.start()
    assert caught.value.fault is Fault.UNAVAILABLE


async def test_after_the_doors_close_calls_are_refused(
    client: InferenceServerClient, grpc_door: GrpcFront
) -> None:
    await client.infer("simple", [row()])
    await grpc_door.stop_accepting()
    with pytest.raises(
        InferenceServerException, match="GRPC server is shutting down and has stopped accepting"
    ):
        await client.infer("simple", [row()])


def test_every_fault_has_a_status() -> None:
    assert set(STATUS_OF) == set(Fault)


def test_settings_become_channel_arguments() -> None:
    options = dict(channel_options(GrpcSettings(reuse_port=True), KeepaliveSettings(max_connection_age_ms=5)))
    assert options["grpc.so_reuseport"] == 1
    assert options["grpc.max_receive_message_length"] == 2**31 - 1
    assert options["grpc.keepalive_time_ms"] == 7_200_000
    assert options["grpc.max_connection_age_ms"] == 5
    assert "grpc.max_connection_age_grace_ms" not in options
