"""Python models that ask other models while they answer a client: over both protocols, and to the end."""

import json
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from .clients import LIBRARIES, Client
from .house import Server, serving

Serve = Callable[..., Server]

LOGIC = """\
import asyncio
import json
import threading

import numpy as np
import triton_python_backend_utils as pb_utils


def add_sub(left, right):
    return pb_utils.InferenceRequest(
        inputs=[
            pb_utils.Tensor("INPUT0", np.full([1, 16], left, np.int32)),
            pb_utils.Tensor("INPUT1", np.full([1, 16], right, np.int32)),
        ],
        requested_output_names=["OUTPUT0"],
        model_name="add_sub",
    )


def repeat(*values):
    tensor = pb_utils.Tensor("IN", np.array(values, np.int32))
    return pb_utils.InferenceRequest(
        inputs=[tensor], requested_output_names=["OUT"], model_name="repeat"
    )


def logic(what):
    tensor = pb_utils.Tensor("WHAT", np.array([what], np.object_))
    return pb_utils.InferenceRequest(
        inputs=[tensor], requested_output_names=["TOLD"], model_name="logic"
    )


def first(response):
    if response.has_error():
        return response.error().message()
    values = [tensor.as_numpy().ravel().tolist()[0] for tensor in response.output_tensors()]
    return [value.decode() if isinstance(value, bytes) else value for value in values]


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        what = request.inputs()[0].as_numpy()[0].decode()
        text = json.dumps(getattr(self, what)())
        return pb_utils.InferenceResponse([pb_utils.Tensor("TOLD", np.array([text], np.object_))])

"""
NOT_DECOUPLED = (
    "Model repeat - Error when running inference: Model repeat is using the decoupled. The current BLS "
    "request call doesn't support models using the decoupled transaction policy. Please use "
    "'decoupled=True' argument to the 'exec' or 'async_exec' calls for decoupled models.'"
)
NOT_READY = (
    "Model add_sub - Error when running inference: Failed for execute the inference request. "
    "Model 'add_sub' is not ready."
)
KINDS: dict[str, tuple[str, object]] = {
    "plain": ("return first(add_sub(3, 4).exec())", [7]),
    "ensemble": (
        """
        ones = np.ones([1, 4], np.float32)
        request = pb_utils.InferenceRequest(
            inputs=[pb_utils.Tensor("A", ones), pb_utils.Tensor("B", ones)],
            requested_output_names=["OUT"], model_name="chain")
        return first(request.exec())
        """,
        [4.0],
    ),
    "stream": (
        "return [first(each) for each in repeat(5, -6, 7).exec(decoupled=True)]",
        [[5], "-6 is negative", [7], []],
    ),
    "coroutines": (
        """
        async def ask():
            asked = [add_sub(value, 1).async_exec() for value in range(4)]
            stream = await repeat(9).async_exec(decoupled=True)
            return [first(each) for each in [*await asyncio.gather(*asked), *stream]]
        return asyncio.run(ask())
        """,
        [[1], [2], [3], [4], [9], []],
    ),
    "threads": (
        """
        told = [None] * 4
        def ask(place):
            told[place] = first(add_sub(place, place).exec())
        threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return told
        """,
        [[0], [2], [4], [6]],
    ),
    "nested": ("return first(logic('plain').exec())", ["[7]"]),
    "refused": (
        "return first(repeat(1).exec())",
        NOT_DECOUPLED,
    ),
    "control": (
        """
        known = [pb_utils.is_model_ready("add_sub")]
        pb_utils.unload_model("add_sub")
        known += [pb_utils.is_model_ready("add_sub"), first(add_sub(1, 1).exec())]
        pb_utils.load_model("add_sub")
        return [*known, first(add_sub(1, 1).exec())]
        """,
        [
            True,
            False,
            NOT_READY,
            [2],
        ],
    ),
    "itself": ("return [first(logic('itself').exec())]", None),
}
CONFIG = """\
backend: "python"
input [ { name: "WHAT" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "TOLD" data_type: TYPE_STRING dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU count: 2 } ]
"""


def write_logic(models: Path) -> None:
    """Write a model with a method for each kind of asking; it says as JSON what the method returns."""
    methods = [f"def {kind}(self):\n{_indented(body)}" for kind, (body, _) in KINDS.items()]
    source = LOGIC + textwrap.indent("\n\n".join(methods), " " * 4)
    (models / "logic" / "1").mkdir(parents=True)
    (models / "logic" / "1" / "model.py").write_text(source)
    (models / "logic" / "config.pbtxt").write_text(CONFIG)


def _indented(body: str) -> str:
    return textwrap.indent(textwrap.dedent(body).strip(), " " * 4)


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve the models of this directory and the one that asks them."""
    root = tmp_path_factory.mktemp("business_logic")
    write_logic(root / "own")
    flags = (
        f"--model-repository={root / 'own'}",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in ("logic", "add_sub", "repeat", "chain")),
    )
    with serving(repository, root / "server.log", *flags) as server:
        yield server


def ask(client: Client, kind: str) -> object:
    """Ask the model to ask others in its way; return what it tells."""
    result = client.infer("logic", client.tensor("WHAT", np.array([kind], np.object_)))
    return json.loads(result.as_numpy("TOLD")[0])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "itself"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_model_asks_others(server: Server, library: str, kind: str) -> None:
    with Client(library, server) as client:
        assert ask(client, kind) == KINDS[kind][1]


def test_many_clients_have_models_ask_others(server: Server) -> None:
    """Two instances answer sixteen clients, and nobody waits for ever."""

    def ask_often(library: str) -> list[object]:
        with Client(library, server) as client:
            return [ask(client, kind) for kind in ("plain", "stream", "coroutines", "ensemble") * 3]

    expected = [KINDS[kind][1] for kind in ("plain", "stream", "coroutines", "ensemble") * 3]
    with ThreadPoolExecutor(16) as threads:
        for told in threads.map(ask_often, ["http", "grpc"] * 8):
            assert told == expected


def test_without_explicit_control_models_load_nothing(pick: Callable[..., Path], serve: Serve) -> None:
    models = pick("add_sub", "repeat", "chain", "torch_double", "onnx_add_sub", "echo")
    write_logic(models)
    with Client("http", serve(models)) as client:
        status, message = client.refusal(
            "infer", "logic", [client.tensor("WHAT", np.array(["control"], object))]
        )
    assert status == "500"
    assert "explicit model load / unload is not allowed if polling is enabled" in message


def test_a_model_that_waits_for_itself_hears_that_nobody_will_answer(
    pick: Callable[..., Path], serve: Serve
) -> None:
    """Both instances ask the model they are instances of; the server goes on, and ends when it is told to."""
    models = pick("add_sub")
    write_logic(models)
    server = serve(models)
    with Client("grpc", server) as client:
        assert "wait for each other" in str(ask(client, "itself"))
        server.terminate()
    assert server.exit_status() == 0


UNREADY = """\
class TritonPythonModel:
    def execute(self, requests):
        raise RuntimeError("nobody should ask")

    async def is_ready(self):
        return False
"""


def test_a_model_that_says_no_is_not_ready(tmp_path: Path, serve: Serve) -> None:
    """To those who ask for it; the server and its other models are."""
    models = tmp_path / "models"
    write_logic(models)
    (models / "unready" / "1").mkdir(parents=True)
    (models / "unready" / "1" / "model.py").write_text(UNREADY)
    (models / "unready" / "config.pbtxt").write_text(CONFIG)
    server = serve(models)
    for library in LIBRARIES:
        with Client(library, server) as client:
            assert client.call("is_server_ready")
            assert client.call("is_model_ready", "logic")
            assert not client.call("is_model_ready", "unready")
            assert not client.call("is_model_ready", "unready", "1")
