"""Models share what is short: their routers run instances as the gate lets them, and give everything back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from deuteron.actors.batching import DynamicBatcher
from deuteron.actors.gate import Gate
from deuteron.actors.loading import LoadOptions
from deuteron.actors.news import Drain, Finished, Lost, Returned
from deuteron.actors.one_by_one import OneByOne
from deuteron.actors.reply import OneReply
from deuteron.actors.repository import Repository
from deuteron.actors.router import Router
from deuteron.actors.schedule import Forget, InstanceId, Job, Schedule
from deuteron.actors.sharing import Claim, Sharing, Supply
from deuteron.actors.statistics import Statistics
from deuteron.proto.config.model_config import DynamicBatching
from deuteron.proto.message import Request, Response
from deuteron.proto.phases import VersionPhase
from deuteron.proto.tensor import Tensor

Write = Callable[..., Path]
Open = Callable[..., Awaitable[Repository]]

MODEL = """
backend: "identity"
max_batch_size: 8
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
instance_group [{ count: 2 kind: KIND_CPU rate_limiter { resources [{ name: "r" count: %d }] priority: %d } }]
"""
BREAKS = 'parameters { key: "break_every" value { string_value: "3" } }'


class Model:
    """A router whose instances do nothing until they are told that they have."""

    def __init__(self, sharing: Sharing, needs: Sequence[int], schedule: Schedule | None = None) -> None:
        self.instances = len(needs)
        self.gate = Gate(sharing)
        for number, need in enumerate(needs):
            self.gate.join(number, Claim({("r", 0): need}))
        self.router = Router(OneByOne() if schedule is None else schedule, self, Statistics())
        self.router.stand_behind(self.gate)
        self.running: list[tuple[InstanceId, Sequence[Job]]] = []

    def dispatch(self, instance: InstanceId, jobs: Sequence[Job]) -> None:
        self.running.append((instance, jobs))

    def forget(self, order: Forget) -> None:
        raise AssertionError("no sequences here")

    def post(self, count: int = 1) -> None:
        for _ in range(count):
            self.router.post(Job(Request("model"), Nobody(), 1))

    def finish(self) -> None:
        """Have the batch that runs longest end."""
        instance, _ = self.running.pop(0)
        self.router.signal(Finished(instance))


class Nobody:
    def send(self, response: Response) -> None:
        """Drop what comes."""


@asynccontextmanager
async def living(*models: Model) -> AsyncIterator[None]:
    """Let routers live, with all their instances there."""
    async with asyncio.TaskGroup() as group:
        for model in models:
            group.create_task(model.router.run())
            for number in range(model.instances):
                model.router.signal(Returned(number, 1))
        yield
        for model in models:
            model.router.signal(Drain())
        while any(model.running or model.router.outstanding for model in models):
            for model in models:
                for _ in tuple(model.running):
                    model.finish()
            await settle()


async def settle() -> None:
    """Let every router take the turns it has to take."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_two_models_take_turns_where_there_is_enough_for_one() -> None:
    sharing = Sharing()
    models = first, second = Model(sharing, [1, 1]), Model(sharing, [1, 1])
    async with living(*models):
        first.post(4)
        second.post(4)
        ran = []
        for _ in range(8):
            await settle()
            (runs,) = [model for model in models if model.running]
            assert len(runs.running) == 1
            ran.append("first" if runs is first else "second")
            sharing.check()
            runs.finish()
    assert ran.count("first") == ran.count("second") == 4
    assert "first first first" not in " ".join(ran)


async def test_what_is_released_goes_to_whoever_waits_also_in_another_model() -> None:
    sharing = Sharing([Supply("r", 3)])
    large, small = Model(sharing, [3]), Model(sharing, [1, 1])
    async with living(large, small):
        small.post(2)
        await settle()
        large.post(1)
        await settle()
        assert (len(small.running), len(large.running)) == (2, 0)
        small.post(2)
        small.finish()
        await settle()
        assert (len(small.running), len(large.running)) == (1, 0), "nobody passes by who needs much"
        small.finish()
        await settle()
        assert (len(small.running), len(large.running)) == (0, 1)


async def test_a_lost_instance_gives_back_what_it_held() -> None:
    sharing = Sharing()
    first, second = Model(sharing, [1, 1]), Model(sharing, [1, 1])
    async with living(first, second):
        first.post()
        await settle()
        second.post()
        await settle()
        assert not second.running
        ((instance, _),) = first.running
        first.running.clear()
        first.router.signal(Lost(instance))
        await settle()
        assert len(second.running) == 1


async def test_a_batch_grows_while_it_waits_for_resources() -> None:
    sharing = Sharing()
    batching = DynamicBatching(preferred_batch_sizes=(1, 2, 4), max_queue_delay_us=10_000_000)
    model = Model(sharing, [1, 1], DynamicBatcher(batching, 4, None))
    async with living(model):
        model.post()
        await settle()
        for _ in range(6):
            model.post()
            await settle()
        assert [len(jobs) for _, jobs in model.running] == [1]
        model.finish()
        await settle()
        assert [len(jobs) for _, jobs in model.running] == [4]


async def test_who_waits_for_company_keeps_nobody_from_running() -> None:
    sharing = Sharing()
    batching = DynamicBatching(preferred_batch_sizes=(4,), max_queue_delay_us=10_000_000)
    patient, other = Model(sharing, [1], DynamicBatcher(batching, 4, None)), Model(sharing, [1, 1])
    async with living(patient, other):
        patient.post()
        other.post()
        await settle()
        assert (len(patient.running), len(other.running)) == (0, 1)
        patient.post(3)
        await settle()
        other.finish()
        await settle()
        assert (len(patient.running), len(other.running)) == (1, 0)


# --- in a repository ---


def ask() -> Request:
    return Request("model", inputs={"INPUT0": Tensor.from_numpy(np.ones((1, 4), np.float32))})


async def answers(repository: Repository, name: str, count: int) -> int:
    """Ask so many times at once; return how many were answered well."""
    replies = [OneReply() for _ in range(count)]
    for reply in replies:
        repository.find(name).infer(ask(), reply)
    outcomes = await asyncio.wait_for(asyncio.gather(*replies, return_exceptions=True), 30)
    return sum(isinstance(each, Response) for each in outcomes)


async def test_limited_models_answer_everybody_and_leave_nothing_held(
    write_model: Write, open_repository: Open
) -> None:
    sharing = Sharing([Supply("r", 3)])
    for number, name in enumerate(("one", "two"), start=1):
        write_model(name, MODEL % (number + 1, number))
    repository = await open_repository(options=LoadOptions(sharing=sharing))
    assert await asyncio.gather(*(answers(repository, name, 50) for name in ("one", "two"))) == [50, 50]
    sharing.check()
    await repository.unload("one")
    assert await answers(repository, "two", 5) == 5


async def test_an_instance_that_breaks_gives_back_what_it_held(
    write_model: Write, open_repository: Open
) -> None:
    sharing = Sharing()
    write_model("breaks", MODEL % (2, 1) + BREAKS)
    write_model("whole", MODEL % (2, 1))
    repository = await open_repository(options=LoadOptions(sharing=sharing))
    assert 0 < await answers(repository, "breaks", 10) < 10
    assert await answers(repository, "whole", 10) == 10


async def test_a_model_that_could_never_run_does_not_load_and_leaves_nothing_behind(
    write_model: Write, open_repository: Open
) -> None:
    sharing = Sharing([Supply("r", 2)])
    write_model("large", MODEL % (3, 1))
    write_model("small", MODEL % (2, 1))
    repository = await open_repository(options=LoadOptions(sharing=sharing))
    large, small = repository.index()
    assert large.state == VersionPhase.UNAVAILABLE.value
    assert large.reason == (
        'Invalid argument: Resource count for "r" is limited to 2 which will prevent scheduling of one or '
        "more model instances, the minimum required count is 3"
    )
    assert small.state == VersionPhase.READY.value
    assert await answers(repository, "small", 10) == 10


async def test_nothing_is_limited_unless_the_operator_says_so(
    write_model: Write, open_repository: Open
) -> None:
    write_model("large", MODEL % (1_000_000, 1))
    assert await answers(await open_repository(), "large", 10) == 10


@pytest.mark.parametrize("priority", [0, 1, 3])
async def test_a_reload_takes_its_part_anew(write_model: Write, open_repository: Open, priority: int) -> None:
    sharing = Sharing()
    directory = write_model("model", MODEL % (2, priority))
    repository = await open_repository(options=LoadOptions(sharing=sharing))
    for weights in range(3):
        (directory / "1" / "weights").write_text(str(weights))
        await repository.load("model")
        assert await answers(repository, "model", 5) == 5
    sharing.check()
