"""Models that are loaded when they are asked for, in too little room for all of them."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from deuteron.actors import waking
from deuteron.actors.loading import LoadOptions
from deuteron.actors.reply import OneReply
from deuteron.actors.repository import Repository
from deuteron.actors.residency import OnDemand
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import Request
from deuteron.proto.tensor import Tensor

from .asking import until

Open = Callable[..., Awaitable[Repository]]

MIB = 1 << 20

# It notes who comes and goes, and what it takes is written beside it: see `Scales`.
MODEL = """
import pathlib
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.here = pathlib.Path(args["model_repository"])
        if (self.here / ".refuse").exists():
            raise RuntimeError("no room at the inn")
        self.note(".came")

    def execute(self, requests):
        while (self.here / ".hold").exists():
            time.sleep(0.002)
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUT", pb_utils.get_input_tensor_by_name(each, "IN").as_numpy())]
            )
            for each in requests
        ]

    def finalize(self):
        self.note(".went")

    def note(self, what):
        with (self.here / what).open("a") as notes:
            notes.write("x")
"""
CONFIG = """
backend: "python"
parameters { key: "in_process" value { string_value: "true" } }
input [{ name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }]
output [{ name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }]
"""


class World:
    """Models of ten MiB each, as they are weighed here."""

    def __init__(self, directory: Path, open_: Open) -> None:
        self.directory = directory
        self._open = open_

    def write(self, *names: str) -> None:
        """Write models; their code runs in this process, where it comes and goes more quickly."""
        for name in names:
            version = self.directory / name / "1"
            version.mkdir(parents=True)
            (version / "model.py").write_text(MODEL)
            (version.parent / "config.pbtxt").write_text(CONFIG)

    async def open(self, *names: str, room: int = 0, kept: tuple[str, ...] = ()) -> None:
        """Open the repository with these models and room for so many of them, or for all."""
        self.write(*names)
        options = OnDemand(room * 10 * MIB, frozenset(kept))
        self.repository = await self._open(None, LoadOptions(on_demand=options))
        assert self.repository.waking is not None
        self.waking = self.repository.waking

    async def ask(self, name: str) -> float:
        tensor = Tensor.from_numpy(np.array([7], np.float32))
        reply = OneReply()
        self.repository.find(name).infer(Request(name, inputs={"IN": tensor}), reply)
        return float((await asyncio.wait_for(reply, 20)).outputs["OUT"].numpy()[0])

    def count(self, name: str, what: str) -> int:
        notes = self.directory / name / what
        return len(notes.read_text()) if notes.exists() else 0

    def awake(self) -> set[str]:
        """Return who has come more often than it went."""
        names = (each.name for each in self.directory.iterdir() if each.is_dir())
        return {name for name in names if self.count(name, ".came") > self.count(name, ".went")}


@pytest.fixture
def world(tmp_path: Path, open_repository: Open, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose scales weigh ten MiB for each model that is awake, whatever else this process does."""
    made = World(tmp_path, open_repository)
    monkeypatch.setattr(waking, "resident_bytes", lambda: len(made.awake()) * 10 * MIB)
    return made


async def test_nothing_is_loaded_before_it_is_asked_for(world: World) -> None:
    await world.open("a", "b")
    assert world.repository.ready
    assert world.awake() == set()
    assert {entry.state for entry in world.repository.index()} == {"READY"}
    assert world.repository.find("a").config.inputs[0].name == "IN"
    assert await world.ask("a") == 7.0
    assert world.awake() == {"a"}


async def test_many_requests_wake_a_model_once(world: World) -> None:
    await world.open("a")
    assert set(await asyncio.gather(*(world.ask("a") for _ in range(50)))) == {7.0}
    assert world.count("a", ".came") == 1
    assert world.repository.find("a").statistics.success.count == 50
    assert world.repository.find("a").statistics.pending == 0


async def test_the_least_recently_used_sleeps_to_make_room(world: World) -> None:
    await world.open("a", "b", "c", room=2)
    for name in ("a", "b", "a", "c"):
        await world.ask(name)
    assert world.awake() == {"a", "c"}
    await world.ask("b")
    assert world.awake() == {"b", "c"}
    assert (world.waking.hits, world.waking.misses, world.waking.evictions) == (1, 4, 2)
    assert world.waking.used_bytes == 20 * MIB


async def test_statistics_go_on_over_a_sleep(world: World) -> None:
    await world.open("a", "b", room=1)
    for name in ("a", "b", "a", "b", "a"):
        await world.ask(name)
    assert world.repository.find("a").statistics.success.count == 3


async def test_who_is_at_work_is_not_sent_to_sleep(world: World) -> None:
    """The newcomer waits until somebody has done."""
    await world.open("a", "b", room=1)
    (world.directory / "a" / ".hold").touch()
    held = asyncio.create_task(world.ask("a"))
    await until(lambda: world.awake() == {"a"})
    waiting = asyncio.create_task(world.ask("b"))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    assert world.awake() == {"a"}
    (world.directory / "a" / ".hold").unlink()
    assert set(await asyncio.gather(held, waiting)) == {7.0}
    assert world.awake() == {"b"}


async def test_what_is_kept_is_there_at_once_and_stays(world: World) -> None:
    await world.open("a", "b", "c", room=1, kept=("c",))
    assert world.awake() == {"c"}
    for name in ("a", "b", "c", "a"):
        await world.ask(name)
    assert world.awake() == {"a", "c"}
    assert world.count("c", ".came") == 1


async def test_a_model_that_cannot_be_woken_says_why_and_is_left_in_peace_for_a_while(world: World) -> None:
    await world.open("a")
    (world.directory / "a" / ".refuse").touch()
    with pytest.raises(InferError, match=r"model 'a' could not be loaded on demand: .*no room") as caught:
        await world.ask("a")
    assert caught.value.fault is Fault.UNAVAILABLE
    (world.directory / "a" / ".refuse").unlink()
    with pytest.raises(InferError, match="no room"):
        await world.ask("a")
    assert world.waking.misses == 1


async def test_requests_that_were_cancelled_while_it_woke_are_answered_too(world: World) -> None:
    await world.open("a")
    request = Request("a", inputs={"IN": Tensor.from_numpy(np.array([7], np.float32))})
    reply = OneReply()
    version = world.repository.find("a")
    version.infer(request, reply)
    version.cancel(request)
    with pytest.raises(InferError) as caught:
        await asyncio.wait_for(reply, 20)
    assert caught.value.fault is Fault.CANCELLED
    assert await world.ask("a") == 7.0


async def test_a_reload_serves_those_who_wait_and_lets_the_old_one_go(world: World) -> None:
    await world.open("a")
    await world.ask("a")
    (world.directory / "a" / "1" / "more.txt").touch()
    await world.repository.load("a")
    assert await world.ask("a") == 7.0
    await until(lambda: world.count("a", ".went") == 1)


@pytest.mark.parametrize("asleep", [True, False])
async def test_a_model_may_be_unloaded_asleep_or_awake(world: World, asleep: bool) -> None:
    await world.open("a", "b")
    if not asleep:
        await world.ask("a")
    await world.repository.unload("a")
    with pytest.raises(InferError):
        world.repository.find("a")
    await until(
        lambda: ("UNAVAILABLE", "unloaded") in {(e.state, e.reason) for e in world.repository.index()}
    )
    assert world.awake() == set()
    assert len(world.waking._books) == 0


async def test_ensembles_wake_what_they_are_made_of(world: World) -> None:
    world.write("a", "b")
    (world.directory / "both" / "1").mkdir(parents=True)
    (world.directory / "both" / "config.pbtxt").write_text("""
        platform: "ensemble"
        input [{ name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }]
        output [{ name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }]
        ensemble_scheduling { step [
          { model_name: "a" model_version: -1
            input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "between" } },
          { model_name: "b" model_version: -1
            input_map { key: "IN" value: "between" } output_map { key: "OUT" value: "OUT" } }
        ] }""")
    await world.open(room=1)
    assert await world.ask("both") == 7.0
    assert world.awake() == {"b"}
    assert await world.ask("both") == 7.0


async def test_a_house_closes_though_models_wake(world: World) -> None:
    await world.open("a", "b", room=1)
    asked = [asyncio.create_task(world.ask(name)) for name in ("a", "b", "a", "b")]
    await asyncio.sleep(0)
    await world.repository.close()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert all(each == 7.0 or isinstance(each, InferError) for each in outcomes)
    assert world.awake() == set()


async def test_twenty_models_in_room_for_five_serve_zipf_traffic_as_a_simulated_lru_would(
    world: World,
) -> None:
    """Three hundred requests: none fails, and the share that finds its model awake is LRU's."""
    names = [f"m{number:02}" for number in range(20)]
    await world.open(*names, room=5)
    rng = random.Random(1)
    asked = rng.choices(names, [1 / (rank + 1) for rank in range(20)], k=300)
    inside: OrderedDict[str, None] = OrderedDict()
    hits = 0
    for name in asked:
        hits += name in inside
        inside[name] = None
        inside.move_to_end(name)
        if len(inside) > 5:
            inside.popitem(last=False)
    for name in asked:
        assert await world.ask(name) == 7.0
        assert len(world.awake()) <= 5
    assert world.waking.hits == hits
    assert world.waking.misses == 300 - hits
