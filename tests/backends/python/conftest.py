"""Real `model.py` files, loaded and executed as an instance would."""

import os
import select
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
from google.protobuf import text_format

from deuteron.backends.api import Batch, Emit, Engine, ModelFiles, RemoteEngine, Seat
from deuteron.backends.device import HOST, HostStream
from deuteron.backends.house import House
from deuteron.backends.python.backend import PythonBackend
from deuteron.backends.python.remote.engine import WorkerEngine
from deuteron.backends.python.remote.process import WorkerProcess
from deuteron.proto.config import ModelConfig
from deuteron.proto.errors import InferError
from deuteron.proto.message import Request, Response
from deuteron.proto.schema import model_config_pb2 as pb
from deuteron.proto.tensor import Tensor

IN_PROCESS, WORKER = "in process", "worker"
"""The two forms in which the code of a model runs."""

CONFIG = """
max_batch_size: 8
input [{ name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }]
output [{ name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }, { name: "MORE" data_type: TYPE_FP32 dims: [ -1 ] }]
"""
DECOUPLED = f"{CONFIG} model_transaction_policy {{ decoupled: true }}"

HEAD = """
import asyncio
import threading

import numpy as np
import triton_python_backend_utils as pb_utils

def output(value=1.0, name="OUT"):
    return pb_utils.Tensor(name, np.array([[value]], np.float32))

def answer(value=1.0):
    return pb_utils.InferenceResponse([output(value)])
"""


IMPORTS = """
import os, signal, stat, threading, time
import numpy as np
import triton_python_backend_utils as pb_utils

def tell(what):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(what)))

def is_socket(descriptor):
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False
"""


class Replies:
    """Takes what an engine emits, from any thread."""

    def __init__(self, rows: int) -> None:
        self._responses: list[list[Response]] = [[] for _ in range(rows)]
        self._ends = [threading.Event() for _ in range(rows)]
        self._begun = [threading.Event() for _ in range(rows)]

    def __call__(self, row: int, response: Response) -> None:
        assert not self._ends[row].is_set(), "a request was answered after its final response"
        self._responses[row].append(response)
        self._begun[row].set()
        if response.final:
            self._ends[row].set()

    def open(self, row: int) -> bool:
        """Tell whether a request waits for its final response."""
        return not self._ends[row].is_set()

    def await_first(self, row: int) -> None:
        """Wait for the first response to a request."""
        assert self._begun[row].wait(10), "a request was never answered"

    def of(self, row: int) -> list[Response]:
        """Return all responses to one request, once it is closed."""
        assert self._ends[row].wait(10), "a request was never closed"
        return self._responses[row]


class Ear:
    """Hears what a worker says on a thread, as the event loop does in a server."""

    def __init__(self, engine: RemoteEngine) -> None:
        self._stop, self._stopping = os.pipe()
        self._lost: SimpleQueue[InferError] = SimpleQueue()
        self._engine = engine
        engine.serve(self._lost.put, lambda flush: flush())
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hear no more."""
        os.close(self._stopping)
        self._thread.join()
        os.close(self._stop)

    def await_loss(self) -> InferError:
        """Return how the engine came to its end, after waiting for it."""
        return self._lost.get(timeout=10)

    def _hear(self) -> None:
        poll = select.poll()
        poll.register(self._stop)
        poll.register(self._engine.fileno(), select.POLLIN)
        while not any(descriptor == self._stop for descriptor, _ in poll.poll()):
            if not self._engine.hear():
                return


def execute(engine: Engine, batch: Batch, emit: Emit) -> None:
    """Run a batch until it returns, whoever hears that; raises InferError where it is refused."""
    if not isinstance(engine, RemoteEngine):
        engine.execute(batch, emit)
        return
    outcome: SimpleQueue[InferError | None] = SimpleQueue()
    engine.begin(batch, emit, outcome.put)
    refusal = outcome.get(timeout=10)
    if refusal is not None:
        raise refusal


class Workbench:
    """One model directory, and the engines of its model."""

    def __init__(self, directory: Path, form: str = IN_PROCESS) -> None:
        self.files = ModelFiles(directory, 1)
        self.files.version_directory.mkdir(parents=True)
        self.form = form
        self.backend = self.backend_for(None)
        self.engines: list[Engine] = []
        self.ears: list[Ear] = []

    def backend_for(self, house: House | None) -> PythonBackend:
        """Make a backend whose models may ask this house."""
        return PythonBackend({"in_process": str(self.form == IN_PROCESS).lower()}, house)

    def close(self) -> None:
        """Close what was made."""
        for ear in self.ears:
            ear.close()
        for engine in self.engines:
            engine.close()

    def write(self, source: str, name: str = "model.py", *, head: str = HEAD) -> Path:
        """Write a module into the version directory."""
        path = self.files.version_directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(head + textwrap.dedent(source))
        return path

    def write_execute(self, body: str) -> Path:
        """Write a model with this body of `execute`."""
        return self.write(
            "class TritonPythonModel:\n    def execute(self, requests):\n"
            + textwrap.indent(textwrap.dedent(body), " " * 8)
        )

    def message(self, config: str = CONFIG) -> pb.ModelConfig:
        """Read a configuration as people write it."""
        return text_format.Parse(f"name: 'model' backend: 'python' {config}", pb.ModelConfig())

    def engine(self, config: str = CONFIG, index: int = 0) -> Engine:
        """Load the model and make the engine of one instance."""
        seat = Seat(f"model_{index}", index, HOST, HostStream())
        frozen = ModelConfig.from_message(self.message(config))
        engine = self.backend.load(frozen, self.files, HOST).engine(seat)
        self.engines.append(engine)
        if isinstance(engine, RemoteEngine):
            self.ears.append(Ear(engine))
        return engine

    @staticmethod
    def ask(value: float = 1.0, *, outputs: tuple[str, ...] = ()) -> Request:
        """Make a request of one row."""
        tensor = Tensor.from_numpy(np.array([[value]], np.float32))
        return Request("model", inputs={"IN": tensor}, requested_outputs=outputs)

    @staticmethod
    def start(engine: Engine, *requests: Request) -> Replies:
        """Execute requests as one batch; return what takes their responses, now and later.

        A batch that is refused is answered with the refusal, as an instance does it.
        """
        replies = Replies(len(requests))
        try:
            execute(engine, Batch(requests, sum(each.batch_size for each in requests)), replies)
        except InferError as refusal:
            for row in range(len(requests)):
                if replies.open(row):
                    replies(row, Response(error=refusal))
        return replies

    def run(self, body: str, *requests: Request, config: str = CONFIG) -> list[list[Response]]:
        """Execute a batch, by default of one request, on this `execute`; return all responses."""
        self.write_execute(body)
        asked = requests or (self.ask(),)
        replies = self.start(self.engine(config), *asked)
        return [replies.of(row) for row in range(len(asked))]

    def error(self, body: str, config: str = CONFIG) -> str:
        """Return the message that one request to a model with this `execute` fails with."""
        ((response,),) = self.run(body, config=config)
        assert response.error is not None
        return response.error.message


class Away(Workbench):
    """A workbench for models in workers."""

    def write_body(self, body: str) -> None:
        """Write a model with this body of `execute`, and nothing else."""
        self.write(
            "class TritonPythonModel:\n    def execute(self, requests):\n"
            + textwrap.indent(textwrap.dedent(body), " " * 8),
            head=IMPORTS,
        )

    def seat(self, config: str = CONFIG) -> tuple[WorkerEngine, Ear]:
        """Load the model, return the engine of an instance and who hears it."""
        engine = self.engine(config)
        assert isinstance(engine, WorkerEngine)
        return engine, self.ears[-1]

    def told(self, engine: WorkerEngine, value: float = 1.0) -> str:
        """Return the message of the error that a request is answered with."""
        (response,) = self.start(engine, self.ask(value)).of(0)
        assert response.error is not None
        return response.error.message

    @staticmethod
    def process(engine: WorkerEngine) -> WorkerProcess:
        """Return the process that an engine works in."""
        return engine._conversation.process

    @staticmethod
    def with_parameters(**values: str) -> str:
        """Return a configuration with model parameters."""
        entries = (
            f"parameters {{ key: '{key}' value {{ string_value: '{each}' }} }}"
            for key, each in values.items()
        )
        return CONFIG + "\n".join(entries)

    def close_all(self) -> None:
        """Close what was made so far."""
        self.close()
        self.ears.clear()
        self.engines.clear()


@pytest.fixture(params=[IN_PROCESS, WORKER])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workbench]:
    """Return a workbench with an empty version directory, for models in this process and in a worker."""
    bench = Workbench(tmp_path / "repository" / "model", request.param)
    yield bench
    bench.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Workbench]:
    """Return a workbench for models in this process, where a test can look into them."""
    bench = Workbench(tmp_path / "repository" / "model")
    yield bench
    bench.close()


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Away]:
    """Return a workbench for models in workers."""
    bench = Away(tmp_path / "repository" / "model", WORKER)
    yield bench
    bench.close()


def values(response: Response) -> dict[str, list[float]]:
    """Return the outputs of a response as lists."""
    assert response.error is None
    return {name: tensor.numpy().ravel().tolist() for name, tensor in response.outputs.items()}
