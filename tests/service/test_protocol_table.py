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


@pytest.mark.parametrize("file", sorted({row[-1] for row in HTTP + GRPC}))
def test_the_tests_that_are_named_are_there(file: str) -> None:
    assert (ROOT / file).is_file()
