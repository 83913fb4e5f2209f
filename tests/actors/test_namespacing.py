"""Equal names in two repositories: two models, of which ensembles mean the nearer and clients neither."""

import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from deuteron.actors.dependents import resolve
from deuteron.actors.loading import LoadOptions
from deuteron.actors.polling import Watch, first_watch, look
from deuteron.actors.repository import Repository
from deuteron.backends.catalog import Catalog
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import Request, Response
from deuteron.proto.model_id import ModelId

Infer = Callable[[Repository, str, Request], Awaitable[Response]]
Ask = Callable[..., Request]

STEP = """
backend: "identity"
max_batch_size: 8
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
parameters { key: "where" value { string_value: "WHERE" } }
"""
OVER_STEP = """
platform: "ensemble"
max_batch_size: 8
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
ensemble_scheduling { step [
  { model_name: "step" model_version: -1
    input_map { key: "INPUT0" value: "INPUT0" } output_map { key: "OUTPUT0" value: "OUTPUT0" } }
] }
"""


def write(repository: Path, name: str, config: str) -> None:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(config)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Two repositories, `left` and `right`: in each a `step`, and an ensemble over it of its own name."""
    found = [tmp_path / side for side in ("left", "right")]
    for path in found:
        write(path, "step", STEP.replace("WHERE", path.name))
        write(path, f"over_{path.name}", OVER_STEP)
    return found


@pytest.fixture
async def repository(paths: list[Path]) -> AsyncIterator[Repository]:
    """Both repositories, with nothing loaded yet."""
    async with Repository(paths, Catalog(), LoadOptions(namespacing=True)) as repository:
        yield repository


async def asked_steps(repository: Repository, infer: Infer, ask: Ask, ensemble: str) -> set[str]:
    """Ask an ensemble; return the repositories of the steps that counted a request."""
    before = {servable: servable.statistics.inference_count for servable in repository.served()}
    await infer(repository, ensemble, ask())
    return {
        Path(model.namespace).name
        for model, servable in repository.identified()
        if model.name == "step" and servable.statistics.inference_count > before[servable]
    }


def test_a_name_means_the_model_of_its_own_repository_and_else_the_only_one() -> None:
    left, right = ModelId("a", "left"), ModelId("a", "right")
    assert resolve(["a"], "left", {left, right}) == {"a": left}
    assert resolve(["a"], "left", {right}) == {"a": right}
    assert resolve(["a"], "other", {left, right}) == {}
    assert resolve(["a", "b"], "other", {left}) == {"a": left}


async def test_each_ensemble_has_the_step_of_its_own_repository(
    repository: Repository, infer: Infer, ask: Ask
) -> None:
    assert await repository.load_at_start(None) == []
    assert repository.ready
    assert await asked_steps(repository, infer, ask, "over_left") == {"left"}
    assert await asked_steps(repository, infer, ask, "over_right") == {"right"}
    assert [entry.name for entry in repository.index()] == ["over_left", "over_right", "step", "step"]


async def test_a_name_that_two_models_have_leads_to_neither(repository: Repository) -> None:
    await repository.load_at_start(None)
    with pytest.raises(InferError, match=r"There are 2 identifiers of model 'step' .* ambiguity") as caught:
        repository.find("step")
    assert caught.value.fault is Fault.INVALID_ARG
    with pytest.raises(InferError, match="'nobody' is not found") as caught:
        repository.find("nobody")
    assert caught.value.fault is Fault.INVALID_ARG


async def test_a_load_and_an_unload_concern_all_models_of_a_name(repository: Repository) -> None:
    await repository.load_at_start([])
    await repository.load("step")
    assert len(list(repository.served())) == 2
    await repository.unload("step")
    assert not list(repository.served())


async def test_a_name_leads_to_a_model_again_when_its_namesake_is_gone(
    repository: Repository, paths: list[Path], infer: Infer, ask: Ask
) -> None:
    """The ensemble that lost its step takes the other one, and returns to its own when that is back."""
    await repository.load_at_start(None)
    watch = await first_watch(repository)
    away = paths[0].parent / "away"

    shutil.move(paths[0] / "step", away)
    await follow(repository, watch)
    assert repository.find("step").config.parameters["where"] == "right"
    assert await asked_steps(repository, infer, ask, "over_left") == {"right"}

    shutil.move(away, paths[0] / "step")
    await follow(repository, watch)
    assert await asked_steps(repository, infer, ask, "over_left") == {"left"}
    with pytest.raises(InferError, match="ambiguity"):
        repository.find("step")


async def follow(repository: Repository, watch: Watch) -> None:
    """Look twice, and have the repository follow what has come to rest."""
    for _ in range(2):
        changes = watch.compare(look(repository.paths, namespacing=True))
        await repository.follow(changes.load, changes.unload)


async def test_an_ensemble_that_could_mean_two_models_of_others_means_neither(
    repository: Repository, paths: list[Path]
) -> None:
    write(paths[0], "over_other", OVER_STEP.replace('"step"', '"elsewhere"'))
    await repository.load_at_start(["step"])
    with pytest.raises(InferError, match="not available or ambiguous: elsewhere"):
        await repository.load("over_other")


async def test_without_namespacing_neither_is_served(paths: list[Path]) -> None:
    async with Repository(paths, Catalog(), LoadOptions()) as repository:
        assert await repository.load_at_start(None) == ["over_left", "over_right", "step"]
        reasons = {entry.name: entry.reason for entry in repository.index()}
    assert reasons["step"] == "model appears in two or more repositories"
    assert re.search("not available or ambiguous: step", reasons["over_left"])
