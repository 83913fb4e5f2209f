"""New versions are asked what they have to know before anybody else may ask them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from deuteron.actors.reply import OneReply
from deuteron.actors.repository import Repository
from deuteron.backends.selftest import golden_cases
from deuteron.proto.errors import InferError
from deuteron.proto.message import Request, Response

from .asking import COUNT, COUNT_CONFIG, until

Write = Callable[..., Path]
Open = Callable[..., Awaitable[Repository]]
Infer = Callable[[Repository, str, Request], Awaitable[Response]]
Ask = Callable[..., Request]

IDENTITY = """
backend: "identity"
max_batch_size: 8
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
"""


def tensor(name: str, *values: float, datatype: str = "FP32", batched: bool = True) -> dict[str, Any]:
    shape = [1, len(values)] if batched else [len(values)]
    return {"name": name, "datatype": datatype, "shape": shape, "data": list(values)}


def write_case(model: Path, name: str, asked: float, expected: float) -> None:
    """Write a case for an identity model."""
    case = {
        "request": {"inputs": [tensor("INPUT0", asked)]},
        "response": {"outputs": [tensor("OUTPUT0", expected)]},
    }
    write_text(model, name, json.dumps(case))


def write_text(model: Path, name: str, text: str) -> None:
    (model / "selftest").mkdir(exist_ok=True)
    (model / "selftest" / f"{name}.json").write_text(text)


def told(repository: Repository, name: str = "identity") -> tuple[str, str]:
    (entry,) = (entry for entry in repository.index() if entry.name == name)
    return entry.state, entry.reason


async def test_a_model_that_knows_its_cases_is_loaded(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    model = write_model("identity")
    write_case(model, "one", 1.0, 1.0)
    write_case(model, "two", 2.0, 2.0005)
    repository = await open_repository()
    assert told(repository) == ("READY", "")
    assert repository.find("identity").statistics.success.count == 2
    assert (await infer(repository, "identity", ask())).outputs


async def test_a_model_that_does_not_is_not_found_by_anybody(
    write_model: Write, open_repository: Open
) -> None:
    write_case(write_model("identity"), "one", 1.0, 5.0)
    repository = await open_repository()
    state, reason = told(repository)
    assert state == "UNAVAILABLE"
    assert reason == (
        "Internal: self-test 'one' failed: output 'OUTPUT0' differs in 1 of 1 elements; at [0, 0] expected "
        "5.0, got 1.0"
    )
    with pytest.raises(InferError):
        repository.find("identity")


async def test_a_new_version_that_fails_leaves_the_old_one_serving_and_says_why(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    model = write_model("identity")
    repository = await open_repository()
    before = repository.find("identity")
    write_case(model, "one", 1.0, 5.0)
    with pytest.raises(InferError, match="self-test 'one' failed"):
        await repository.load("identity")
    assert repository.find("identity") is before
    state, reason = told(repository)
    assert state == "READY"
    assert reason.startswith("the last load failed: Internal: self-test 'one' failed")
    assert repository.ready
    assert (await infer(repository, "identity", ask())).outputs

    write_case(model, "one", 1.0, 1.0)
    await repository.load("identity")
    assert repository.find("identity") is not before
    assert told(repository) == ("READY", "")


async def test_a_broken_configuration_too_is_told_of_a_version_that_serves(
    write_model: Write, open_repository: Open
) -> None:
    write_model("identity")
    repository = await open_repository()
    write_model("identity", "max_batch_size: what")
    with pytest.raises(InferError):
        await repository.load("identity")
    state, reason = told(repository)
    assert state == "READY"
    assert reason.startswith("the last load failed: Invalid argument: ")
    write_model("identity")
    await repository.load("identity")
    assert told(repository) == ("READY", "")


async def test_a_case_that_cannot_be_read_fails_the_load(write_model: Write, open_repository: Open) -> None:
    write_text(write_model("identity"), "odd", "{")
    repository = await open_repository()
    assert told(repository)[1].startswith("Invalid argument: self-test 'odd' cannot be read")


async def test_a_request_that_the_model_refuses_fails_its_case(
    write_model: Write, open_repository: Open
) -> None:
    case = {"request": {"inputs": [tensor("NOBODY", 1.0)]}, "response": {"outputs": []}}
    write_text(write_model("identity"), "odd", json.dumps(case))
    repository = await open_repository()
    assert "self-test 'odd' failed: unexpected inference input 'NOBODY'" in told(repository)[1]


async def test_all_responses_of_a_decoupled_model_are_looked_at(
    write_model: Write, open_repository: Open
) -> None:
    model = write_model("count", COUNT_CONFIG)
    (model / "1" / "model.py").write_text(COUNT)
    numbers = [tensor("OUT", number, datatype="INT32", batched=False) for number in (7, 8)]
    case = {
        "request": {"inputs": [tensor("IN", 7, 8, datatype="INT32", batched=False)]},
        "responses": [{"outputs": [each]} for each in numbers],
    }
    write_text(model, "two", json.dumps(case))
    repository = await open_repository()
    assert told(repository, "count") == ("READY", "")


async def test_requests_go_on_while_a_successor_is_asked(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    """The new version takes its time for its first case; the old one answers meanwhile."""
    model = write_model("identity")
    repository = await open_repository()
    before = repository.find("identity")
    write_model("identity", IDENTITY + 'parameters { key: "execute_delay_ms" value { string_value: "300" } }')
    write_case(model, "slow", 1.0, 1.0)
    load = asyncio.create_task(repository.load("identity"))
    answered = 0
    while not load.done():
        await infer(repository, "identity", ask())
        answered += 1
    await load
    assert answered > 10
    assert repository.find("identity") is not before


async def test_a_version_that_was_refused_is_taken_down(write_model: Write, open_repository: Open) -> None:
    notes = """
import pathlib
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.here = pathlib.Path(args["model_repository"])

    def execute(self, requests):
        return [pb_utils.InferenceResponse([]) for request in requests]

    def finalize(self):
        (self.here / ".went").touch()
"""
    model = write_model("notes", 'backend: "python" output { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }')
    (model / "1" / "model.py").write_text(notes)
    write_text(model, "one", '{"request": {"inputs": []}, "response": {"outputs": []}}')
    write_text(model, "two", '{"request": {"inputs": []}, "responses": []}')
    repository = await open_repository()
    assert "self-test 'two' failed: expected 0 responses, got 1" in told(repository, "notes")[1]
    await until((model / ".went").exists)


async def test_a_new_version_whose_process_dies_as_it_starts_leaves_the_old_one_serving(
    write_model: Write, open_repository: Open
) -> None:
    """Its code ends the worker it runs in; the server and the old version do not notice."""
    quiet = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        pass

    def execute(self, requests):
        return [pb_utils.InferenceResponse([]) for request in requests]
"""
    model = write_model("notes", 'backend: "python" output { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }')
    (model / "1" / "model.py").write_text(quiet)
    repository = await open_repository()
    before = repository.find("notes")
    (model / "1" / "model.py").write_text(quiet.replace("pass", "import os; os._exit(3)"))
    with pytest.raises(InferError, match="exited with status 3"):
        await repository.load("notes")
    assert repository.find("notes") is before
    state, reason = told(repository, "notes")
    assert state == "READY"
    assert reason.startswith("the last load failed: ")
    reply = OneReply()
    before.infer(Request("notes"), reply)
    await asyncio.wait_for(reply, 20)


def test_a_case_may_not_lie_elsewhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    (tmp_path / "model" / "selftest").mkdir(parents=True)
    (tmp_path / "model" / "selftest" / "a.json").symlink_to(outside)
    with pytest.raises(InferError, match="outside the model directory"):
        golden_cases(tmp_path / "model")
    assert golden_cases(tmp_path) == []
