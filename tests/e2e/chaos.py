"""Python models under load while their workers are killed: only what a killed worker had begun may fail.

    python -m tests.e2e.chaos --seconds 60

Every model is killed as often as its restart budget allows, in turns that nobody can foresee, by signals of
every kind. Clients ask all the time, and count: what was answered, and how what failed was explained. In the
end the server must have as many processes, descriptors and pieces of shared memory as in the beginning.
"""

import argparse
import http.client
import itertools
import json
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from .house import Server, poll, serving

SIGNALS: Final = (signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP)
KILLS: Final = 4
"""How often each model is killed within a minute; one more would be the last that its budget allows."""
SIZES: Final = (16, 50_000)
"""Elements of a request: a small one travels in a message, a large one in shared memory."""
MOST_BEGUN: Final = 8
"""Requests that a worker may have begun when it is killed."""
EXPLAINED: Final = re.compile(
    r"Failed to process the request\(s\) for model '\w+', message: Stub process '\w+' is not healthy\. "
    r"It was (killed by SIG(KILL|SEGV)|stopped by a signal)\."
)

CONFIG: Final = """
backend: "python"
max_batch_size: 4
input { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }
dynamic_batching { }
"""
MODEL: Final = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.01)
        return [
            pb_utils.InferenceResponse([
                pb_utils.Tensor("OUT", pb_utils.get_input_tensor_by_name(request, "IN").as_numpy() + 1)
            ])
            for request in requests
        ]
"""


@dataclass(slots=True)
class Record:
    """What came of it all; changed by many threads, each number by one operation."""

    answered: int = 0
    kills: int = 0
    explained: list[str] = field(default_factory=list)
    """Why requests failed, where a killed worker was the reason."""
    wrong: list[str] = field(default_factory=list)
    """Whatever else came."""


def write_models(root: Path, count: int) -> list[str]:
    """Write a repository of so many models; return their names."""
    names = [f"chaos_{number}" for number in range(count)]
    for name in names:
        version = root / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(MODEL)
        (root / name / "config.pbtxt").write_text(CONFIG)
    return names


def workers(server: Server) -> dict[str, psutil.Process]:
    """Return the workers of a server by the names of their models."""
    processes = psutil.Process(server.process.pid).children(recursive=True)
    named = {process.name(): process for process in processes}
    return {name.removesuffix("_0"): process for name, process in named.items() if name.startswith("chaos_")}


def is_there(server: Server, name: str) -> bool:
    """Tell whether a model has its worker."""
    return name in workers(server)


def holdings(server: Server) -> tuple[int, int, int]:
    """Count the processes, descriptors and pieces of shared memory of a server."""
    process = psutil.Process(server.process.pid)
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    return 1 + len(process.children(recursive=True)), process.num_fds(), maps.count("/memfd:deuteron")


def ask(server: Server, names: Sequence[str], record: Record, stop: threading.Event) -> None:
    """Ask one model after the other, until told to stop."""
    connection = http.client.HTTPConnection(server.http, timeout=60)
    asked = itertools.cycle(itertools.product(names, SIZES))
    for number in itertools.count():
        if stop.is_set():
            break
        name, size = next(asked)
        array = np.full((1, size), number % 1000, np.float32)
        tensor = {
            "name": "IN",
            "datatype": "FP32",
            "shape": [1, size],
            "parameters": {"binary_data_size": 4 * size},
        }
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        connection.request("POST", f"/v2/models/{name}/infer", head + array.tobytes(), headers)
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            text = json.loads(body)["error"]
            (record.explained if EXPLAINED.fullmatch(text) else record.wrong).append(text)
        elif not np.array_equal(np.frombuffer(body[-4 * size :], np.float32), array[0] + 1):
            record.wrong.append(f"{name} answered something else")
        else:
            record.answered += 1
    connection.close()


@contextmanager
def load(server: Server, names: Sequence[str], record: Record, clients: int) -> Iterator[None]:
    """Have so many clients ask for the length of the block."""
    stop = threading.Event()
    threads = [threading.Thread(target=ask, args=(server, names, record, stop)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def kill(server: Server, record: Record, seconds: float, rounds: int, seed: int) -> None:
    """Kill the worker of every model once a round, each after a while."""
    dice = random.Random(seed)
    turns = [
        name for _ in range(rounds) for name in dice.sample(sorted(workers(server)), len(workers(server)))
    ]
    pause = seconds / len(turns)
    for name in turns:
        time.sleep(dice.uniform(0.5, 1.5) * pause)
        poll(partial(is_there, server, name), f"a worker for {name}", 30)
        workers(server)[name].send_signal(dice.choice(SIGNALS))
        record.kills += 1


def run(server: Server, names: Sequence[str], seconds: float, rounds: int, seed: int) -> Record:
    """Load a server, kill its workers, and see that it holds no more than before when it is over."""
    record = Record()
    clients = 2 * len(names)
    with load(server, names, record, clients):
        time.sleep(1)
    before, record.answered = holdings(server), 0
    with load(server, names, record, clients):
        kill(server, record, seconds, rounds, seed)
    # An arena may have grown by one more piece, in each direction.
    most = (before[0], before[1] + 2 * len(names), before[2] + 2 * len(names))
    poll(partial(holds_at_most, server, most), f"the server holds no more than {most}", 30)
    poll(lambda: len(workers(server)) == len(names), "all workers are back", 30)
    return record


def holds_at_most(server: Server, most: tuple[int, int, int]) -> bool:
    """Tell whether a server has no more processes, descriptors and shared memory than these."""
    return all(held <= limit for held, limit in zip(holdings(server), most, strict=True))


def main() -> int:
    """Run the long form; return 1 when something failed that should not have."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.chaos")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 16))
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names = write_models(Path(folder) / "models", wanted.models)
        with serving(Path(folder) / "models", Path(folder) / "server.log") as server:
            before = holdings(server)
            record = run(server, names, wanted.seconds, KILLS, wanted.seed)
            report = [
                f"seed {wanted.seed}: {record.kills} kills, {record.answered} requests answered",
                f"{len(record.explained)} failed in killed workers, {len(record.wrong)} otherwise",
                f"processes, descriptors, shared memory: {before} before, {holdings(server)} in the end",
                *record.wrong[:10],
            ]
            sys.stdout.write("\n".join(report) + "\n")
    return 1 if record.wrong or len(record.explained) > MOST_BEGUN * record.kills else 0


if __name__ == "__main__":
    sys.exit(main())
