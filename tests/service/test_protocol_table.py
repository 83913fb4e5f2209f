"""The tables of `docs/protocol.md` are those of the code."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from deuteron.actors.loading import LoadOptions
from deuteron.actors.repository import Repository
from deuteron.backends.catalog import Catalog
from deuteron.service.doorway import Doorway
from deuteron.service.http.door import HttpDoor
from deuteron.service.http.routes import ROUTES, match
from deuteron.service.policy import GROUP_OF_OPERATION, GROUP_OF_RPC
from deuteron.service.settings import ControlMode, HttpSettings

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "protocol.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, without its head."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [
        [cell.strip(" `").replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in lines
    ]


def spelt_out(template: str) -> Iterator[str]:
    """Return all paths that a template stands for: with its optional parts and without, each alternative."""
    pieces = re.split(r"(\[[^]]*\]|\{[^}]*\})", template)
    choices = []
    for piece in pieces:
        if piece.startswith("["):
            choices.append(["", *spelt_out(piece[1:-1])])
        elif piece.startswith("{"):
            choices.append(piece[1:-1].split(",") if "," in piece else ["1"])
        else:
            choices.append([piece])
    return ("".join(choice) for choice in itertools.product(*choices))


HTTP = rows("HTTP")
GRPC = rows("gRPC")


@pytest.mark.parametrize("row", HTTP, ids=lambda row: row[0])
async def test_a_row_of_http_says_what_its_paths_mean(row: list[str]) -> None:
    request, operation, group, status, _ = row
    methods, template = request.split(" ")
    doorway = Doorway(Repository([], Catalog(), LoadOptions()), ControlMode.NONE, "house", "1")
    handlers = HttpDoor(doorway, HttpSettings())._handlers
    for path in spelt_out(template):
        for method in methods.split("|"):
            found = match(method, path)
            assert found.operation.value == operation
            assert found.methods == set(methods.split("|"))
            assert GROUP_OF_OPERATION[found.operation].value == group
            assert found.operation in handlers
            assert status == "served"


def test_every_route_has_a_row() -> None:
    paths = [path for row in HTTP for path in spelt_out(row[0].split(" ")[1])]
    for route in ROUTES:
        assert any(route.pattern.fullmatch(path) for path in paths), route.pattern.pattern


def test_every_call_has_a_row_that_is_true() -> None:
    assert {row[0]: row[1] for row in GRPC} == {name: group.value for name, group in GROUP_OF_RPC.items()}
    assert {status for _, _, status, _ in GRPC} == {"served"}


def words_of_path(template: str) -> str:
    """Return the words at the end of a path, which a test of it cannot do without."""
    return re.split(r"\]|\}", template)[-1].strip("/") or "/v2/models/"


@pytest.mark.parametrize("row", HTTP, ids=lambda row: row[0])
def test_the_test_of_a_route_asks_it(row: list[str]) -> None:
    text = (ROOT / row[-1]).read_text()
    _, template = row[0].split(" ")
    assert any(words_of_path(path) in text for path in spelt_out_choices(template)), template


def spelt_out_choices(template: str) -> list[str]:
    """Return a template with each of the words that one of its braces stands for."""
    choice = re.search(r"\{(\w+,\w+)\}$", template)
    if choice is None:
        return [template]
    return [template[: choice.start()] + word for word in choice[1].split(",")]


@pytest.mark.parametrize("row", GRPC, ids=lambda row: row[0])
def test_the_test_of_a_call_makes_it(row: list[str]) -> None:
    text = (ROOT / row[-1]).read_text()
    method = row[0].rpartition("/")[2]
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", method).lower()
    assert any(word in text for word in (method, snake, CLIENT_CALLS.get(method, method))), method


CLIENT_CALLS = {
    "ServerLive": "is_server_live",
    "ServerReady": "is_server_ready",
    "ModelReady": "is_model_ready",
    "ServerMetadata": "get_server_metadata",
    "ModelMetadata": "get_model_metadata",
    "ModelConfig": "get_model_config",
    "ModelStatistics": "get_inference_statistics",
    "ModelInfer": ".infer(",
    "ModelStreamInfer": "stream_infer",
    "RepositoryIndex": "get_model_repository_index",
    "RepositoryModelLoad": "load_model",
    "RepositoryModelUnload": "unload_model",
    "LogSettings": "update_log_settings",
    "TraceSetting": "update_trace_settings",
    "SystemSharedMemoryStatus": "get_system_shared_memory_status",
    "SystemSharedMemoryRegister": "register_system_shared_memory",
    "SystemSharedMemoryUnregister": "unregister_system_shared_memory",
    "CudaSharedMemoryStatus": "get_cuda_shared_memory_status",
    "CudaSharedMemoryRegister": "register_cuda_shared_memory",
    "CudaSharedMemoryUnregister": "unregister_cuda_shared_memory",
}
"""What the method is called in Triton's client."""
