"""Workers that come to a bad end, or do what no model should: what is told, and that all is given back."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest

from deuteron.backends.api import Batch
from deuteron.backends.house import Asker, Receive, Withdraw
from deuteron.proto.errors import InferError
from deuteron.proto.message import Request

from .conftest import IMPORTS, Away, Replies, values

UNHEALTHY = "Stub process 'model_0' is not healthy. "
BAD_ENDS = {
    "os._exit(3)": "It exited with status 3.",
    "os.kill(os.getpid(), signal.SIGKILL)": "It was killed by SIGKILL.",
    "import ctypes; ctypes.string_at(0)": "It was killed by SIGSEGV.",
    "os.kill(os.getpid(), signal.SIGSTOP)": "It was stopped by a signal.",
    "os.closerange(3, 1000); time.sleep(60)": "It closed its connection to the server.",
}


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


def test_models_have_no_command_line(away: Away) -> None:
    """A model that runs `unittest.main` would take it for the names of tests."""
    away.write_body(
        f"import sys; assert sys.argv == [''], sys.argv\n{COUNTS.format(array='np.ones([1, 1])')}"
    )
    engine, _ = away.seat()
    replies = Replies(1)
    engine.begin(Batch([away.ask()], 1), replies, lambda _: None)
    (response,) = replies.of(0)
    assert response.error is None


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


def test_what_a_worker_has_started_ends_with_it(away: Away) -> None:
    """Also what does not listen to it: the process of a shell that the model began and left."""
    away.write_body(
        "self.child = __import__('subprocess').Popen(['sleep', '600']); return [tell(self.child.pid)]"
    )
    engine, ear = away.seat()
    child = psutil.Process(int(away.told(engine)))
    away.process(engine).kill()
    ear.await_loss()
    assert psutil.wait_procs([child], timeout=10)[1] == []


def test_a_model_may_fork_and_its_children_have_no_say(away: Away) -> None:
    away.write_body(
        "child = os.fork()\n"
        "if child:\n    os.waitpid(child, 0)\n"
        "return [tell('parent' if child else 'child')]"
    )
    engine, _ = away.seat()
    assert [away.told(engine) for _ in range(3)] == ["parent"] * 3


def test_a_model_that_ignores_signals_ends_all_the_same(away: Away) -> None:
    away.write_body("signal.signal(signal.SIGTERM, signal.SIG_IGN); return [tell(os.getpid())]")
    engine, _ = away.seat()
    worker = psutil.Process(int(away.told(engine)))
    away.close_all()
    assert not worker.is_running()


def test_signals_to_all_are_for_the_server_alone(away: Away) -> None:
    """A terminal or a supervisor sends them to every process, and the server wants its workers to the end."""
    away.write_body(
        "os.kill(os.getpid(), signal.SIGTERM); os.kill(os.getpid(), signal.SIGINT); return [tell(1)]"
    )
    engine, _ = away.seat()
    assert away.told(engine) == "1"


def test_a_batch_that_takes_too_long_ends_its_worker(away: Away) -> None:
    away.write_body("time.sleep(600)")
    engine, ear = away.seat(away.with_parameters(execution_timeout_seconds="0.5"))
    assert engine.patience_s == 0.5
    batch = Batch([away.ask()], 1)
    engine.begin(batch, Replies(1), lambda _: None)
    engine.overdue(batch)
    assert ear.await_loss().message.endswith("is not healthy. It did not answer within 0.5 seconds.")


@pytest.mark.parametrize("when", ["initialize(self, args)", "auto_complete_config(config)"])
def test_a_worker_that_ends_before_it_serves_fails_the_load(away: Away, when: str) -> None:
    away.write(f"class TritonPythonModel:\n    def {when}:\n        os._exit(9)", head=IMPORTS)
    with pytest.raises(InferError, match=r"is not healthy\. It exited with status 9\.$"):
        load(away)


def load(away: Away) -> None:
    """Load a model as a server does."""
    away.backend.complete(away.message(), away.files)
    away.engine()


def test_a_model_that_does_not_finalise_in_time_is_ended(
    away: Away, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("deuteron.backends.python.backend.CLOSE_SECONDS", 0.2)
    away.write("class TritonPythonModel:\n    def finalize(self):\n        time.sleep(600)", head=IMPORTS)
    engine, _ = away.seat()
    worker = psutil.Process(away.process(engine).id)
    away.close_all()
    assert not worker.is_running()


def test_what_is_no_message_ends_the_worker_that_sent_it(away: Away) -> None:
    away.write_body("os.write(max(fd for fd in range(3, 30) if is_socket(fd)), b'x' * 100); time.sleep(600)")
    engine, ear = away.seat()
    engine.begin(Batch([away.ask()], 1), Replies(1), lambda _: None)
    assert "It sent what makes no sense" in ear.await_loss().message


def test_closing_leaves_no_process_descriptor_or_memory(away: Away) -> None:
    away.write_body(
        "return [pb_utils.InferenceResponse([pb_utils.Tensor('OUT', np.ones([1, 9999], np.float32))])]"
    )
    engine, _ = away.seat()  # the first starts the fork server, which stays
    away.close_all()
    before = open_descriptors()
    for _ in range(3):
        engine, _ = away.seat()
        worker = psutil.Process(away.process(engine).id)
        values(away.start(engine, away.ask()).of(0)[0])
        away.close_all()
        assert not worker.is_running()
        del engine
    until(lambda: open_descriptors() == before)


def until(condition: Callable[[], bool]) -> None:
    """Wait until what another thread brings about has come."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def open_descriptors() -> list[str]:
    """Return what this process has open, as far as it is of the kinds that workers need."""
    names = [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return sorted(name.partition(":[")[0] for name in names if name.startswith(("socket", "pipe", "/memfd")))


SERVER = """
import sys, time
from pathlib import Path
from deuteron.backends.api import ModelFiles, Seat
from deuteron.backends.device import HOST, HostStream
from deuteron.backends.python.backend import PythonBackend
from deuteron.proto.config import ModelConfig
from deuteron.proto.schema import model_config_pb2 as pb
config = ModelConfig.from_message(pb.ModelConfig(name="model", backend="python"))
plan = PythonBackend({}).load(config, ModelFiles(Path(sys.argv[1]), 1), HOST)
engine = plan.engine(Seat("model_0", 0, HOST, HostStream()))
print(engine._conversation.process.id, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_server_however_it_ends(away: Away, number: signal.Signals) -> None:
    """Even one that is busy, and does not look at its socket."""
    away.write(
        "import threading\nclass TritonPythonModel:\n    def initialize(self, args):\n"
        "        threading.Thread(target=time.sleep, args=(600,)).start()",
        head=IMPORTS,
    )
    command = [sys.executable, "-c", SERVER, str(away.files.directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        worker = psutil.Process(int(server.stdout.readline()))
        fork_server = worker.parent()
        server.send_signal(number)
        server.wait()
    assert psutil.wait_procs([worker, fork_server], timeout=10)[1] == []


def test_a_process_that_a_model_has_forked_is_told_that_it_cannot_ask(away: Away) -> None:
    """A pool of processes is no reason to hang, whatever it was given to do."""
    away.backend = away.backend_for(Nobody())
    away.write(
        """
        def work(number):
            asked = pb_utils.InferenceRequest(inputs=[], requested_output_names=[], model_name="other")
            pb_utils.Logger.log_info("nobody hears this")
            return asked.exec().error().message()

        class TritonPythonModel:
            def execute(self, requests):
                from multiprocessing import get_context
                with get_context("fork").Pool(2) as pool:
                    return [tell(pool.map(work, [1, 2]))]
        """,
        head=IMPORTS,
    )
    engine, _ = away.seat()
    assert away.told(engine).count("only the process of the model itself is connected with the server") == 2


class Nobody:
    """A house without anybody."""

    def ask(self, asker: Asker, request: Request, receive: Receive, *, decoupled: bool) -> Withdraw:
        """Know nobody."""
        raise AssertionError

    def load(self, name: str, config: str, files: Mapping[str, bytes], *, waiting: str) -> None:
        """Know nobody."""

    def unload(self, name: str, *, dependents: bool) -> None:
        """Know nobody."""

    def is_ready(self, name: str, version: int) -> bool:
        """Know nobody."""
        return False
