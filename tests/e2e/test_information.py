"""What the server tells about itself and its models is the same through each of Triton's clients."""

from typing import Any

import numpy as np
import pytest

import deuteron

from .clients import Client
from .house import Server
from .wire import ask

READY_MODELS = {
    ("add_sub", "1"),
    ("chain", "1"),
    ("echo", "1"),
    ("everything", "1"),
    ("flood", "1"),
    ("labelled", "1"),
    ("misbehaving", "1"),
    ("onnx_add_sub", "1"),
    ("repeat", "1"),
    ("slow", "1"),
    ("torch_double", "1"),
    ("versioned", "1"),
    ("versioned", "3"),
}


def shape(tensor: dict[str, Any]) -> list[int]:
    """Return the shape of a tensor's metadata; in protobuf's JSON its numbers are texts."""
    return [int(size) for size in tensor["shape"]]


# --- health ---


def test_the_server_lives_and_is_ready(client: Client) -> None:
    assert client.call("is_server_live") is True
    assert client.call("is_server_ready") is True


@pytest.mark.parametrize(
    ("model", "version", "ready"),
    [
        ("echo", "", True),
        ("versioned", "", True),
        ("versioned", "1", True),
        ("versioned", "2", False),
        ("nobody", "", False),
    ],
)
def test_a_model_is_ready_or_is_not(client: Client, model: str, version: str, ready: bool) -> None:
    assert client.call("is_model_ready", model, version) is ready


# --- metadata and configuration ---


def test_the_server_tells_its_name_version_and_extensions(client: Client) -> None:
    told = client.tell("get_server_metadata")
    assert (told["name"], told["version"]) == ("triton", deuteron.__version__)
    assert {"classification", "binary_tensor_data", "statistics"} <= set(told["extensions"])


def test_a_model_tells_what_it_takes_and_gives(client: Client) -> None:
    told = client.tell("get_model_metadata", "add_sub")
    assert (told["name"], told["versions"], told["platform"]) == ("add_sub", ["1"], "python")
    for side, prefix in (("inputs", "INPUT"), ("outputs", "OUTPUT")):
        assert [(each["name"], each["datatype"], shape(each)) for each in told[side]] == [
            (f"{prefix}0", "INT32", [-1, 16]),
            (f"{prefix}1", "INT32", [-1, 16]),
        ]


@pytest.mark.parametrize(
    ("model", "platform"),
    [
        ("onnx_add_sub", "onnxruntime_onnx"),
        ("torch_double", "pytorch_libtorch"),
        ("chain", "ensemble"),
        ("echo", "identity"),
    ],
)
def test_the_platform_is_that_of_the_configuration_or_the_backend(
    client: Client, model: str, platform: str
) -> None:
    assert client.tell("get_model_metadata", model)["platform"] == platform


@pytest.mark.parametrize(("asked", "told"), [("", ["1", "3"]), ("1", ["1"])])
def test_a_model_tells_its_versions(client: Client, asked: str, told: list[str]) -> None:
    assert client.tell("get_model_metadata", "versioned", asked)["versions"] == told


def test_a_configuration_tells_what_was_written_and_what_was_filled_in(client: Client) -> None:
    config = client.tell("get_model_config", "slow")
    if not client.is_http:
        config = config["config"]
    assert config["backend"] == "identity"
    assert config["max_batch_size"] == 8
    assert config["instance_group"][0]["name"] == "slow_0"
    assert config["input"][0]["data_type"] == "TYPE_INT32"
    assert config["parameters"] == {"execute_delay_ms": {"string_value": "50"}}
    assert "dynamic_batching" in config


def test_a_model_without_configuration_has_one_from_its_file(client: Client) -> None:
    config = client.tell("get_model_config", "onnx_add_sub")
    if not client.is_http:
        config = config["config"]
    assert [each["name"] for each in config["input"]] == ["A", "B"]
    assert [each["name"] for each in config["output"]] == ["SUM", "DIFFERENCE"]
    assert config["max_batch_size"] == 4


# --- the repository ---


def test_the_index_lists_every_version_and_its_state(client: Client) -> None:
    told = client.tell("get_model_repository_index")
    entries = told if client.is_http else told["models"]
    assert {(each["name"], each["version"]) for each in entries} == READY_MODELS
    assert {each["state"] for each in entries} == {"READY"}


# --- statistics ---


def test_statistics_count_what_was_asked(client: Client) -> None:
    def counts() -> tuple[int, int, int, int]:
        (told,) = client.tell("get_inference_statistics", "torch_double")["model_stats"]
        success = told["inference_stats"]["success"]
        executions = [batch for batch in told.get("batch_stats", []) if int(batch["batch_size"]) == 3]
        return (
            int(told.get("inference_count", 0)),
            int(told.get("execution_count", 0)),
            int(success.get("count", 0)),
            int(executions[0]["compute_infer"]["count"]) if executions else 0,
        )

    rows, executions, requests, threes = counts()
    for _ in range(5):
        client.infer("torch_double", client.tensor("x", np.ones((3, 4), np.float32)))
    assert counts() == (rows + 15, executions + 5, requests + 5, threes + 5)


def test_statistics_measure_durations(client: Client) -> None:
    client.infer("slow", client.tensor("INPUT0", np.ones((1, 2), np.int32)))
    (told,) = client.tell("get_inference_statistics", "slow")["model_stats"]
    durations = {
        name: int(each.get("ns", 0)) / int(each["count"])
        for name, each in told["inference_stats"].items()
        if int(each.get("count", 0))
    }
    assert durations["compute_infer"] >= 50e6
    assert durations["success"] >= durations["compute_infer"]
    assert int(told["last_inference"]) > 1_600_000_000_000


def test_statistics_of_all_models_come_at_once(client: Client) -> None:
    told = client.tell("get_inference_statistics")["model_stats"]
    assert {(each["name"], each["version"]) for each in told} == READY_MODELS


# --- metrics ---


def test_metrics_are_told_in_prometheus_text(house: Server) -> None:
    with Client("http", house) as client:
        before = house.read_metric("nv_inference_request_success", model="echo")
        client.infer("echo", client.tensor("INPUT0", np.ones((1, 4), np.float32)))
    answer = ask(house.metrics, "GET /metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert house.read_metric("nv_inference_request_success", model="echo") == before + 1
