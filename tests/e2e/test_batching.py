"""Requests of many clients share executions, wait within bounds, and survive engines that break."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .house import Server, poll
from .wire import ask, infer

Serve = Callable[..., Server]

THREADS = 40

CONFIG = """
backend: "identity"
max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ -1 ] } ]
"""
SLOW = 'parameters { key: "execute_delay_ms" value { string_value: "200" } }\n'
RATHER_SLOW = SLOW.replace("200", "10")


@pytest.fixture
def serve_with(tmp_path: Path, serve: Serve) -> Callable[[str], Server]:
    """Serve an identity model with more in its configuration."""

    def start(more: str) -> Server:
        model = tmp_path / "models" / "model"
        (model / "1").mkdir(parents=True)
        (model / "config.pbtxt").write_text(CONFIG + more)
        return serve(tmp_path / "models")

    return start


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(THREADS) as threads:
        yield threads


def ask_for(server: Server, number: int, width: int = 1, **parameters: int) -> tuple[int, Any]:
    """Ask for a number, so many times over; return the status, and the data or the error."""
    tensor = {"name": "INPUT0", "datatype": "INT32", "shape": [1, width], "data": [number] * width}
    status, body = infer(server.http, "model", {"inputs": [tensor], "parameters": parameters})
    return status, body["outputs"][0]["data"] if status == 200 else body["error"]


def statistics(server: Server) -> dict[str, Any]:
    """Return the statistics of the model."""
    (told,) = ask(server.http, "GET /v2/models/model/stats").body["model_stats"]
    assert isinstance(told, dict)
    return told


def test_requests_that_wait_are_executed_together(
    serve_with: Callable[[str], Server], threads: ThreadPoolExecutor
) -> None:
    server = serve_with("dynamic_batching { }\n" + SLOW)
    answers = list(threads.map(lambda number: ask_for(server, number), range(THREADS)))
    assert answers == [(200, [number]) for number in range(THREADS)]
    told = statistics(server)
    assert told["inference_count"] == THREADS
    assert told["execution_count"] < THREADS / 3
    assert max(batch["batch_size"] for batch in told["batch_stats"]) == 8


def test_requests_of_different_shapes_are_not_executed_together(
    serve_with: Callable[[str], Server], threads: ThreadPoolExecutor
) -> None:
    server = serve_with("dynamic_batching { }\n" + RATHER_SLOW)
    widths = [1 + number % 4 for number in range(THREADS)]
    answers = threads.map(lambda number: ask_for(server, number, widths[number]), range(THREADS))
    assert list(answers) == [(200, [number] * widths[number]) for number in range(THREADS)]


def test_a_queue_that_is_full_refuses(
    serve_with: Callable[[str], Server], threads: ThreadPoolExecutor
) -> None:
    server = serve_with("dynamic_batching { default_queue_policy { max_queue_size: 4 } }\n" + SLOW)
    answers = list(threads.map(lambda number: ask_for(server, number), range(THREADS)))
    refused = (503, "[request id: <id_unknown>] Exceeds maximum queue size")
    assert refused in answers
    assert all(answer in (refused, (200, [number])) for number, answer in enumerate(answers))
    assert ask_for(server, 7) == (200, [7])


def test_a_request_that_waits_too_long_is_refused(
    serve_with: Callable[[str], Server], threads: ThreadPoolExecutor
) -> None:
    policy = "default_timeout_microseconds: 50000 allow_timeout_override: true"
    server = serve_with(f"dynamic_batching {{ default_queue_policy {{ {policy} }} }}\n" + SLOW)
    answers = Counter(threads.map(lambda number: ask_for(server, number)[0], range(THREADS)))
    assert set(answers) == {200, 503}
    assert ask_for(server, 1) == (200, [1])
    failures = server.read_metric("nv_inference_request_failure", model="model", reason="REJECTED")
    assert failures == answers[503]


def test_several_instances_work_side_by_side(
    serve_with: Callable[[str], Server], threads: ThreadPoolExecutor
) -> None:
    server = serve_with("instance_group [ { kind: KIND_CPU count: 4 } ]\n" + SLOW)
    answers = list(threads.map(lambda number: ask_for(server, number), range(8)))
    assert answers == [(200, [number]) for number in range(8)]
    spent = statistics(server)["inference_stats"]
    waited = spent["queue"]["ns"] / spent["queue"]["count"]
    assert waited < 250e6, "of eight requests on four instances none waits for more than one other"


def test_an_engine_that_breaks_fails_its_batch_and_comes_back(
    serve_with: Callable[[str], Server],
) -> None:
    server = serve_with('parameters { key: "break_every" value { string_value: "3" } }\n')
    answers = [ask_for(server, number) for number in range(3)]
    assert answers[:2] == [(200, [0]), (200, [1])]
    assert answers[2] == (
        500,
        "instance 'model_0' broke: DeliberateBreakError: execution 3 breaks, as 'break_every' says",
    )
    assert ask_for(server, 4) == (200, [4])
    assert "instance broke instance=model_0" in server.logged()
    assert "instance is back instance=model_0" in server.logged()


def test_a_model_whose_engine_breaks_too_often_is_given_up_and_says_so(
    serve_with: Callable[[str], Server],
) -> None:
    server = serve_with('parameters { key: "break_every" value { string_value: "1" } }\n')
    statuses: list[int] = []

    def is_given_up() -> bool:
        statuses.append(ask_for(server, 1)[0])
        return statuses[-1] == 404

    poll(is_given_up, "the model is given up", within=60)
    (entry,) = ask(server.http, "POST /v2/repository/index").body
    assert entry["state"] == "UNAVAILABLE"
    assert "broke more often than its restart budget allows" in entry["reason"]
    assert set(statuses) <= {404, 500, 503}
    assert server.get("/v2/health/live")[0] == 200
    assert server.get("/v2/health/ready")[0] == 400
