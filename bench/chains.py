"""Measure what a chain of three models costs: as an ensemble, as code in a model, and from a client.

    python bench/chains.py [--rounds 15] [--requests 200] [--triton]

The three models are the identity of `models/identity`, each an unchanged `model.py`. One client asks over one
HTTP connection, one request after the other, in turns: a single model, the ensemble, the model that asks the
three itself (BLS), and the three models by themselves. The medians of all rounds are shown.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import peers
from report import DEUTERON, TRITON
from servers import Launch, Server, ServerError, serving

CHAIN_MODELS = Path(__file__).resolve().parent / "chain_models"
STEPS = ("step0", "step1", "step2")
WARM_UP = 300

Ask = Callable[[http.client.HTTPConnection], None]


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return 1 when a server could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=200, help="requests of each kind in a round")
    parser.add_argument("--triton", action="store_true", help="measure the real Triton as well")
    wanted = parser.parse_args(arguments)
    launches = {DEUTERON: Launch((str(Path(sys.executable).with_name("deuteron")), "serve"))}
    try:
        if wanted.triton:
            launches[TRITON] = peers.ensure()[0].triton()
        with all_serving(launches) as servers:
            for server, medians in measure(servers, wanted.rounds, wanted.requests).items():
                report(server, medians)
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


def measure(
    servers: Sequence[Server], rounds: int, requests: int
) -> dict[str, dict[str, list[float]]]:
    """Return the median latency in µs of each kind of chain in each round, by server."""
    ways = {"one model": asking("step0"), "ensemble": asking("chain"), "BLS": asking("bls")}
    ways["client"] = asking(*STEPS)
    found: dict[str, dict[str, list[float]]] = {server.name: {way: [] for way in ways} for server in servers}
    connections = {server.name: http.client.HTTPConnection(server.http) for server in servers}
    for connection in connections.values():
        for ask in ways.values():
            median_us(connection, ask, WARM_UP)
    for _ in range(rounds):
        for name, connection in connections.items():
            for way, ask in ways.items():
                found[name][way].append(median_us(connection, ask, requests))
    return found


def asking(*models: str) -> Ask:
    """Return what asks these models, one after the other, in binary tensors."""
    size = np.zeros(16, np.float32).nbytes
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": [1, 16], "parameters": {"binary_data_size": size}}
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


def median_us(connection: http.client.HTTPConnection, ask: Ask, requests: int) -> float:
    """Return the median time of so many requests in µs."""
    times = []
    for _ in range(requests):
        began = time.perf_counter_ns()
        ask(connection)
        times.append(time.perf_counter_ns() - began)
    return statistics.median(times) / 1000


def report(server: str, medians: Mapping[str, Sequence[float]]) -> None:
    """Print the medians of the rounds, and what they mean beside each other."""
    overall = {way: statistics.median(each) for way, each in medians.items()}
    ratios = [bls / ensemble for bls, ensemble in zip(medians["BLS"], medians["ensemble"], strict=True)]
    step = (overall["ensemble"] - overall["one model"]) / (len(STEPS) - 1)
    lines = [f"{server}: {way:<9} {overall[way]:8.0f} µs" for way in overall]
    lines.append(f"{server}: BLS ÷ ensemble {statistics.median(ratios):.2f}, each further step {step:.0f} µs")
    sys.stdout.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
