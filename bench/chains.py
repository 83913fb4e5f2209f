"""Measure what a chain of three models costs: as an ensemble, as code in a model, and from a client.

    python bench/chains.py [--requests 2000] [--triton]

The three models are the identity of `models/identity`, each an unchanged `model.py`. One client asks over one
HTTP connection, one request after the other, in turns: a single model, the ensemble, the model that asks the
three itself (BLS), and the three models by themselves. Whatever else the machine does falls on all of them
alike: trust the ratios. deuteron is measured twice: with models in workers, and on threads of the server.
"""

import argparse
import contextlib
import http.client
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import peers
from report import DEUTERON, TRITON
from servers import Launch, Server, ServerError, serving

CHAIN_MODELS = Path(__file__).resolve().parent / "chain_models"
STEPS = ("step0", "step1", "step2")
IN_PROCESS = "python,in_process=true"
"""How deuteron is told to run the models on threads of its own, and what that server is called here."""
WARM_UP = 300

Ask = Callable[[http.client.HTTPConnection], None]


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return 1 when a server could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000, help="of each kind (2000)")
    parser.add_argument("--triton", action="store_true", help="measure the real Triton as well")
    wanted = parser.parse_args(arguments)
    command = (str(Path(sys.executable).with_name("deuteron")), "serve")
    launches = {DEUTERON: Launch(command), IN_PROCESS: Launch((*command, f"--backend-config={IN_PROCESS}"))}
    try:
        if wanted.triton:
            launches[TRITON] = peers.ensure()[0].triton()
        with all_serving(launches) as servers:
            for server, times in measure(servers, wanted.requests).items():
                report(server, times)
    except (peers.PeersError, ServerError) as error:
        sys.stdout.write(f"chains: {error}\n")
        return 1
    return 0


@contextlib.contextmanager
def all_serving(launches: Mapping[str, Launch]) -> Iterator[list[Server]]:
    """Serve the models of the chains with every server; raises ServerError."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chains-")))
        models = folder / "models"
        shutil.copytree(CHAIN_MODELS, models, ignore=shutil.ignore_patterns("__pycache__"))
        for step in STEPS:
            shutil.copytree(peers.MODELS / "identity", models / step)
            config = models / step / "config.pbtxt"
            config.write_text(config.read_text().replace('"identity"', f'"{step}"'))
        yield [stack.enter_context(serving(*each, models, folder)) for each in launches.items()]


def measure(servers: Sequence[Server], requests: int) -> dict[str, dict[str, list[float]]]:
    """Return how many µs each request took, by server and kind of chain."""
    ways = {"one model": asking("step0"), "ensemble": asking("chain"), "BLS": asking("bls")}
    ways["client"] = asking(*STEPS)
    found: dict[str, dict[str, list[float]]] = {server.name: {way: [] for way in ways} for server in servers}
    connections = {server.name: http.client.HTTPConnection(server.http) for server in servers}
    order = deque(ways.items())
    for turn in range(WARM_UP + requests):
        order.rotate()  # the first one finds the processor asleep, or busy with another server
        for name, connection in connections.items():
            for way, ask in order:
                began = time.perf_counter_ns()
                ask(connection)
                if turn >= WARM_UP:
                    found[name][way].append((time.perf_counter_ns() - began) / 1000)
    return found


def asking(*models: str) -> Ask:
    """Return what asks these models, one after the other, in binary tensors."""
    size = np.zeros(16, np.float32).nbytes
    tensor = {
        "name": "INPUT0",
        "datatype": "FP32",
        "shape": [1, 16],
        "parameters": {"binary_data_size": size},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    body = head + bytes(size)
    headers = {"Inference-Header-Content-Length": str(len(head))}

    def ask(connection: http.client.HTTPConnection) -> None:
        for model in models:
            connection.request("POST", f"/v2/models/{model}/infer", body, headers)
            response = connection.getresponse()
            told = response.read()
            if response.status != http.client.OK:
                raise ServerError(f"{model}: {told.decode(errors='replace')}")

    return ask


def report(server: str, times: Mapping[str, Sequence[float]]) -> None:
    """Print median and quartiles of each kind, and what they mean beside each other."""
    quartiles = {way: statistics.quantiles(each, n=4) for way, each in times.items()}
    for way, (low, middle, high) in quartiles.items():
        sys.stdout.write(f"{server} | {way:<9} | {middle:5.0f} µs | {low:5.0f} … {high:5.0f}\n")
    median = {way: middle for way, (_, middle, _) in quartiles.items()}
    step = (median["ensemble"] - median["one model"]) / (len(STEPS) - 1)
    ratio = median["BLS"] / median["ensemble"]
    sys.stdout.write(f"{server} | BLS ÷ ensemble {ratio:.2f}, each further step {step:.0f} µs\n\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
