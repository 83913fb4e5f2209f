"""A server without sockets: models of a repository, asked with arrays."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from deuteron import (
    AsyncServer,
    Fault,
    InferError,
    ModelConfig,
    Request,
    RequestOptions,
    Server,
    ServerConfig,
    Tensor,
)

IDENTITY = """
backend: "identity"
max_batch_size: 4
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
"""

STRINGS = IDENTITY.replace("FP32", "STRING")
HALVES = IDENTITY.replace("FP32", "BF16")

SLOW = (
    IDENTITY
    + """
instance_group [{ kind: KIND_CPU count: 1 }]
parameters { key: "execute_delay_ms" value { string_value: "20" } }
"""
)

REPEAT = """
backend: "python"
input [{ name: "N" data_type: TYPE_INT32 dims: [ 1 ] }]
output [{ name: "I" data_type: TYPE_INT32 dims: [ 1 ] }]
model_transaction_policy { decoupled: true }
"""

REPEAT_CODE = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for i in range(request.inputs()[0].as_numpy()[0]):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("I", np.array([i], np.int32))]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

MODELS = {"identity": IDENTITY, "strings": STRINGS, "halves": HALVES, "slow": SLOW, "repeat": REPEAT}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Write a few models."""
    for name, config in MODELS.items():
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "config.pbtxt").write_text(config)
    (tmp_path / "repeat" / "1" / "model.py").write_text(REPEAT_CODE)
    return tmp_path


@pytest.fixture
def config(repository: Path) -> ServerConfig:
    """Serve all of them."""
    return ServerConfig(model_repository=repository)


async def test_arrays_go_in_and_out(config: ServerConfig) -> None:
    async with AsyncServer(config, doors=False) as server:
        array = np.arange(6, dtype=np.float32).reshape(2, 3)
        answer = await server.model("identity").infer({"INPUT0": array}, RequestOptions(id="seven"))
        assert answer["OUTPUT0"].tolist() == array.tolist()
        assert (answer.model_name, answer.model_version, list(answer)) == ("identity", 1, ["OUTPUT0"])


async def test_what_is_no_array_becomes_one_of_the_datatype_of_the_input(config: ServerConfig) -> None:
    async with AsyncServer(config, doors=False) as server:
        answer = await server.model("identity").infer({"INPUT0": [[1, 2]]})
        assert answer["OUTPUT0"].dtype == np.float32
        told = await server.model("strings").infer({"INPUT0": [["ä", b"b"]]})
        assert told["OUTPUT0"].tolist() == [["ä".encode(), b"b"]]
        halves = await server.model("halves").infer({"INPUT0": np.array([[16256]], np.uint16)})
        assert halves["OUTPUT0"].tolist() == [[16256]]


async def test_arrays_of_any_layout_and_byte_order_arrive_as_they_read() -> None:
    def look(requests: list[Request]) -> list[dict[str, object]]:
        (array,) = requests[0].values()
        assert array.flags.c_contiguous
        assert array.dtype.isnative
        return [{"y": array}]

    number = (np.float32, (-1, -1))
    async with AsyncServer(doors=False) as server:
        config = ModelConfig(batching=False)
        await server.bind("look", look, [Tensor(*number, "x")], [Tensor(*number, "y")], config=config)
        answer = await server.model("look").infer({"x": np.arange(6, dtype=">f4").reshape(3, 2).T})
        assert answer["y"].tolist() == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.parametrize(
    ("name", "inputs", "fault", "text"),
    [
        ("nobody", {}, Fault.NOT_FOUND, "unknown model"),
        ("identity", {}, Fault.INVALID_ARG, "expected 1 inputs but got 0"),
        ("identity", {"INPUT0": np.zeros((1, 2))}, Fault.INVALID_ARG, "data-type is 'FP64'"),
        ("identity", {"INPUT0": [["a"]]}, Fault.INVALID_ARG, "input 'INPUT0' cannot be made an array"),
        ("identity", {"INPUT0": [[1], [1, 2]]}, Fault.INVALID_ARG, "input 'INPUT0' cannot be made an array"),
        ("identity", {"INPUT0": np.zeros((1, 1), np.complex64)}, Fault.INVALID_ARG, "array of complex64"),
        ("identity", {"INPUT0": np.zeros((5, 1), np.float32)}, Fault.INVALID_ARG, "batch-size must be <= 4"),
    ],
)
async def test_what_cannot_be_asked_is_refused_with_a_reason(
    config: ServerConfig, name: str, inputs: dict[str, object], fault: Fault, text: str
) -> None:
    async with AsyncServer(config, doors=False) as server:
        with pytest.raises(InferError, match=text) as caught:
            await server.model(name).infer(inputs)
        assert caught.value.fault is fault


async def test_answers_of_a_decoupled_model_come_one_by_one(config: ServerConfig) -> None:
    async with AsyncServer(config, doors=False) as server:
        answers = server.model("repeat").stream({"N": [3]})
        assert [answer["I"].item() async for answer in answers] == [0, 1, 2]


async def test_whoever_stops_waiting_takes_the_request_out_of_the_queue(
    config: ServerConfig, until: Callable[..., object]
) -> None:
    async with AsyncServer(config, doors=False) as server:
        model = server.model("slow")
        running, waiting = (asyncio.create_task(model.infer({"INPUT0": [[number]]})) for number in (1.0, 2.0))
        await asyncio.sleep(0)
        waiting.cancel()
        assert (await running)["OUTPUT0"].tolist() == [[1]]
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await model.infer({"INPUT0": [[3]]}))["OUTPUT0"].tolist() == [[3]]
        assert model.statistics()[0]["inference_stats"]["success"]["count"] == 2


async def test_the_access_log_has_the_requests_of_the_program_too(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    config = ServerConfig(model_repository=repository, access_log_file=file)
    async with AsyncServer(config, doors=False) as server:
        await server.model("identity").infer({"INPUT0": [[1]]}, RequestOptions(id="one"))
        assert len([answer async for answer in server.model("repeat").stream({"N": [2]})]) == 2
        with pytest.raises(InferError):
            await server.model("identity").infer({"INPUT0": np.zeros((5, 1), np.float32)})
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    told = [(line["protocol"], line["model"], line["request_id"], line["status"]) for line in lines]
    assert told == [
        ("library", "identity", "one", "OK"),
        ("library", "repeat", "", "OK"),
        ("library", "identity", "", "INVALID_ARG"),
    ]


async def test_models_are_loaded_and_unloaded_in_explicit_mode_only(repository: Path) -> None:
    config = ServerConfig(model_repository=repository, model_control_mode="explicit")
    async with AsyncServer(config, doors=False) as server:
        model = server.model("identity")
        assert not await model.is_ready()
        await server.load(
            "identity",
            '{"backend": "identity", "max_batch_size": 2, '
            '"input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [1]}], '
            '"output": [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [1]}]}',
        )
        assert await model.is_ready()
        assert model.config()["max_batch_size"] == 2
        await server.unload("identity")
        assert not await model.is_ready()
    async with AsyncServer(ServerConfig(model_repository=repository), doors=False) as server:
        with pytest.raises(InferError, match="not allowed"):
            await server.load("identity")


async def test_the_program_may_ask_all_that_clients_may(config: ServerConfig) -> None:
    async with AsyncServer(config, doors=False) as server:
        await server.model("identity").infer({"INPUT0": [[1]]})
        assert server.ready
        assert server.metadata()["name"] == "triton"
        assert {entry["name"]: entry["state"] for entry in server.index()} == dict.fromkeys(MODELS, "READY")
        (counted,) = server.statistics("identity")
        assert counted["inference_count"] == 1
        assert 'nv_inference_request_success{model="identity",version="1"} 1' in server.metrics()
        assert server.model("identity").metadata()["inputs"][0]["name"] == "INPUT0"


async def test_a_server_without_doors_listens_nowhere(config: ServerConfig) -> None:
    def listening() -> set[object]:
        connections = psutil.Process().net_connections()
        return {each.laddr for each in connections if each.status == psutil.CONN_LISTEN}

    before = listening()
    async with AsyncServer(config, doors=False) as server:
        assert server.addresses == {}
        assert listening() <= before


async def test_a_model_that_cannot_be_loaded_keeps_the_server_from_starting(tmp_path: Path) -> None:
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "config.pbtxt").write_text('backend: "none"')
    with pytest.raises(InferError, match="failed to load broken"):
        await AsyncServer(ServerConfig(model_repository=tmp_path), doors=False).start()
    lenient = ServerConfig(model_repository=tmp_path, exit_on_error=False)
    async with AsyncServer(lenient, doors=False) as server:
        assert server.index()[0]["state"] == "UNAVAILABLE"


async def test_a_server_that_does_not_serve_says_so(config: ServerConfig) -> None:
    server = AsyncServer(config, doors=False)
    with pytest.raises(InferError, match="does not serve"):
        server.index()
    await server.start()
    await server.stop()
    with pytest.raises(InferError, match="does not serve"):
        await server.model("identity").infer({"INPUT0": [[1]]})
    with pytest.raises(InferError, match="started already"):
        await server.start()


async def test_requests_that_have_come_are_served_to_the_end(config: ServerConfig) -> None:
    server = AsyncServer(config, doors=False)
    await server.start()
    asked = [asyncio.create_task(server.model("slow").infer({"INPUT0": [[number]]})) for number in range(3)]
    await asyncio.sleep(0)
    await server.stop()
    assert [(await each)["OUTPUT0"].item() for each in asked] == [0, 1, 2]


def test_the_same_is_there_for_programs_without_a_loop(config: ServerConfig) -> None:
    with Server(config, doors=False) as server:
        assert server.model("identity").infer({"INPUT0": [[1]]})["OUTPUT0"].tolist() == [[1]]
        assert [answer["I"].item() for answer in server.model("repeat").stream({"N": [2]})] == [0, 1]
        assert server.model("identity").is_ready()
        assert server.statistics("identity")[0]["inference_count"] == 1
        assert server.model("identity").statistics()[0]["name"] == "identity"
        assert server.model("identity").metadata()["name"] == "identity"
        assert server.model("identity").config()["backend"] == "identity"
        assert len(server.index(ready_only=True)) == len(MODELS)
        assert "nv_inference_count" in server.metrics()
        assert server.metadata()["version"]
        with pytest.raises(InferError, match="unknown model"):
            server.model("nobody").infer({})
        with pytest.raises(TimeoutError):
            server.model("slow").infer({"INPUT0": [[1]]}, timeout_s=0)
        assert server.is_alive()
    assert not server.is_alive()
    with pytest.raises(InferError, match="does not run"):
        server.index()


def test_a_stream_that_is_left_early_is_cancelled(config: ServerConfig) -> None:
    with Server(config, doors=False) as server:
        answers = server.model("repeat").stream({"N": [1000]})
        assert next(answers)["I"].item() == 0
        answers.close()
        assert [answer["I"].item() for answer in server.model("repeat").stream({"N": [1]})] == [0]


def test_options_are_those_of_the_command() -> None:
    config = ServerConfig(http_port=9, id="mine", model_repository=["/tmp", "/usr"], strict_readiness=False)
    settings = config.settings
    assert (settings.http.port, settings.server_id, settings.repository.strict_readiness) == (
        9,
        "mine",
        False,
    )
    assert settings.repository.paths == (Path("/tmp"), Path("/usr"))
    assert ServerConfig(http_port=None).settings.http.port == 8000
    with pytest.raises(ValueError, match="unrecognized option '--http-prt'; did you mean '--http-port'"):
        ServerConfig(http_prt=1)
    with pytest.raises(ValueError, match="http-port"):
        ServerConfig(http_port="x")
