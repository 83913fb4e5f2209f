"""New versions that are tried on a part of the requests, in a repository that serves."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from deuteron.actors import rollout
from deuteron.actors.canary import Verdict
from deuteron.actors.reply import OneReply
from deuteron.actors.repository import Repository
from deuteron.proto.errors import InferError
from deuteron.proto.message import Request
from deuteron.proto.model_id import ModelId
from deuteron.proto.target import served_version
from deuteron.proto.tensor import Tensor

from .asking import until

Write = Callable[..., Path]
Open = Callable[..., Awaitable[Repository]]

# It answers with its number; with one below zero it fails every request.
TELLS = """
import pathlib
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        here = pathlib.Path(args["model_repository"]) / args["model_version"]
        self.number = float((here / "number").read_text())

    def execute(self, requests):
        return [self.answer() for request in requests]

    def answer(self):
        if self.number < 0:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("broken"))
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([self.number], np.float32))])
"""
CONFIG = """
backend: "python"
input [{ name: "IN" data_type: TYPE_FP32 dims: [ 1 ] optional: true }]
output [{ name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }]
"""
OVER = """
platform: "ensemble"
input [{ name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }]
output [{ name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }, { name: "AGAIN" data_type: TYPE_FP32 dims: [ 1 ] }]
ensemble_scheduling { step [
  { model_name: "model" model_version: -1
    input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" } },
  { model_name: "model" model_version: -1
    input_map { key: "IN" value: "OUT" } output_map { key: "OUT" value: "AGAIN" } }
] }
"""
MODEL = ModelId("model")


def said(**parameters: object) -> str:
    """Return the parameters of a canary."""
    return " ".join(
        f'parameters {{ key: "canary.{name}" value {{ string_value: "{value}" }} }}'
        for name, value in parameters.items()
    )


class World:
    """A model in a repository, whose versions answer with their numbers."""

    def __init__(self, directory: Path, repository: Repository) -> None:
        self.directory = directory
        self.repository = repository

    def write(self, version: int, number: float, config: str = "") -> None:
        """Write a version of the model, and its configuration."""
        write(self.directory, version, number, config)

    async def ask(self, version: int = -1, name: str = "model", **parameters: str) -> tuple[float, int]:
        """Ask the model; return what it answered, and the version that the answer tells of."""
        tensor = Tensor.from_numpy(np.array([0], np.float32))
        request = Request(name, inputs={"IN": tensor}, parameters=dict(parameters))
        reply = OneReply()
        found = self.repository.find(name, version)
        found.infer(request, reply)
        response = await asyncio.wait_for(reply, 20)
        return float(response.outputs["OUT"].numpy()[0]), served_version(found, request)

    async def ask_many(self, number: int) -> dict[float, int]:
        """Ask the model so often; return how often it answered what, and -1 for errors."""
        counts: dict[float, int] = {}
        for _ in range(number):
            try:
                answer, _version = await self.ask()
            except InferError:
                answer = -1.0
            counts[answer] = counts.get(answer, 0) + 1
        return counts

    def told(self) -> dict[int | None, tuple[str, str]]:
        """Return what the index says of the versions."""
        entries = (entry for entry in self.repository.index() if entry.name == "model")
        return {entry.version: (entry.state, entry.reason) for entry in entries}

    def verdicts(self) -> dict[Verdict, int]:
        return {verdict: count for (_, verdict), count in self.repository.rollouts.verdicts.items()}


def write(directory: Path, version: int, number: float, config: str = "") -> None:
    (directory / str(version)).mkdir(parents=True, exist_ok=True)
    (directory / str(version) / "model.py").write_text(TELLS)
    (directory / str(version) / "number").write_text(str(number))
    (directory / "config.pbtxt").write_text(CONFIG + config)


@pytest.fixture
async def world(tmp_path: Path, open_repository: Open, monkeypatch: pytest.MonkeyPatch) -> World:
    """Serve version 1, which answers 1; trials are looked at all the time."""
    monkeypatch.setattr(rollout, "LOOK_EVERY_S", 0.005)
    write(tmp_path / "model", 1, 1.0)
    return World(tmp_path / "model", await open_repository())


async def test_a_new_version_gets_its_share_and_is_promoted(world: World) -> None:
    """A quarter of the requests; the version with the old number answers for both until then."""
    world.write(1, 2.0, said(share=0.25, min_requests=20, seconds=0.05))
    await world.repository.load("model")
    assert await world.ask_many(40) == {1.0: 30, 2.0: 10}
    state, reason = world.told()[1]
    assert state == "READY"
    assert reason.startswith("canary: on trial for 0 s with 0.25 of the requests; ")
    await world.ask_many(40)
    await until(lambda: not list(world.repository.rollouts))
    assert await world.ask_many(5) == {2.0: 5}
    assert world.told() == {1: ("READY", "")}
    assert world.verdicts() == {Verdict.PROMOTE: 1}


async def test_a_new_number_may_be_asked_for_and_takes_over_when_promoted(world: World) -> None:
    world.write(2, 2.0, said(share=0.5, min_requests=10, seconds=0.05))
    await world.repository.load("model")
    assert await world.ask(1) == (1.0, 1)
    assert await world.ask(2) == (2.0, 2)
    assert {await world.ask() for _ in range(4)} == {(1.0, 1), (2.0, 2)}
    assert world.told()[1] == ("READY", "")
    assert world.told()[2][1].startswith("canary: on trial")
    await world.ask_many(30)
    await until(lambda: world.repository.versions("model") == (2,))
    await until(lambda: world.told() == {1: ("UNAVAILABLE", "unloaded"), 2: ("READY", "")})


@pytest.mark.parametrize("version", [1, 2])
async def test_a_new_version_that_fails_is_rolled_back(world: World, version: int) -> None:
    """Whoever asks afterwards is answered by the old one, and the index says why."""
    before = world.repository.find("model")
    world.write(version, -2.0, said(share=0.5, min_requests=20))
    await world.repository.load("model")
    assert -1 in await world.ask_many(8)
    await until(lambda: not list(world.repository.rollouts))
    assert await world.ask_many(5) == {1.0: 5}
    assert world.repository.find("model") is before
    await until(lambda: world.told()[version][0] == ("READY" if version == 1 else "UNAVAILABLE"))
    assert re.fullmatch(r"canary was rolled back: (\d) of \1 answers were errors", world.told()[version][1])
    assert world.repository.ready
    assert world.verdicts() == {Verdict.ROLL_BACK: 1}


async def test_what_was_rolled_back_is_not_tried_again_unless_somebody_wants_it(world: World) -> None:
    world.write(1, -2.0, said(share=0.5, min_requests=20))
    await world.repository.load("model")
    await world.ask_many(8)
    await until(lambda: not list(world.repository.rollouts))
    await world.repository.load("model")
    assert MODEL in world.repository.rollouts


async def test_requests_may_claim_the_new_version(world: World) -> None:
    world.write(1, 2.0, said(parameter="cohort=beta"))
    await world.repository.load("model")
    assert await world.ask_many(5) == {1.0: 5}
    assert (await world.ask(cohort="beta"))[0] == 2.0
    assert (await world.ask(cohort="gamma"))[0] == 1.0
    assert "requests that ask for it; " in world.told()[1][1]


async def test_another_load_ends_a_trial_and_the_same_one_does_not(world: World) -> None:
    world.write(1, 2.0, said(share=0.5))
    await world.repository.load("model")
    await world.repository.load("model")
    assert MODEL in world.repository.rollouts
    world.write(1, 3.0, said(share=0.5, seconds=30))
    await world.repository.load("model")
    assert await world.ask_many(4) == {1.0: 2, 3.0: 2}
    world.write(1, 4.0)
    await world.repository.load("model")
    assert await world.ask_many(4) == {4.0: 4}
    assert world.told() == {1: ("READY", "")}
    assert world.verdicts() == {Verdict.ROLL_BACK: 2}


@pytest.mark.parametrize("version", [1, 2])
async def test_a_model_may_be_unloaded_while_its_new_version_is_on_trial(world: World, version: int) -> None:
    world.write(version, 2.0, said(share=0.5))
    await world.repository.load("model")
    await world.repository.unload("model")
    with pytest.raises(InferError):
        await world.ask()
    await until(lambda: all(state == "UNAVAILABLE" for state, _ in world.told().values()))
    await world.repository.load("model")
    assert (await world.ask())[0] == 2.0


async def test_a_house_may_close_during_a_trial(world: World) -> None:
    world.write(2, 2.0, said(share=0.5))
    await world.repository.load("model")
    await world.repository.close()
    assert not [task for task in asyncio.all_tasks() if "_watch" in repr(task)]


async def test_a_first_version_is_not_tried(world: World) -> None:
    """There is nothing to try it against."""
    await world.repository.unload("model")
    world.write(1, 2.0, said(share=0.5))
    await world.repository.load("model")
    assert await world.ask_many(3) == {2.0: 3}
    assert not list(world.repository.rollouts)


async def test_a_canary_that_takes_other_inputs_is_refused(world: World) -> None:
    world.write(1, 2.0, said(share=0.5) + 'input { name: "MORE" data_type: TYPE_FP32 dims: [ 1 ] }')
    with pytest.raises(InferError, match="a canary of model 'model' must have the inputs of the version"):
        await world.repository.load("model")
    assert await world.ask_many(3) == {1.0: 3}
    assert world.told()[1][1].startswith("the last load failed: ")


async def test_an_ensemble_meets_one_version_from_start_to_end(world: World, write_model: Write) -> None:
    """It asks the model twice for each request."""
    write_model("over", OVER)
    await world.repository.load("over")
    world.write(1, 2.0, said(share=0.5, min_requests=1000))
    await world.repository.load("model")
    answers = []
    for _ in range(8):
        tensor = Tensor.from_numpy(np.array([0], np.float32))
        reply = OneReply()
        world.repository.find("over").infer(Request("over", inputs={"IN": tensor}), reply)
        outputs = (await asyncio.wait_for(reply, 20)).outputs
        answers.append(tuple(float(outputs[name].numpy()[0]) for name in ("OUT", "AGAIN")))
    assert sorted(answers) == [(1.0, 1.0)] * 4 + [(2.0, 2.0)] * 4


async def test_a_new_version_whose_instances_all_break_is_rolled_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write(1, 2.0, said(share=0.5))
    await world.repository.load("model")
    (trial,) = world.repository.rollouts
    monkeypatch.setattr(world.repository._builder._serving, "is_alive", lambda each: each is not trial.new)
    await until(lambda: not list(world.repository.rollouts))
    assert await world.ask_many(4) == {1.0: 4}
    assert world.told()[1][1] == "canary was rolled back: every instance of it broke for good"


@pytest.mark.parametrize(
    ("parameter", "value", "words"),
    [
        ("share", "2", "must be a number from 0 to 1, got '2'"),
        ("share", "a tenth", "must be a number from 0 to 1"),
        ("min_requests", "0", "must be a whole number above 0"),
        ("parameter", "=x", "must be the name of a request parameter"),
        ("shares", "0.1", "unknown parameter 'canary.shares'"),
    ],
)
async def test_parameters_that_make_no_sense_are_told(
    world: World, parameter: str, value: str, words: str
) -> None:
    world.write(1, 2.0, said(**{parameter: value}))
    with pytest.raises(InferError):
        await world.repository.load("model")
    assert words in world.told()[1][1]
    assert "config.pbtxt" in world.told()[1][1]


async def test_sequences_are_not_tried(world: World) -> None:
    world.write(1, 2.0, said(share=0.5) + "sequence_batching { }")
    with pytest.raises(InferError):
        await world.repository.load("model")
    assert "whose requests come in sequences" in world.told()[1][1]
