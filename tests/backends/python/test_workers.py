"""Workers that come to a bad end, or do what no model should: what is told, and that all is given back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deuteron.backends.api import Batch
from deuteron.backends.python.remote.engine import WorkerEngine
from deuteron.proto.errors import InferError

from .conftest import CONFIG, WORKER, Ear, Replies, Workbench, values

HEAD = "import os, signal, threading, time, numpy as np\nimport triton_python_backend_utils as pb_utils\n"
UNHEALTHY = "Stub process 'model_0' is not healthy. "
BAD_ENDS = {
    "os._exit(3)": "It exited with status 3.",
    "os.kill(os.getpid(), signal.SIGKILL)": "It was killed by SIGKILL.",
    "import ctypes; ctypes.string_at(0)": "It was killed by SIGSEGV.",
    "os.kill(os.getpid(), signal.SIGSTOP)": "It was stopped by a signal.",
    "os.closerange(3, 1000); time.sleep(60)": "It closed its connection to the server.",
}


class Away(Workbench):
    """A workbench for models in workers."""

    def write_body(self, body: str) -> None:
        """Write a model with this body of `execute`, and nothing else."""
        source = f"class TritonPythonModel:\n    def execute(self, requests):\n        {body}\n"
        self.write(source, head=HEAD)

    def seat(self, config: str = CONFIG) -> tuple[WorkerEngine, Ear]:
        """Load the model, return the engine of an instance and who hears it."""
        engine = self.engine(config)
        assert isinstance(engine, WorkerEngine)
        return engine, self._ears[-1]


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Away]:
    """Return a workbench with an empty version directory."""
    bench = Away(tmp_path / "repository" / "model", WORKER)
    yield bench
    bench.close()


@pytest.mark.parametrize(("body", "fate"), BAD_ENDS.items())
def test_a_worker_that_ends_is_lost_and_its_end_is_told(away: Away, body: str, fate: str) -> None:
    away.write_body(body)
    engine, ear = away.seat()
    outcomes: list[InferError | None] = []
    engine.begin(Batch([away.ask()], 1), Replies(1), outcomes.append)
    lost = ear.await_loss()
    assert lost.message == (
        f"Failed to process the request(s) for model 'model_0', message: {UNHEALTHY}{fate}"
    )
    assert outcomes == []
    assert not engine.is_ready()


COUNTS = "return [pb_utils.InferenceResponse([pb_utils.Tensor('OUT', {array})]) for r in requests]"


def test_answers_of_a_quick_model_come_though_the_next_batch_takes_long(away: Away) -> None:
    """They are sent together with the next one only if that is quick too."""
    away.write_body(
        "time.sleep(30 * int(pb_utils.get_input_tensor_by_name(requests[0], 'IN').as_numpy()[0, 0])); "
        + COUNTS.format(array="np.ones([1, 1], np.float32)")
    )
    engine, ear = away.seat()
    replies = [Replies(1) for _ in range(3)]
    batches = [Batch([away.ask(value)], 1) for value in (0, 0, 1)]
    for batch, reply in zip(batches, replies, strict=True):
        engine.begin(batch, reply, lambda _: None)
    assert [values(each.of(0)[0]) for each in replies[:2]] == [{"OUT": [1]}, {"OUT": [1]}]
    engine.overdue(batches[2])
    assert "did not answer within" in ear.await_loss().message


def test_a_worker_tells_which_batch_it_has_begun(away: Away) -> None:
    away.write_body("os._exit(1)")
    engine, ear = away.seat()
    batches = [Batch([away.ask()], 1) for _ in range(2)]
    for batch in batches:
        engine.begin(batch, Replies(1), lambda _: None)
    ear.await_loss()
    assert [engine.has_begun(batch) for batch in batches] == [True, False]
