"""What the life of models costs those who ask: three programs that show it on a whole server.

    python bench/lives.py reloads     200 reloads under constant load from 32 connections, HTTP and gRPC; once
                                      more with a new version that is broken every second time
    python bench/lives.py cycles      500 loads and unloads of an ONNX, a TorchScript and a Python model
    python bench/lives.py on-demand   20 models in room for 5, asked for a minute as Zipf has it

Each prints what it found, and exits with 1 where that is not what it should be.
"""

import argparse
import asyncio
import bisect
import http.client
import json
import random
import re
import sys
import tempfile
import time
import urllib.request
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import psutil
from servers import Launch, Server, serving
from tritonclient.grpc import service_pb2 as pb

COMMAND = Path(sys.executable).parent / "deuteron"
MIB = 1 << 20
OK = 200
WARM_UP = 500
"""Cycles before the first look: allocators and the collector take that long to come to rest."""
LOOK_EVERY = 10
"""Cycles from one look at the memory to the next."""
MAX_RATIO = 1.5
"""How much longer requests may take during reloads, at the 99th percentile."""
MAX_SLOPES = (1.0, 0.5, 0.5)
"""By how many MiB, threads and descriptors a hundred cycles may add."""
MAX_MISS = 0.02
"""By how much the hit rate may differ from that of a simulated LRU."""

IDENTITY = """
backend: "identity"
max_batch_size: 8
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] }]
"""
ONNX = """
backend: "onnxruntime"
max_batch_size: 8
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] }]
instance_group { count: 1 kind: KIND_CPU }
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
"""
TORCH = ONNX.replace("onnxruntime", "pytorch").partition("parameters")[0]
PYTHON = ONNX.replace("onnxruntime", "python").partition("parameters")[0]
PYTHON_CODE = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.weights = np.ones(SIZE, np.uint8)

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUTPUT0", pb_utils.get_input_tensor_by_name(each, "INPUT0").as_numpy())]
            )
            for each in requests
        ]
"""
BROKEN = 'parameters { key: "fail_load" value { string_value: "broken on purpose" } }\n'
BODY = json.dumps(
    {"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
).encode()


# --- models ---


def write_model(models: Path, name: str, config: str) -> Path:
    """Write a model without files; return the directory of its version."""
    version = models / name / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(config)
    return version


def write_onnx(models: Path, name: str) -> None:
    """Write y = x·W, a small one."""
    import onnx  # noqa: PLC0415 - heavy, and not every program needs it
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    rows = [
        helper.make_tensor_value_info(each, TensorProto.FLOAT, ["rows", 4]) for each in ("INPUT0", "OUTPUT0")
    ]
    weights = numpy_helper.from_array(np.eye(4, dtype=np.float32), "W")
    node = helper.make_node("MatMul", ["INPUT0", "W"], ["OUTPUT0"])
    graph = helper.make_graph([node], name, rows[:1], rows[1:], [weights])
    opset = [helper.make_opsetid("", 21)]
    onnx.save(
        helper.make_model(graph, opset_imports=opset, ir_version=10),
        write_model(models, name, ONNX) / "model.onnx",
    )


def write_torch(models: Path, name: str) -> None:
    """Write the same for PyTorch."""
    import torch  # noqa: PLC0415 - as above

    traced = torch.jit.trace(torch.nn.Linear(4, 4), torch.zeros(1, 4))  # type: ignore[no-untyped-call]
    config = TORCH.replace("INPUT0", "INPUT__0").replace("OUTPUT0", "OUTPUT__0")
    traced.save(str(write_model(models, name, config) / "model.pt"))


def write_python(models: Path, name: str, size: int = 1024) -> None:
    """Write a Python model that holds so many bytes."""
    (write_model(models, name, PYTHON) / "model.py").write_text(PYTHON_CODE.replace("SIZE", str(size)))


# --- talking to the server ---


def post(server: Server, path: str, body: bytes = b"") -> tuple[int, str]:
    """POST to the HTTP door; return status and text."""
    connection = http.client.HTTPConnection(server.http, timeout=60)
    try:
        connection.request("POST", path, body)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@dataclass(slots=True)
class Answers:
    """What the clients of a load saw."""

    began: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def note(self, began: float, failure: str = "") -> None:
        """Note an answer that has just come."""
        self.began.append(began)
        self.took.append(time.perf_counter() - began)
        if failure:
            self.failures.append(failure)


async def ask_http(server: Server, answers: Answers, pause: float, model: str) -> None:
    """Ask over one connection again and again, with pauses."""
    host, port = server.http.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    try:
        while True:
            began = time.perf_counter()
            writer.write(head.encode() + BODY)
            answered = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", answered)
            body = await reader.readexactly(int(length[1]) if length else 0)
            answers.note(began, "" if answered.startswith(b"HTTP/1.1 200") else body.decode())
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
    finally:
        writer.close()


async def ask_grpc(server: Server, answers: Answers, pause: float, model: str) -> None:
    """The same over a channel."""
    message = pb.ModelInferRequest(model_name=model)
    tensor = message.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 4])
    tensor.contents.fp32_contents.extend([1, 2, 3, 4])
    asked = message.SerializeToString()
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(server.grpc, options=options) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
        while True:
            began = time.perf_counter()
            try:
                await call(asked, timeout=30)
                answers.note(began)
            except grpc.aio.AioRpcError as error:
                answers.note(began, f"{error.code()}: {error.details()}")
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))


# --- the three programs ---


@contextmanager
def served(models: Path, *flags: str) -> Iterator[Server]:
    """Serve a repository for the length of the block."""
    launch = Launch([str(COMMAND), "serve", "--log-info=false", *flags])
    with serving("deuteron", launch, models, models.parent) as server:
        yield server


def p99(took: Sequence[float]) -> float:
    """Return the 99th percentile, in milliseconds."""
    return float(np.percentile(took, 99)) * 1000 if took else 0.0


async def reload_under_load(server: Server, model: Path, reloads: int, *, broken: bool) -> bool:
    """Reload a model under load; print what its clients saw, and return whether that is as it should be."""
    answers = Answers()
    askers = [
        asyncio.create_task(ask(server, answers, 0.032, model.name))
        for _ in range(16)
        for ask in (ask_http, ask_grpc)
    ]
    await asyncio.sleep(2)
    spans: list[tuple[float, float]] = []
    refused = 0
    good = (model / "config.pbtxt").read_text()
    for number in range(reloads):
        (model / "1" / "changed").write_text(str(number))
        is_bad = broken and number % 2 == 1
        (model / "config.pbtxt").write_text(BROKEN * is_bad + good)
        began = time.perf_counter()
        status, _ = await asyncio.to_thread(post, server, f"/v2/repository/models/{model.name}/load")
        spans.append((began, time.perf_counter()))
        refused += status != OK
        if is_bad:
            _, index = await asyncio.to_thread(post, server, "/v2/repository/index")
            assert "the last load failed: " in index, index
        await asyncio.sleep(spans[-1][1] - began + 0.02)
    (model / "config.pbtxt").write_text(good)
    for asker in askers:
        asker.cancel()
    await asyncio.gather(*askers, return_exceptions=True)
    during, without = split_by(answers, spans)
    ratio = p99(during) / p99(without)
    print(
        f"{reloads} reloads ({refused} refused), {len(answers.took)} requests, "
        f"{len(answers.failures)} failed; p99 {p99(without):.2f} ms without and "
        f"{p99(during):.2f} ms during reloads: {ratio:.2f}x "
        f"(median {np.median(without) * 1e3:.2f} and {np.median(during) * 1e3:.2f} ms)"
    )
    for failure in sorted(set(answers.failures))[:5]:
        print(f"  {failure}")
    return not answers.failures and refused == (reloads // 2 if broken else 0) and ratio <= MAX_RATIO


def split_by(answers: Answers, spans: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Return what requests took that overlap a span, and what the others took."""
    starts = [begin for begin, _ in spans]
    during: list[float] = []
    without: list[float] = []
    for began, took in zip(answers.began, answers.took, strict=True):
        last = bisect.bisect_right(starts, began + took) - 1
        overlaps = last >= 0 and spans[last][1] >= began
        (during if overlaps else without).append(took)
    return during, without


def reloads(models: Path, number: int) -> bool:
    """Show that reloads harm nobody."""
    write_onnx(models, "onnx")
    write_model(models, "identity", IDENTITY)
    fine = True
    with served(models, "--model-control-mode=explicit", "--load-model=*") as server:
        print("ONNX, all good:  ", end="", flush=True)
        fine &= asyncio.run(reload_under_load(server, models / "onnx", number, broken=False))
        print("identity, every second broken:  ", end="", flush=True)
        fine &= asyncio.run(reload_under_load(server, models / "identity", number, broken=True))
    return fine


def cycles(models: Path, number: int) -> bool:
    """Show that memory, threads and descriptors come back."""
    write_onnx(models, "onnx")
    write_torch(models, "torch")
    write_python(models, "python")
    fine = True
    with served(models, "--model-control-mode=explicit") as server:
        process = psutil.Process(server.process.pid)
        for name in ("onnx", "torch", "python"):
            body = BODY.replace(b"INPUT0", b"INPUT__0") if name == "torch" else BODY
            seen: list[tuple[int, float, int, int]] = []
            for cycle in range(-WARM_UP, number):
                for path, sent in (
                    (f"/v2/repository/models/{name}/load", b""),
                    (f"/v2/models/{name}/infer", body),
                    (f"/v2/repository/models/{name}/unload", b""),
                ):
                    status, text = post(server, path, sent)
                    assert status == OK, text
                if cycle >= 0 and cycle % LOOK_EVERY == 0:
                    time.sleep(0.05)
                    memory = process.memory_info().rss / MIB
                    seen.append((cycle, memory, process.num_threads(), process.num_fds()))
            settled = np.array(seen)
            slopes = [np.polyfit(settled[:, 0], settled[:, column], 1)[0] * 100 for column in (1, 2, 3)]
            print(
                f"{name}: {number} cycles; memory {seen[0][1]:.1f} to {seen[-1][1]:.1f} MiB "
                f"({slopes[0]:+.3f} MiB per 100), threads {seen[0][2]} to {seen[-1][2]} ({slopes[1]:+.2f}), "
                f"descriptors {seen[0][3]} to {seen[-1][3]} ({slopes[2]:+.2f})"
            )
            fine &= all(slope < most for slope, most in zip(slopes, MAX_SLOPES, strict=True))
    return fine


def on_demand(models: Path, seconds: int) -> bool:
    """Show that many models are served in room for a few."""
    size = 16 * MIB
    names = [f"model_{number:02}" for number in range(20)]
    for name in names:
        write_python(models, name, size)
        with (models / name / "config.pbtxt").open("a") as config:  # a worker of its own takes more than it
            config.write('parameters { key: "in_process" value { string_value: "true" } }\n')
    room = 5 * size + size // 2
    asked: list[str] = []
    answers = Answers()

    async def ask(server: Server, connection: int) -> None:
        rng = random.Random(connection)
        weights = [1 / (rank + 1) for rank in range(len(names))]
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            (name,) = rng.choices(names, weights)
            began = time.perf_counter()
            status, text = await asyncio.to_thread(post, server, f"/v2/models/{name}/infer", BODY)
            asked.append(name)
            answers.note(began, "" if status == OK else text)

    async def ask_all(server: Server) -> None:
        await asyncio.gather(*(ask(server, number) for number in range(4)))

    with served(models, "--load-on-demand=true", f"--on-demand-memory-byte-size={room}") as server:
        rest = psutil.Process(server.process.pid).memory_info().rss
        asyncio.run(ask_all(server))
        taken = psutil.Process(server.process.pid).memory_info().rss - rest
        misses = metric(server, "deuteron_on_demand_misses")
    rate = 1 - misses / len(asked)
    simulated = lru_rate(asked, 5)
    print(
        f"20 models in room for 5: {len(asked)} requests, {len(answers.failures)} failed; "
        f"hit rate {rate:.4f}, of a simulated LRU {simulated:.4f}; "
        f"memory {taken / MIB:.0f} MiB above that at rest, of {room / MIB:.0f} allowed; "
        f"p50 {np.median(answers.took) * 1e3:.1f} ms, p99 {p99(answers.took):.0f} ms"
    )
    for failure in sorted(set(answers.failures))[:5]:
        print(f"  {failure}")
    return not answers.failures and abs(rate - simulated) <= MAX_MISS


def metric(server: Server, name: str) -> float:
    """Return a metric without labels."""
    port = next(
        each.laddr.port
        for each in psutil.Process(server.process.pid).net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
        and f"127.0.0.1:{each.laddr.port}" not in (server.http, server.grpc)
    )
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        found = re.search(rf"^{name} (\S+)$", response.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def lru_rate(asked: Sequence[str], room: int) -> float:
    """Return the part of the requests that a plain LRU of so many would have had."""
    inside: OrderedDict[str, None] = OrderedDict()
    hits = 0
    for name in asked:
        hits += name in inside
        inside[name] = None
        inside.move_to_end(name)
        if len(inside) > room:
            inside.popitem(last=False)
    return hits / len(asked)


def main() -> int:
    """Run one of the programs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("program", choices=("reloads", "cycles", "on-demand"))
    parser.add_argument("--number", type=float, help="reloads, cycles or seconds")
    arguments = parser.parse_args()
    programs: dict[str, tuple[Callable[[Path, int], bool], int]] = {
        "reloads": (reloads, 200),
        "cycles": (cycles, 500),
        "on-demand": (on_demand, 60),
    }
    run, number = programs[arguments.program]
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory) / "models"
        models.mkdir()
        return 0 if run(models, int(arguments.number or number)) else 1


if __name__ == "__main__":
    sys.exit(main())
