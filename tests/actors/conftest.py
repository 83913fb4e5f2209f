"""A repository on disk, and a loaded one, for tests of the actors."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest

from deuteron.actors.loading import LoadOptions
from deuteron.actors.reply import OneReply
from deuteron.actors.repository import Repository
from deuteron.backends.catalog import Catalog
from deuteron.proto.message import Request, Response
from deuteron.proto.tensor import Tensor

from .asking import House

IDENTITY = """
backend: "identity"
max_batch_size: 8
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
"""

Ask = Callable[..., Request]
Infer = Callable[[Repository, str, Request], Awaitable[Response]]
Write = Callable[..., Path]
Open = Callable[..., Awaitable[Repository]]


@pytest.fixture
def write_model(tmp_path: Path) -> Write:
    """Write a model without files into the repository, with this configuration and these versions."""

    def write(name: str, config: str = IDENTITY, versions: tuple[int, ...] = (1,)) -> Path:
        directory = tmp_path / name
        for version in versions:
            (directory / str(version)).mkdir(parents=True, exist_ok=True)
        (directory / "config.pbtxt").write_text(config)
        return directory

    return write


@pytest.fixture
async def open_repository(tmp_path: Path) -> AsyncIterator[Open]:
    """Open the repository with the models named, or all, loaded; it is closed at the end of the test."""
    async with AsyncExitStack() as stack:

        async def open_(names: list[str] | None = None, options: LoadOptions | None = None) -> Repository:
            repository = await stack.enter_async_context(
                Repository([tmp_path], Catalog(), options or LoadOptions())
            )
            await repository.load_at_start(names)
            return repository

        yield open_


@pytest.fixture
def ask() -> Ask:
    """Make a request of so many rows, each counting up."""

    def ask_(rows: int = 1, width: int = 4, request_id: str = "") -> Request:
        array = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
        return Request("identity", id=request_id, inputs={"INPUT0": Tensor.from_numpy(array)})

    return ask_


@pytest.fixture
def infer() -> Infer:
    """Ask a model of a repository and return its one response; raises what it answered instead."""

    async def infer_(repository: Repository, name: str, asked: Request) -> Response:
        reply = OneReply()
        repository.find(name).infer(asked, reply)
        return await reply

    return infer_


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A house whose models are still to be loaded; it is closed at the end of the test."""
    async with AsyncExitStack() as stack:
        yield House(tmp_path, stack)
