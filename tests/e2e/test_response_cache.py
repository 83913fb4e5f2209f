"""The response cache from outside: what is asked again is answered without the model, and counted so."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import redis

from ..redis_house import NEEDS_REDIS, free_port, port_of, redis_server
from .clients import LIBRARIES, Client
from .house import Server, poll

Pick = Callable[..., Path]
Serve = Callable[..., Server]

CACHED = "response_cache { enable: true }\n"


@pytest.fixture
def models(pick: Pick) -> Path:
    """Two models: one whose responses are cached, one whose are not."""
    root = pick("onnx_add_sub", "add_sub")
    with (root / "add_sub" / "config.pbtxt").open("a") as config:
        config.write(CACHED)
    return root


def add(client: Client, value: int) -> list[list[int]]:
    """Ask the cached model for INPUT0 + INPUT1."""
    left = client.tensor("INPUT0", np.full((1, 16), value, np.int32))
    right = client.tensor("INPUT1", np.ones((1, 16), np.int32))
    answered: list[list[int]] = client.infer("add_sub", left, right).as_numpy("OUTPUT0").tolist()
    return answered


def counts(client: Client) -> dict[str, int]:
    (told,) = client.tell("get_inference_statistics", "add_sub")["model_stats"]
    stats = told["inference_stats"]
    found = {name: int(stats[name].get("count", 0)) for name in ("success", "queue", "compute_infer")}
    found |= {name: int(stats[name].get("count", 0)) for name in ("cache_hit", "cache_miss")}
    return found | {
        "executions": int(told.get("execution_count", 0)),
        "rows": int(told.get("inference_count", 0)),
    }


@pytest.mark.parametrize(
    "spelling", ["--cache-config=local,size=1048576", "--response-cache-byte-size=1048576"]
)
def test_what_is_asked_again_is_counted_as_triton_counts_it(
    models: Path, serve: Serve, spelling: str
) -> None:
    server = serve(models, spelling, "--metrics-config=summary_latencies=true")
    for name in LIBRARIES:
        with Client(name, server) as client:
            assert add(client, 5) == [[6] * 16]
    with Client("http", server) as client, Client("grpc", server) as other:
        expected = {
            "success": 4,
            "queue": 4,
            "compute_infer": 1,
            "cache_hit": 3,
            "cache_miss": 1,
            "executions": 1,
            "rows": 1,
        }
        assert counts(client) == counts(other) == expected
    for metric, value in (
        ("nv_cache_num_hits_per_model", 3),
        ("nv_cache_num_misses_per_model", 1),
        ("nv_cache_hit_summary_per_model_count", 3),
        ("nv_cache_miss_summary_per_model_count", 1),
        ("nv_inference_request_success", 4),
        ("nv_inference_queue_summary_us_count", 4),
        ("nv_inference_count", 1),
    ):
        assert server.read_metric(metric, model="add_sub") == value, metric
    text = server.get_metrics()
    for line in ("nv_cache_num_entries 1", "nv_cache_num_hits 3", "nv_cache_num_lookups 4"):
        assert line in text.splitlines()
    assert 'nv_cache_num_hits_per_model{model="onnx_add_sub"' not in text
    assert 'nv_inference_request_summary_us_count{model="add_sub"' not in text
    assert 'nv_inference_request_summary_us_count{model="onnx_add_sub"' in text


def test_without_a_cache_nothing_is_told_of_one(house: Server) -> None:
    assert "nv_cache" not in house.get_metrics()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[redis.Redis]:
    with redis_server(tmp_path, free_port()) as client:
        yield client


@NEEDS_REDIS
def test_two_servers_share_what_they_know_and_neither_needs_redis(
    models: Path, serve: Serve, store: redis.Redis
) -> None:
    flags = ("--cache-config=redis,host=127.0.0.1", f"--cache-config=redis,port={port_of(store)}")
    servers = serve(models, *flags), serve(models, *flags)
    with Client("http", servers[0]) as first, Client("grpc", servers[1]) as second:
        assert add(first, 5) == [[6] * 16]

        def second_knows() -> bool:
            assert add(second, 5) == [[6] * 16]
            return counts(second)["cache_hit"] > 0

        poll(second_knows, "what the first server was asked is found by the second")
        store.shutdown(nosave=True)
        for value in range(20):
            assert add(first, value) == add(second, value) == [[value + 1] * 16]
        assert counts(first)["executions"] >= 20
    assert "Redis does not work" in servers[0].logged()


@NEEDS_REDIS
def test_a_server_starts_without_its_redis_and_says_so(models: Path, serve: Serve) -> None:
    server = serve(models, "--cache-config=redis,host=127.0.0.1", "--cache-config=redis,port=1")
    with Client("http", server) as client:
        assert add(client, 5) == [[6] * 16]
    assert "Redis does not work; responses are not cached until it does" in server.logged()
