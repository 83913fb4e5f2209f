"""Sequences outlive their server: another one, or the next, goes on with them from the store in Redis."""

import json
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

import pytest
import redis

from ..redis_house import NEEDS_REDIS, free_port, port_of, redis_server
from .house import Server, poll, serving
from .test_sequences import save_onnx_accumulator
from .wire import ask

pytestmark = NEEDS_REDIS

SEQUENCES: Final = 1000
STEPS: Final = 4
THREADS: Final = 16
TIMEOUT_S: Final = 20

CONFIG: Final = """
backend: "onnxruntime"
max_batch_size: 64
input [ { name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
sequence_batching {
  oldest { max_candidate_sequences: 1024 }
  max_sequence_idle_microseconds: 60000000
  state { input_name: "BEFORE" output_name: "AFTER" data_type: TYPE_INT32 dims: [ 1 ] }
}
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A model that adds up its sequences in an implicit state."""
    directory = tmp_path / "models" / "sum"
    (directory / "1").mkdir(parents=True)
    (directory / "config.pbtxt").write_text(CONFIG)
    save_onnx_accumulator(directory / "1" / "model.onnx")
    return tmp_path / "models"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[redis.Redis]:
    """An empty Redis."""
    with redis_server(tmp_path, free_port()) as client:
        yield client


def url_of(store: redis.Redis) -> str:
    return f"--sequence-store=redis://127.0.0.1:{port_of(store)}/0"


def body_of(sequence: int, step: int) -> str:
    """Return a request for one step of a sequence, which is known by its ID also when it comes again."""
    number = sequence * 10 + step
    tensor = {"name": "INPUT", "datatype": "INT32", "shape": [1, 1], "data": [number]}
    parameters = {
        "sequence_id": sequence,
        "sequence_start": step == 0,
        "sequence_end": step == STEPS - 1,
    }
    return json.dumps({"id": f"{sequence}-{step}", "parameters": parameters, "inputs": [tensor]})


class Caller:
    """A client of several servers that asks the first of them which answers."""

    def __init__(self, servers: list[Server]) -> None:
        self._addresses = [server.http for server in servers]
        self._connection = HTTPConnection(self._addresses[0], timeout=TIMEOUT_S)

    def ask(self, body: str) -> int | str:
        """Return the sum, or the error; a server that does not answer is left for good."""
        while True:
            try:
                self._connection.request("POST", "/v2/models/sum/infer", body)
                answer = json.loads(self._connection.getresponse().read())
            except (OSError, HTTPException):
                self._connection.close()
                self._addresses.pop(0)
                self._connection = HTTPConnection(self._addresses[0], timeout=TIMEOUT_S)
            else:
                return answer["error"] if "error" in answer else int(answer["outputs"][0]["data"][0])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def test_a_thousand_sequences_survive_the_death_of_their_server(
    models: Path, store: redis.Redis, tmp_path: Path
) -> None:
    asked = threading.Semaphore(0)

    def walk(servers: list[Server], part: int) -> list[int | str]:
        """Take a part of all sequences, step by step side by side; return their last sums."""
        sums: list[int | str] = []
        with closing(Caller(servers)) as caller:
            for step in range(STEPS):
                sums = []
                for sequence in range(1 + part, SEQUENCES + 1, THREADS):
                    sums.append(caller.ask(body_of(sequence, step)))
                    asked.release()
        return sums

    with ExitStack() as stack:
        servers = [
            stack.enter_context(serving(models, tmp_path / f"{name}.log", url_of(store)))
            for name in ("first", "second")
        ]
        with ThreadPoolExecutor(THREADS) as threads:
            parts = [threads.submit(walk, servers, part) for part in range(THREADS)]
            for _ in range(SEQUENCES * STEPS // 2):
                assert asked.acquire(timeout=TIMEOUT_S)
            servers[0].process.send_signal(signal.SIGKILL)
            sums = [part.result() for part in parts]
        found = {
            sequence: total
            for part, totals in enumerate(sums)
            for sequence, total in zip(range(1 + part, SEQUENCES + 1, THREADS), totals, strict=True)
        }
        right = {sequence: STEPS * sequence * 10 + sum(range(STEPS)) for sequence in range(1, SEQUENCES + 1)}
        assert found == right
        (told,) = ask(servers[1].http, "GET /v2/models/sum/stats").body["model_stats"]
        assert 0 < told["inference_count"] < SEQUENCES * STEPS, "both servers have served"
        assert 0 < len(store.keys()) <= SEQUENCES


def test_a_server_goes_on_with_what_it_knew_before_it_died(
    models: Path, store: redis.Redis, tmp_path: Path
) -> None:
    for step in range(STEPS):
        with serving(models, tmp_path / f"{step}.log", url_of(store)) as server:
            with closing(Caller([server])) as caller:
                total = caller.ask(body_of(7, step))
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
        assert total == sum(70 + each for each in range(step + 1))


def test_without_the_store_steps_fail_and_then_go_on(
    models: Path, store: redis.Redis, tmp_path: Path
) -> None:
    with (
        serving(models, tmp_path / "server.log", url_of(store)) as server,
        closing(Caller([server])) as caller,
    ):
        assert caller.ask(body_of(7, 0)) == 70
        port = port_of(store)
        kept = {key: (store.dump(key) or b"", int(store.pttl(key))) for key in store.scan_iter()}
        store.shutdown(nosave=True)
        assert "the sequence store cannot be reached" in str(caller.ask(body_of(7, 1)))
        with redis_server(tmp_path, port) as again:
            for key, (dumped, ttl) in kept.items():
                again.restore(key, ttl, dumped)
            poll(lambda: caller.ask(body_of(7, 1)) == 141, "the store is asked again")
            assert caller.ask(body_of(7, 2)) == 213


def test_a_model_without_implicit_state_is_served_and_the_operator_told(tmp_path: Path) -> None:
    directory = tmp_path / "models" / "plain"
    (directory / "1").mkdir(parents=True)
    (directory / "config.pbtxt").write_text(
        'backend: "sequence" max_batch_size: 4 sequence_batching { } '
        'input [ { name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] } ] '
        'output [ { name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] } ]'
    )
    flag = f"--sequence-store=redis://127.0.0.1:{free_port()}"
    with serving(tmp_path / "models", tmp_path / "server.log", flag) as server:
        assert "sequences of this model are not kept in the sequence store" in server.logged()
        assert "the sequence store does not work; steps of sequences fail" in server.logged()
        tensor = {"name": "INPUT", "datatype": "INT32", "shape": [1, 1], "data": [5]}
        body = {"parameters": {"sequence_id": 1, "sequence_start": True}, "inputs": [tensor]}
        assert ask(server.http, "POST /v2/models/plain/infer", body).body["outputs"][0]["data"] == [5]
