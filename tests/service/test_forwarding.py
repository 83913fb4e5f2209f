"""Headers whose names have a pattern in them reach the model as parameters."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import ClientSession

from deuteron.actors.loading import LoadOptions
from deuteron.actors.repository import Repository
from deuteron.backends.catalog import Catalog
from deuteron.proto.errors import InferError
from deuteron.proto.schema import grpc_service_pb2 as pb
from deuteron.service.doorway import Doorway
from deuteron.service.forwarding import HeaderForwarding, forwarding_of
from deuteron.service.grpc.front import grpc_front
from deuteron.service.http.door import http_front
from deuteron.service.settings import ControlMode, GrpcEngine, GrpcSettings, HttpSettings, KeepaliveSettings

CONFIG = """
backend: "python"
input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "HEARD" data_type: TYPE_STRING dims: [ 1 ] } ]
"""

MODEL = '''
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Tells the parameters of a request."""

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("HEARD", np.array([r.parameters()], dtype=object))])
            for r in requests
        ]
'''

BODY = {"inputs": [{"name": "IN", "shape": [1], "datatype": "INT32", "data": [1]}], "parameters": {"own": 1}}


@pytest.fixture
async def doorway(tmp_path: Path) -> AsyncIterator[Doorway]:
    """Load the model that tells what it heard."""
    (tmp_path / "heard" / "1").mkdir(parents=True)
    (tmp_path / "heard" / "config.pbtxt").write_text(CONFIG)
    (tmp_path / "heard" / "1" / "model.py").write_text(MODEL)
    async with Repository([tmp_path], Catalog(), LoadOptions()) as repository:
        assert not await repository.load_at_start(None)
        yield Doorway(repository, ControlMode.NONE, "house", "1")


def infer_request() -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="heard", raw_input_contents=[b"\1\0\0\0"])
    request.inputs.add(name="IN", datatype="INT32", shape=[1])
    request.parameters["own"].int64_param = 1
    return request


async def heard_over_http(doorway: Doorway, pattern: str, headers: dict[str, str]) -> tuple[int, Any]:
    front = http_front(doorway, HttpSettings(address="127.0.0.1", port=0, forward_pattern=pattern))
    await front.start()
    try:
        async with (
            ClientSession() as session,
            session.post(
                f"http://{front.address}/v2/models/heard/infer", json=BODY, headers=headers
            ) as answer,
        ):
            told = await answer.json()
            return answer.status, told if "error" in told else json.loads(told["outputs"][0]["data"][0])
    finally:
        await front.close(1.0)


def forwarding(engine: GrpcEngine, pattern: str) -> GrpcSettings:
    return GrpcSettings(address="127.0.0.1", port=0, engine=engine, forward_pattern=pattern)


async def heard_over_grpc(
    doorway: Doorway, settings: GrpcSettings, metadata: dict[str, str], *, streams: bool
) -> Any:  # noqa: ANN401
    front = grpc_front(doorway, settings, KeepaliveSettings())
    await front.start()
    service = "/inference.GRPCInferenceService/"
    body = infer_request().SerializeToString()
    given = tuple(metadata.items())
    try:
        async with grpc.aio.insecure_channel(front.address) as channel:
            if not streams:
                answer = await channel.unary_unary(f"{service}ModelInfer", None, None)(body, metadata=given)
                told = pb.ModelInferResponse.FromString(answer)
            else:
                stream = channel.stream_stream(f"{service}ModelStreamInfer", None, None)(
                    iter([body]), metadata=given
                )
                told_first = await stream.read()
                assert isinstance(told_first, bytes)
                message = pb.ModelStreamInferResponse.FromString(told_first)
                if message.error_message:
                    return message.error_message
                told = message.infer_response
            return json.loads(told.raw_output_contents[0][4:])
    except grpc.aio.AioRpcError as error:
        return error.details()
    finally:
        await front.close(1.0)


async def test_http_headers_reach_the_model_as_they_are_spelt(doorway: Doorway) -> None:
    headers = {"X-My-Tenant": "blue", "X-Other": "no", "my-trace": "7"}
    status, heard = await heard_over_http(doorway, "MY-", headers)
    assert (status, heard) == (200, {"own": 1, "X-My-Tenant": "blue", "my-trace": "7"})


async def test_http_forwards_nothing_when_nothing_is_asked_for(doorway: Doorway) -> None:
    assert await heard_over_http(doorway, "", {"X-My-Tenant": "blue"}) == (200, {"own": 1})


async def test_http_refuses_reserved_names(doorway: Doorway) -> None:
    for name in ("priority", "triton_x", "headers"):
        told = {"error": f"Header '{name}' is reserved for Triton usage and cannot be forwarded."}
        assert await heard_over_http(doorway, ".*", {name: "1"}) == (400, told)


@pytest.mark.parametrize("streams", [False, True])
async def test_metadata_reaches_the_model(doorway: Doorway, engine: GrpcEngine, streams: bool) -> None:
    metadata = {"x-my-tenant": "blue", "other": "no"}
    heard = await heard_over_grpc(doorway, forwarding(engine, "^X-MY"), metadata, streams=streams)
    assert heard == {"own": 1, "x-my-tenant": "blue"}
    assert await heard_over_grpc(doorway, forwarding(engine, ""), metadata, streams=streams) == {"own": 1}


@pytest.mark.parametrize("streams", [False, True])
async def test_reserved_metadata_is_refused(doorway: Doorway, engine: GrpcEngine, streams: bool) -> None:
    heard = await heard_over_grpc(doorway, forwarding(engine, "timeout"), {"timeout": "1"}, streams=streams)
    assert heard == "Header 'timeout' is reserved for Triton usage and cannot be forwarded."


def test_a_pattern_is_found_anywhere_and_in_any_case() -> None:
    select = HeaderForwarding("b+").select
    assert select([("ABBA", "1"), (b"x", "2"), (b"b", b"\xff")]) == {"ABBA": "1", "b": "\ufffd"}
    assert forwarding_of("") is None
    with pytest.raises(InferError, match="'sequence_id' is reserved"):
        HeaderForwarding("_id").select([("sequence_id", "1")])


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("MY_.*", ["my_header", "MY_OTHER"]),
        ("(?-i)MY_.*", ["MY_OTHER"]),
        ("(?-i)my|OTHER", ["my_header", "MY_OTHER"]),
        ("(?i)my_o", ["MY_OTHER"]),
    ],
)
def test_a_pattern_may_begin_by_telling_cases_apart(pattern: str, chosen: list[str]) -> None:
    headers = [("my_header", "1"), ("MY_OTHER", "2"), ("other", "3")]
    assert list(HeaderForwarding(pattern).select(headers)) == chosen
