"""More or fewer instances of a model, while requests go on and nothing is loaded anew."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from deuteron.actors.reply import OneReply
from deuteron.actors.repository import Repository
from deuteron.actors.seating import Place, rearrange
from deuteron.backends.device import HOST
from deuteron.backends.private_directory import Override
from deuteron.proto.config.json_form import to_json
from deuteron.proto.errors import InferError
from deuteron.proto.message import Correlation, Request
from deuteron.proto.tensor import Tensor

from .asking import until

Write = Callable[..., Path]
Open = Callable[..., Awaitable[Repository]]

# It notes who comes and goes, and holds a request of negative numbers until the file `.go` is there.
NOTES = """
import pathlib, time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.here = pathlib.Path(args["model_repository"])
        if (self.here / ".refuse").exists():
            raise RuntimeError("no more of us")
        self.note(".came")
        self.seen = 0.0

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        values = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        while values[0] < 0 and not (self.here / ".go").exists():
            time.sleep(0.002)
        self.seen += float(values[0])
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", values * 0 + self.seen)])

    def finalize(self):
        self.note(".went")

    def note(self, what):
        with (self.here / what).open("a") as notes:
            notes.write("x")
"""
CONFIG = """
backend: "python"
input [{ name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }]
output [{ name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }]
"""
SEQUENCES = "sequence_batching { STRATEGY max_sequence_idle_microseconds: 60000000 }"


def groups(*counts: int) -> str:
    """Return instance groups of so many instances each."""
    told = ", ".join(f"{{ kind: KIND_CPU count: {count} }}" for count in counts)
    return f"instance_group [ {told} ]"


def request(value: float = 1.0, correlation: Correlation | None = None) -> Request:
    return Request(
        "notes", inputs={"IN": Tensor.from_numpy(np.array([value], np.float32))}, correlation=correlation
    )


class Noted:
    """A model that notes its instances, in a repository."""

    def __init__(self, directory: Path, repository: Repository) -> None:
        self.directory = directory
        self.repository = repository

    @property
    def came_and_went(self) -> tuple[int, int]:
        """How many instances have come, and how many went."""
        came, went = (self.directory / name for name in (".came", ".went"))
        return len(came.read_text()), len(went.read_text()) if went.exists() else 0

    async def load(self, config: str) -> None:
        """Load the model with other words in its configuration."""
        (self.directory / "config.pbtxt").write_text(CONFIG + config)
        await self.repository.load("notes")

    async def ask(self, value: float = 1.0, correlation: Correlation | None = None) -> float:
        """Ask the model; return the sum of all that its instance has seen."""
        reply = OneReply()
        self.repository.find("notes").infer(request(value, correlation), reply)
        return float((await asyncio.wait_for(reply, 20)).outputs["OUT"].numpy()[0])


@pytest.fixture
async def noted(write_model: Write, open_repository: Open) -> Noted:
    """Write the model, and load it with two instances."""
    directory = write_model("notes", CONFIG + groups(2))
    (directory / "1" / "model.py").write_text(NOTES)
    repository = await open_repository()
    assert repository.ready, repository.index()
    return Noted(directory, repository)


CPU = Place("a_0", HOST)


def test_instances_stay_where_they_can_and_under_their_names_where_these_are_wanted() -> None:
    there = {0: CPU, 1: Place("a_1", HOST), 2: Place("b_0", HOST, nature=b"other")}
    wanted = [Place("a_1", HOST), Place("c_0", HOST, nature=b"other"), Place("c_1", HOST, nature=b"other")]
    change = rearrange(there, wanted)
    assert change.kept == {1: wanted[0], 2: wanted[1]}
    assert change.left == [0]
    assert change.added == [wanted[2]]


def test_a_new_name_costs_no_instance() -> None:
    change = rearrange({0: CPU}, [Place("z_0", HOST)])
    assert (change.kept, change.left, change.added) == ({0: Place("z_0", HOST)}, [], [])


# --- a model that serves ---


async def test_more_and_fewer_instances_cost_no_reload(noted: Noted) -> None:
    before = noted.repository.find("notes")
    await noted.load(groups(4))
    assert noted.came_and_went == (4, 0)
    await noted.load(groups(1))
    assert noted.came_and_went == (4, 3)
    await noted.load(groups(1, 1))
    assert noted.came_and_went == (5, 3)
    assert noted.repository.find("notes") is before
    assert [group.count for group in before.config.instance_groups] == [1, 1]
    assert await noted.ask()
    await noted.repository.unload("notes")
    await until(lambda: noted.came_and_went == (5, 5))


async def test_any_other_change_is_a_reload(noted: Noted) -> None:
    before = noted.repository.find("notes")
    await noted.load(groups(3) + "max_batch_size: 4")
    assert noted.repository.find("notes") is not before
    await until(lambda: noted.came_and_went == (5, 2))


async def test_a_change_of_files_as_well_is_a_reload(noted: Noted) -> None:
    before = noted.repository.find("notes")
    (noted.directory / "1" / "more.txt").touch()
    await noted.load(groups(3))
    assert noted.repository.find("notes") is not before


async def test_instances_may_be_changed_by_what_the_server_itself_tells_of_the_model(noted: Noted) -> None:
    """It has more in it than the file, as it is completed and normalised, and yet means the same."""
    before = noted.repository.find("notes")
    told = to_json(before.config.message)
    told["instance_group"][0]["count"] = 3
    await noted.repository.load("notes", Override(json.dumps(told)))
    assert noted.repository.find("notes") is before
    assert noted.came_and_went == (3, 0)


async def test_nothing_changes_where_one_of_the_new_ones_cannot_be_had(noted: Noted) -> None:
    (noted.directory / ".refuse").touch()
    with pytest.raises(InferError, match="no more of us"):
        await noted.load(groups(4))
    assert [group.count for group in noted.repository.find("notes").config.instance_groups] == [2]
    assert noted.came_and_went == (2, 0)
    assert await noted.ask()
    (noted.directory / ".refuse").unlink()
    await noted.load(groups(4))
    assert noted.came_and_went == (4, 0)


async def test_instances_that_nobody_can_have_are_refused(noted: Noted) -> None:
    with pytest.raises(InferError, match="KIND_GPU"):
        await noted.load("instance_group { kind: KIND_GPU count: 1 }")
    assert await noted.ask()


async def test_more_instances_serve_at_once_though_the_old_ones_are_busy(noted: Noted) -> None:
    """The only instance holds eight requests in its lane; a ninth is answered by the new one."""
    await noted.load(groups(1))
    held = [asyncio.create_task(noted.ask(-1.0)) for _ in range(8)]
    await until(lambda: noted.repository.find("notes").statistics.pending == 0)
    await noted.load(groups(2))
    assert await noted.ask() == 1.0
    (noted.directory / ".go").touch()
    await asyncio.gather(*held)
    assert noted.came_and_went[0] == 3


async def test_an_instance_that_leaves_answers_what_it_was_given(noted: Noted) -> None:
    held = [asyncio.create_task(noted.ask(-1.0)) for _ in range(2)]
    await until(lambda: noted.repository.find("notes").statistics.pending == 0)
    fewer = asyncio.create_task(noted.load(groups(1)))
    late = asyncio.create_task(noted.ask())
    await asyncio.sleep(0)
    (noted.directory / ".go").touch()
    await asyncio.gather(*held, late, fewer)
    assert noted.came_and_went == (2, 1)


async def test_no_request_fails_while_instances_come_and_go(noted: Noted) -> None:
    """Thirty changes under a stream of requests from eight clients."""
    done = asyncio.Event()

    async def keep_asking() -> int:
        asked = 0
        while not done.is_set():
            await noted.ask()
            asked += 1
        return asked

    clients = [asyncio.create_task(keep_asking()) for _ in range(8)]
    for count in (1, 3, 2, 5, 1, 4) * 5:
        await noted.load(groups(count))
    done.set()
    assert min(await asyncio.gather(*clients)) > 0
    came, went = noted.came_and_went
    assert came - went == 4


@pytest.mark.parametrize("strategy", ["direct { }", "oldest { max_candidate_sequences: 4 }"])
async def test_a_sequence_stays_to_its_end_on_an_instance_that_is_to_leave(
    noted: Noted, strategy: str
) -> None:
    """Two sequences live on two instances; new ones begin on the one that came in the place of both."""
    sequences = SEQUENCES.replace("STRATEGY", strategy)
    await noted.load(sequences + groups(2))
    await until(lambda: noted.came_and_went == (4, 2))
    (noted.directory / ".came").write_text("")
    (noted.directory / ".went").write_text("")
    for id_ in (1, 2):
        assert await noted.ask(10.0 * id_, Correlation(id_, start=True)) == 10.0 * id_
    await noted.load(sequences + 'instance_group { kind: KIND_CPU count: 1 host_policy: "other" }')
    assert noted.came_and_went == (1, 0)
    assert await noted.ask(5.0, Correlation(3, start=True)) == 5.0
    assert await noted.ask(1.0, Correlation(1)) == 11.0
    assert noted.came_and_went == (1, 0)
    assert await noted.ask(1.0, Correlation(2, end=True)) == 21.0
    await until(lambda: noted.came_and_went == (1, 1))
    assert await noted.ask(1.0, Correlation(1, end=True)) == 12.0
    await until(lambda: noted.came_and_went == (1, 2))
    assert await noted.ask(1.0, Correlation(3, end=True)) == 6.0


async def test_a_model_may_end_while_an_instance_is_still_held_by_a_sequence(noted: Noted) -> None:
    sequences = SEQUENCES.replace("STRATEGY", "direct { }")
    await noted.load(sequences + groups(2))
    await noted.ask(1.0, Correlation(1, start=True))
    await noted.load(sequences + 'instance_group { kind: KIND_CPU count: 1 host_policy: "other" }')
    await noted.repository.unload("notes")
    await noted.repository.close()
    came, went = noted.came_and_went
    assert came == went
