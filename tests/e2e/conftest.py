"""A repository of small models of every kind, and servers that serve it to whole clients."""

import shutil
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from .clients import LIBRARIES, Client
from .house import Server, serving

HERE = Path(__file__).parent
MODELS = HERE / "models"
LOG_SHOWN = 8000
"""Characters of a server's log that are shown with a test that fails."""

Serve = Callable[..., Server]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this directory as one that starts a whole server."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("e2e")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the log of each server that a failing test has asked."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for name, value in item.funcargs.items():
            if isinstance(value, Server):
                report.sections.append((f"log of the server {name!r}", value.logged()[-LOG_SHOWN:]))
    return report


# --- the models ---


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write all models of this directory, and those that are made rather than written."""
    root = tmp_path_factory.mktemp("repository") / "models"
    shutil.copytree(MODELS, root, ignore=shutil.ignore_patterns("__pycache__"))
    save_onnx_add_sub(root / "onnx_add_sub" / "1" / "model.onnx")
    save_torch_double(root / "torch_double" / "1" / "model.pt")
    for version in ("2", "3"):
        shutil.copytree(root / "versioned" / "1", root / "versioned" / version)
    for model in root.iterdir():
        (model / "1").mkdir(exist_ok=True)  # a model without files has its version directory too
    return root


@pytest.fixture
def pick(repository: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy some of the models into a repository of their own."""

    def copy(*names: str) -> Path:
        for name in names:
            shutil.copytree(repository / name, tmp_path / "models" / name)
        return tmp_path / "models"

    return copy


def save_onnx_add_sub(path: Path) -> None:
    """Write SUM = A + B and DIFFERENCE = A - B for rows of four numbers; it needs no configuration."""
    path.parent.mkdir(parents=True)

    def rows(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 4])

    nodes = [
        helper.make_node("Add", ["A", "B"], ["SUM"]),
        helper.make_node("Sub", ["A", "B"], ["DIFFERENCE"]),
    ]
    graph = helper.make_graph(nodes, "add_sub", [rows("A"), rows("B")], [rows("SUM"), rows("DIFFERENCE")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path)


def save_torch_double(path: Path) -> None:
    """Write the function that doubles its one argument."""
    path.parent.mkdir(parents=True)

    class Double(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    with warnings.catch_warnings(
        action="ignore", category=DeprecationWarning
    ):  # TorchScript is; servers meet it
        torch.jit.script(Double()).save(str(path))  # type: ignore[no-untyped-call] # PyTorch left it untyped


# --- the servers ---


@pytest.fixture(scope="session")
def house(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve all models to all tests that leave the server as it is."""
    with serving(repository, tmp_path_factory.mktemp("house") / "server.log") as server:
        yield server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serve a repository to one test, which may do with the server what it likes."""
    with ExitStack() as stack:
        started: list[Server] = []

        def start(repository: Path, *flags: str, **options: str) -> Server:
            log = tmp_path / f"server_{len(started)}.log"
            started.append(stack.enter_context(serving(repository, log, *flags, **options)))
            return started[-1]

        yield start


# --- the clients ---


@pytest.fixture(params=LIBRARIES)
def client(request: pytest.FixtureRequest, house: Server) -> Iterator[Client]:
    """Connect each of Triton's clients in turn."""
    with Client(request.param, house) as client:
        yield client


@pytest.fixture
def all_is_well(house: Server) -> Iterator[None]:
    """See after a test that the server answers good requests as if nothing had been."""
    yield
    for name in ("http", "grpc"):
        with Client(name, house) as client:
            left = client.tensor("INPUT0", np.arange(16, dtype=np.int32).reshape(1, 16))
            right = client.tensor("INPUT1", np.ones((1, 16), np.int32))
            result = client.infer("add_sub", left, right)
            assert result.as_numpy("OUTPUT0").tolist() == [list(range(1, 17))]
