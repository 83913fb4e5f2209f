"""A repository of real identity models: loading, serving, failing, breaking, reloading, ending."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from deuteron.actors.reply import OneReply
from deuteron.actors.repository import Repository
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import Request, Response
from deuteron.proto.phases import VersionPhase

Write = Callable[..., Path]
Open = Callable[..., Awaitable[Repository]]
Infer = Callable[[Repository, str, Request], Awaitable[Response]]
Ask = Callable[..., Request]

BREAKS_EVERY_THIRD = """
backend: "identity"
max_batch_size: 8
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
parameters { key: "break_every" value { string_value: "3" } }
"""

SLOW = """
backend: "identity"
max_batch_size: 8
dynamic_batching { }
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
parameters { key: "execute_delay_ms" value { string_value: "100" } }
"""

CANNOT_LOAD = """
backend: "identity"
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] }]
parameters { key: "fail_load" value { string_value: "no weights today" } }
"""

TWICE_INVALID = """
backend: "identity"
max_batch_size: -1
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ 0 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] }]
"""

CHAIN = """
platform: "ensemble"
max_batch_size: 8
input [{ name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }]
output [{ name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }]
ensemble_scheduling { step [
  { model_name: "identity" model_version: -1
    input_map { key: "INPUT0" value: "IN" } output_map { key: "OUTPUT0" value: "between" } },
  { model_name: "second" model_version: -1
    input_map { key: "INPUT0" value: "between" } output_map { key: "OUTPUT0" value: "OUT" } }
] }
"""


async def test_a_model_is_loaded_and_answers(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    """What goes in comes out, and the statistics tell of it."""
    write_model("identity")
    repository = await open_repository()
    asked = ask(rows=3)
    response = await infer(repository, "identity", asked)
    np.testing.assert_array_equal(response.outputs["OUTPUT0"].numpy(), asked.inputs["INPUT0"].numpy())
    statistics = repository.find("identity").statistics
    assert (statistics.inference_count, statistics.execution_count) == (3, 1)
    assert statistics.success.count == 1
    assert statistics.batches[3].compute_infer.count == 1
    assert repository.ready


async def test_requests_that_wait_together_run_together(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    """While one batch runs the others gather, and then run as one."""
    write_model("identity", SLOW)
    repository = await open_repository()
    await asyncio.gather(*(infer(repository, "identity", ask()) for _ in range(9)))
    assert repository.find("identity").statistics.execution_count == 2


async def test_a_cancelled_request_harms_none_of_its_batch_mates(
    write_model: Write, open_repository: Open, ask: Ask
) -> None:
    """Withdrawn while it waits, it never runs; the others are answered."""
    write_model("identity", SLOW)
    repository = await open_repository()
    model = repository.find("identity")
    replies = [(asked := ask(), OneReply()) for _ in range(9)]
    model.infer(*replies[0])
    await asyncio.sleep(0.01)  # the first one runs now, alone
    for asked, reply in replies[1:]:
        model.infer(asked, reply)
    await asyncio.sleep(0)
    model.cancel(replies[4][0])
    with pytest.raises(InferError) as cancelled:
        await replies[4][1]
    assert cancelled.value.fault is Fault.CANCELLED
    for number, (_, reply) in enumerate(replies):
        if number != 4:
            assert "OUTPUT0" in (await reply).outputs
    assert model.statistics.failures["CANCELED"] == 1
    assert model.statistics.inference_count == 8


async def test_a_broken_engine_fails_its_batch_and_comes_back(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    """The request on the broken engine gets an error, those after it are served by a new one."""
    write_model("identity", BREAKS_EVERY_THIRD)
    repository = await open_repository()
    outcomes = []
    for _ in range(7):
        try:
            await infer(repository, "identity", ask())
            outcomes.append("served")
        except InferError as error:
            outcomes.append(error.fault.name)
    assert outcomes == ["served", "served", "INTERNAL", "served", "served", "INTERNAL", "served"]


async def test_jobs_behind_a_broken_engine_wait_for_the_new_one(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    """Requests already on their way to the lane that breaks are not lost."""
    write_model("identity", BREAKS_EVERY_THIRD)
    repository = await open_repository()
    outcomes = await asyncio.gather(
        *(infer(repository, "identity", ask()) for _ in range(6)), return_exceptions=True
    )
    assert [isinstance(outcome, InferError) for outcome in outcomes].count(True) == 2


async def test_an_engine_that_breaks_too_often_stays_away_and_the_version_says_so(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the restart budget is spent the version is UNAVAILABLE and the other models go on."""
    monkeypatch.setattr("deuteron.actors.instance.SECOND", 10**12)  # back-off in virtual haste
    write_model("identity")
    write_model("broken", BREAKS_EVERY_THIRD.replace('"3"', '"1"'))
    repository = await open_repository()
    for _ in range(6):
        with pytest.raises(InferError):
            await infer(repository, "broken", ask())
    await asyncio.sleep(0.05)
    (entry,) = [entry for entry in repository.index() if entry.name == "broken"]
    assert entry.state == VersionPhase.UNAVAILABLE.value
    assert "restart budget" in entry.reason
    assert not repository.ready
    assert (await infer(repository, "identity", ask())).outputs


async def test_a_model_that_cannot_load_is_in_the_index_with_its_reason(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    """One model fails to load; the index tells why and the others serve."""
    write_model("identity")
    write_model("hopeless", CANNOT_LOAD)
    repository = await open_repository()
    (entry,) = [entry for entry in repository.index() if entry.name == "hopeless"]
    assert entry.version == 1
    assert entry.state == "UNAVAILABLE"
    assert "no weights today" in entry.reason
    assert (await infer(repository, "identity", ask())).outputs
    assert not repository.ready


async def test_a_bad_configuration_is_reported_with_every_complaint_and_its_place(
    write_model: Write, open_repository: Open
) -> None:
    """Both mistakes are named, each with file, line and column."""
    directory = write_model("twice", TWICE_INVALID)
    repository = await open_repository()
    (entry,) = repository.index()
    assert entry.state == "UNAVAILABLE"
    for line in (3, 4):
        assert f"{directory / 'config.pbtxt'}:{line}:" in entry.reason


async def test_unknown_models_and_versions_are_told_apart(write_model: Write, open_repository: Open) -> None:
    """Triton's words for an unknown model, an unknown version and one that failed."""
    write_model("identity")
    write_model("hopeless", CANNOT_LOAD)
    repository = await open_repository()
    for name, version, fault, text in (
        ("nobody", -1, Fault.NOT_FOUND, "Request for unknown model: 'nobody' is not found"),
        ("identity", 7, Fault.NOT_FOUND, "Request for unknown model: 'identity' version 7 is not found"),
        ("hopeless", -1, Fault.NOT_FOUND, "Request for unknown model: 'hopeless' has no available versions"),
        (
            "hopeless",
            1,
            Fault.UNAVAILABLE,
            "Request for unknown model: 'hopeless' version 1 is not at ready state",
        ),
    ):
        with pytest.raises(InferError) as unknown:
            repository.find(name, version)
        assert (unknown.value.fault, unknown.value.message) == (fault, text)


async def test_an_ensemble_sends_tensors_from_model_to_model(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    """A chain of two models, loaded together in any order, whose parts count their own work."""
    write_model("a_chain", CHAIN)
    write_model("identity")
    write_model("second")
    repository = await open_repository()
    asked = ask(rows=2)
    tensor = asked.inputs.pop("INPUT0")
    asked.inputs["IN"] = tensor
    response = await infer(repository, "a_chain", asked)
    np.testing.assert_array_equal(response.outputs["OUT"].numpy(), tensor.numpy())
    for name in ("a_chain", "identity", "second"):
        assert repository.find(name).statistics.inference_count == 2


async def test_an_error_in_a_step_ends_the_ensemble_with_its_name(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    """The error of a step reaches the caller, prefixed; nothing hangs."""
    write_model("a_chain", CHAIN)
    write_model("identity")
    write_model("second", BREAKS_EVERY_THIRD.replace("break_every", "fail_every").replace('"3"', '"1"'))
    repository = await open_repository()
    asked = ask()
    asked.inputs["IN"] = asked.inputs.pop("INPUT0")
    with pytest.raises(InferError, match=r"^in ensemble 'a_chain', "):
        await infer(repository, "a_chain", asked)


async def test_a_circle_of_ensembles_is_refused(write_model: Write, open_repository: Open) -> None:
    """Two ensembles made of each other cannot load, and nothing waits for ever."""
    circle = CHAIN.replace('"identity"', '"other"')
    write_model("one", circle)
    write_model("other", circle.replace('"other"', '"one"'))
    write_model("second")
    repository = await open_repository()
    assert "circular dependency between ensembles" in repository.index()[0].reason


async def test_a_reload_swaps_without_losing_requests(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    """Requests on the old version are answered while the new one takes over."""
    write_model("identity", SLOW)
    repository = await open_repository()
    old = repository.find("identity")
    on_their_way = [asyncio.ensure_future(infer(repository, "identity", ask())) for _ in range(4)]
    await asyncio.sleep(0.01)
    (write_model("identity", SLOW) / "1" / "weights").write_text("new")
    await repository.load("identity")
    assert repository.find("identity") is not old
    assert (await infer(repository, "identity", ask())).outputs
    assert len(await asyncio.gather(*on_their_way)) == 4


async def test_unload_drains_and_leaves_the_reason(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    """What waited is answered, what comes later is refused, the index says `unloaded`."""
    write_model("identity", SLOW)
    repository = await open_repository()
    waiting = asyncio.ensure_future(infer(repository, "identity", ask()))
    await asyncio.sleep(0.01)
    await repository.unload("identity")
    with pytest.raises(InferError, match=r"has no available versions"):
        repository.find("identity")
    assert (await waiting).outputs
    await asyncio.sleep(0.05)
    assert [(entry.state, entry.reason) for entry in repository.index()] == [("UNAVAILABLE", "unloaded")]
    assert repository.ready


async def test_a_rule_of_the_model_decides_who_shares_a_batch(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    directory = write_model("slow", SLOW)
    (directory / "batchstrategy.py").write_text(
        "batch_strategy = lambda config: lambda batch, request: False"
    )
    repository = await open_repository()
    await asyncio.gather(*(infer(repository, "slow", ask()) for _ in range(4)))
    assert set(repository.find("slow").statistics.batches) == {1}
