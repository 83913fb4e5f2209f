"""Paths mean what they mean to Triton, and nothing else."""

import pytest

from deuteron.actors.loading import LoadOptions
from deuteron.actors.repository import Repository
from deuteron.backends.catalog import Catalog
from deuteron.proto.errors import InferError
from deuteron.proto.message import LATEST
from deuteron.service.doorway import Doorway
from deuteron.service.http import routes
from deuteron.service.http.door import HttpDoor
from deuteron.service.http.routes import (
    MethodNotAllowedError,
    NoRouteError,
    Switchboard,
    match,
)
from deuteron.service.operations import Operation
from deuteron.service.settings import ControlMode, HttpSettings


@pytest.mark.parametrize(
    ("line", "operation", "model", "version"),
    [
        ("GET /v2", Operation.SERVER_METADATA, "", LATEST),
        ("GET /v2?verbose=1", Operation.SERVER_METADATA, "", LATEST),
        ("GET /v2/health/live", Operation.SERVER_LIVE, "", LATEST),
        ("GET /v2/health/ready", Operation.SERVER_READY, "", LATEST),
        ("GET /v2/models/m", Operation.MODEL_METADATA, "m", LATEST),
        ("GET /v2/models/m/versions/3", Operation.MODEL_METADATA, "m", 3),
        ("GET /v2/models/m/versions/03", Operation.MODEL_METADATA, "m", 3),
        ("GET /v2/models/m/ready", Operation.MODEL_READY, "m", LATEST),
        ("GET /v2/models/m/versions/3/ready", Operation.MODEL_READY, "m", 3),
        ("GET /v2/models/m/config", Operation.MODEL_CONFIG, "m", LATEST),
        ("GET /v2/models/m/stats", Operation.STATISTICS, "m", LATEST),
        ("GET /v2/models/m/versions/1/stats", Operation.STATISTICS, "m", 1),
        ("GET /v2/models/stats", Operation.STATISTICS, "", LATEST),
        ("POST /v2/models/stats/infer", Operation.INFER, "stats", LATEST),
        ("POST /v2/models/m/infer", Operation.INFER, "m", LATEST),
        ("POST /v2/models/m/infer?x=/y", Operation.INFER, "m", LATEST),
        ("POST /v2/models/a%20b/infer", Operation.INFER, "a%20b", LATEST),
        ("POST /v2/models/../infer", Operation.INFER, "..", LATEST),
        ("POST /v2/models/m/versions/2/infer", Operation.INFER, "m", 2),
        ("POST /v2/models/m/generate", Operation.GENERATE, "m", LATEST),
        ("POST /v2/models/m/versions/1/generate_stream", Operation.GENERATE_STREAM, "m", 1),
        ("GET /v2/logging", Operation.LOGGING, "", LATEST),
        ("POST /v2/trace/setting", Operation.TRACE, "", LATEST),
        ("GET /v2/models/m/trace/setting", Operation.TRACE, "m", LATEST),
        ("GET /v2/systemsharedmemory/status", Operation.SHARED_MEMORY_STATUS, "", LATEST),
        ("GET /v2/cudasharedmemory/region/r/status", Operation.SHARED_MEMORY_STATUS, "", LATEST),
        ("POST /v2/systemsharedmemory/region/r/register", Operation.SHARED_MEMORY_CHANGE, "", LATEST),
        ("POST /v2/cudasharedmemory/unregister", Operation.SHARED_MEMORY_CHANGE, "", LATEST),
        ("POST /v2/repository/index", Operation.REPOSITORY_INDEX, "", LATEST),
        ("POST /v2/repository/main/index", Operation.REPOSITORY_INDEX, "", LATEST),
        ("POST /v2/repository/models/m/load", Operation.MODEL_LOAD, "m", LATEST),
        ("POST /v2/repository/models/m/unload", Operation.MODEL_UNLOAD, "m", LATEST),
    ],
)
def test_a_path_means_an_operation(line: str, operation: Operation, model: str, version: int) -> None:
    method, path = line.split(" ")
    found = match(method, path)
    assert (found.operation, found.model, found.version) == (operation, model, version)


def test_a_repository_may_be_named_before_its_models() -> None:
    assert match("POST", "/v2/repository/main/models/m/load").repository == "main"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "*",
        "/v1",
        "/v2/",
        "/v2/models",
        "/v2/models/",
        "/v2/models//infer",
        "/v2/models/m/",
        "/v2/models/m/infer/",
        "/v2/models/m/n/infer",
        "/v2/models/m/versions/x/infer",
        "/v2/models/m/versions/-1/infer",
        "/v2/models/m/versions//infer",
        "/v2/models/m/versions/١/infer",
        "/v2/models/m/versions/1/trace/setting",
        "/v2/health/dead",
        "/v2/repository/index/",
        "/v2/repository/models/m/reload",
        "/v2/systemsharedmemory/region//status",
        "http://host/v2",
    ],
)
def test_every_other_path_means_nothing(path: str) -> None:
    for method in ("GET", "POST"):
        with pytest.raises(NoRouteError):
            match(method, path)


@pytest.mark.parametrize(
    "line", ["POST /v2", "GET /v2/models/m/infer", "HEAD /v2/health/live", "PUT /v2/logging"]
)
def test_a_method_must_go_with_its_path(line: str) -> None:
    with pytest.raises(MethodNotAllowedError):
        match(*line.split(" "))


def test_a_version_beyond_64_bits_is_an_error_of_its_own() -> None:
    with pytest.raises(InferError, match=r"failed to get model version from specified version string"):
        match("GET", f"/v2/models/m/versions/{2**63}")


def test_matches_are_remembered_and_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "REMEMBERED", 3)
    board = Switchboard()
    for number in range(10):
        found = board.find("GET", f"/v2/models/m{number}")
        assert board.find("GET", f"/v2/models/m{number}") is found
        assert len(board._known) <= 3
    with pytest.raises(MethodNotAllowedError):
        board.find("POST", "/v2/models/m9")
    with pytest.raises(NoRouteError):
        board.find("GET", "/v3")
    assert "/v3" not in board._known


async def test_every_operation_has_a_handler() -> None:
    repository = Repository([], Catalog(), LoadOptions())
    door = HttpDoor(Doorway(repository, ControlMode.NONE, "house", "1"), HttpSettings())
    assert set(door._handlers) == set(Operation)
