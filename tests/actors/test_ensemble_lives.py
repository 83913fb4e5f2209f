"""Ensembles stand and fall with the models they are made of."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from deuteron.actors.dependents import ensembles_over, find_circle
from deuteron.actors.repository import Repository
from deuteron.proto.errors import InferError
from deuteron.proto.message import Request, Response

Write = Callable[..., Path]
Open = Callable[..., Awaitable[Repository]]
Infer = Callable[[Repository, str, Request], Awaitable[Response]]
Ask = Callable[..., Request]

OTHER_TYPE = """
backend: "identity"
max_batch_size: 8
input [{ name: "INPUT0" data_type: TYPE_INT32 dims: [ -1 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_INT32 dims: [ -1 ] }]
"""


def chain(first: str, second: str) -> str:
    """Return the configuration of two models in a row."""
    return f"""
platform: "ensemble"
max_batch_size: 8
input [{{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }}]
output [{{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }}]
ensemble_scheduling {{ step [
  {{ model_name: "{first}" model_version: -1
    input_map {{ key: "INPUT0" value: "INPUT0" }} output_map {{ key: "OUTPUT0" value: "between" }} }},
  {{ model_name: "{second}" model_version: -1
    input_map {{ key: "INPUT0" value: "between" }} output_map {{ key: "OUTPUT0" value: "OUTPUT0" }} }}
] }}
"""


@pytest.fixture
def models(write_model: Write) -> None:
    """Write `chain` over `one` and `two`, and `upper` over `chain` and `two`."""
    write_model("one")
    write_model("two")
    write_model("chain", chain("one", "two"))
    write_model("upper", chain("chain", "two"))


def states(repository: Repository) -> dict[str, tuple[str, str]]:
    return {entry.name: (entry.state, entry.reason) for entry in repository.index()}


async def settled(repository: Repository) -> dict[str, tuple[str, str]]:
    """Return the states once nothing drains any more."""
    async with asyncio.timeout(10):
        while any(state == "UNLOADING" for state, _ in states(repository).values()):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    return states(repository)


READY = ("READY", "")
UNLOADED = ("UNAVAILABLE", "unloaded")
NEVER = ("", "")


@pytest.mark.usefixtures("models")
async def test_an_ensemble_takes_its_models_along(open_repository: Open, infer: Infer, ask: Ask) -> None:
    """One load of the uppermost loads all below it."""
    repository = await open_repository([])
    await repository.load("upper")
    assert set(states(repository).values()) == {READY}
    assert (await infer(repository, "upper", ask())).outputs


@pytest.mark.usefixtures("models")
async def test_an_ensemble_leaves_with_a_model_and_comes_back_with_it(
    open_repository: Open, infer: Infer, ask: Ask
) -> None:
    """Unloaded are those over it, at whatever height; loaded again they all are there again."""
    repository = await open_repository()
    await repository.unload("one")
    gone = await settled(repository)
    assert gone == {"chain": UNLOADED, "one": UNLOADED, "two": READY, "upper": UNLOADED}
    assert repository.ready
    await repository.load("one")
    assert set(states(repository).values()) == {READY}
    assert (await infer(repository, "upper", ask())).outputs


@pytest.mark.usefixtures("models")
async def test_a_model_that_was_unloaded_is_not_brought_back_by_another(open_repository: Open) -> None:
    """The ensembles over both wait for it."""
    repository = await open_repository()
    await repository.unload("one")
    await repository.unload("two")
    await repository.load("two")
    assert await settled(repository) == {"chain": UNLOADED, "one": UNLOADED, "two": READY, "upper": UNLOADED}
    await repository.load("one")
    assert set(states(repository).values()) == {READY}


@pytest.mark.usefixtures("models")
async def test_an_ensemble_that_was_unloaded_itself_does_not_come_back(open_repository: Open) -> None:
    """Nobody wants it any more, whatever becomes of its models."""
    repository = await open_repository()
    await repository.unload("upper")
    await repository.unload("one")
    await repository.load("one")
    assert await settled(repository) == {"chain": READY, "one": READY, "two": READY, "upper": UNLOADED}


async def test_requests_after_a_reload_see_the_new_model(
    models: None, write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    """A composing model is replaced under the ensemble."""
    repository = await open_repository()
    directory = write_model("one")
    (directory / "1" / "weights").write_text("new")
    await repository.load("one")
    assert (await infer(repository, "chain", ask())).outputs
    assert repository.find("one").statistics.inference_count == 1


async def test_an_ensemble_that_does_not_fit_any_more_leaves_until_it_does(
    models: None, write_model: Write, open_repository: Open
) -> None:
    """Another datatype between the steps takes the ensembles out; the right one brings them back."""
    repository = await open_repository()
    write_model("one", OTHER_TYPE)
    await repository.load("one")
    assert await settled(repository) == {"chain": UNLOADED, "one": READY, "two": READY, "upper": UNLOADED}
    assert repository.ready
    write_model("one")
    await repository.load("one")
    assert set(states(repository).values()) == {READY}


@pytest.mark.usefixtures("models")
async def test_without_being_told_an_unload_leaves_the_parts(open_repository: Open) -> None:
    """The models of an ensemble stay when it goes."""
    repository = await open_repository([])
    await repository.load("chain")
    await repository.unload("chain")
    assert await settled(repository) == {"chain": UNLOADED, "one": READY, "two": READY, "upper": NEVER}


@pytest.mark.usefixtures("models")
async def test_parts_that_nobody_asked_for_and_nobody_needs_leave_with_the_ensemble(
    open_repository: Open,
) -> None:
    """The one that a client loaded itself stays."""
    repository = await open_repository([])
    await repository.load("upper")
    await repository.load("one")
    await repository.unload("upper", dependents=True)
    assert await settled(repository) == {
        "chain": UNLOADED,
        "one": READY,
        "two": UNLOADED,
        "upper": UNLOADED,
    }


@pytest.mark.usefixtures("models")
async def test_parts_that_another_ensemble_needs_stay(open_repository: Open) -> None:
    """`chain` goes on, and so does all that it needs."""
    repository = await open_repository([])
    await repository.load("upper")
    await repository.load("chain")
    await repository.unload("upper", dependents=True)
    assert await settled(repository) == {"chain": READY, "one": READY, "two": READY, "upper": UNLOADED}


async def test_a_part_that_cannot_load_is_named_in_triton_s_words(
    models: None, write_model: Write, open_repository: Open
) -> None:
    """The reason of the part is told by the ensemble."""
    write_model("one", OTHER_TYPE + 'parameters { key: "fail_load" value { string_value: "no" } }')
    repository = await open_repository([])
    with pytest.raises(InferError) as failed:
        await repository.load("chain")
    assert failed.value.message == (
        "load failed for model 'chain': ensemble 'chain' depends on 'one' which has no loaded version. "
        "Model 'one' loading failed with error: version 1 is at UNAVAILABLE state: Internal: no;\n"
    )
    write_model("one")
    await repository.load("one")
    assert states(repository)["chain"] == READY  # it is still wanted


@pytest.mark.usefixtures("models")
async def test_all_at_once_ends_well(open_repository: Open, infer: Infer, ask: Ask) -> None:
    """Loads and unloads of models that depend on each other never wait for each other in a circle."""
    repository = await open_repository()
    names = ("one", "two", "chain", "upper")
    async with asyncio.timeout(30):
        await asyncio.gather(
            *(
                repository.unload(names[number % 4], dependents=number % 5 == 0)
                if number % 3 == 0
                else repository.load(names[number % 4])
                for number in range(60)
            ),
            return_exceptions=True,
        )
        await repository.load("upper")
    assert (await infer(repository, "upper", ask())).outputs


# --- the graph alone ---


def test_a_circle_is_found_wherever_it_lies() -> None:
    steps = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": ["e"], "e": ["c"]}
    assert find_circle(steps, "a") == ("a", "b", "d", "e", "c", "d")
    assert find_circle({"a": ["a"]}, "a") == ("a", "a")


def test_where_there_is_no_circle_none_is_found_in_little_time() -> None:
    """Forty models, each made of the next one twice over: 2⁴⁰ ways lead down."""
    steps = {str(each): [f"{each}l", f"{each}r"] for each in range(40)}
    steps |= {f"{each}{side}": [str(each + 1)] for each in range(40) for side in "lr"}
    assert find_circle(steps, "0") == ()


def test_ensembles_are_found_by_any_of_their_steps() -> None:
    steps = {"b": ("x", "y"), "a": ("x",), "c": ("a",)}
    assert set(ensembles_over(steps, "x")) == {"a", "b"}
    assert ensembles_over(steps, "nobody") == []
