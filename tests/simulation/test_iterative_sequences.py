"""Iterative sequences in virtual time: every request runs as many steps as its model wants, in one place."""

import random
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pytest

from deuteron.actors.clock import MICROSECOND, MILLISECOND, Instant
from deuteron.actors.schedule import Dispatch, InstanceId, Job, Reject
from deuteron.actors.schedules import schedule_of
from deuteron.proto.config import ModelConfig
from deuteron.proto.config.normalise import normalise
from deuteron.proto.config.text import parse_text
from deuteron.proto.errors import InferError
from deuteron.proto.message import Correlation, Request, Response
from deuteron.proto.tensor import Tensor

WORLDS: Final = 10_000
CHUNKS: Final = 10
EVENTS: Final = 40

CONFIG: Final = """
name: "m" backend: "b" max_batch_size: {limit}
input {{ name: "X" data_type: TYPE_INT32 dims: 1 }} output {{ name: "Y" data_type: TYPE_INT32 dims: 1 }}
sequence_batching {{
  {strategy} iterative_sequence: true
  max_sequence_idle_microseconds: {idle}
  control_input {{ name: "START" control {{ kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] }} }}
}}
"""


class Nowhere:
    """A reply nobody reads: the world counts fates itself."""

    def send(self, response: Response) -> None:
        """Drop the response."""


@dataclass(slots=True)
class Story:
    """What the world knows of one request."""

    job: Job
    steps: int
    """How many its model wants."""
    chosen: bool
    """Whether its client chose the ID, so that others may share its sequence."""
    done: int = 0
    place: tuple[InstanceId, int | None] | None = None
    fate: str = ""
    touched: Instant = 0
    """When it was admitted or resumed last."""


@dataclass
class World:
    """A schedule, instances that take random times and break, and the story of every request."""

    rng: random.Random
    config: ModelConfig
    now: Instant = 0
    credits: list[InstanceId] = field(default_factory=list)
    busy: dict[InstanceId, tuple[Instant, list[Job]]] = field(default_factory=dict)
    broken: list[InstanceId] = field(default_factory=list)
    stories: list[Story] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the schedule; every instance comes."""
        batching = self.config.sequence_batching
        assert batching is not None
        self.is_direct = not batching.HasField("oldest")
        self.limit = max(1, self.config.max_batch_size)
        self.idle = batching.max_sequence_idle_microseconds * MICROSECOND
        self.schedule = schedule_of(self.config, {})
        self.broken = list(range(self.rng.randint(1, 2)))
        while self.broken:
            self.come_back()

    def story(self, job: Job) -> Story:
        """Return the story of a job."""
        return self.stories[int(job.request.id)]

    # --- what may happen ---

    def arrive(self) -> None:
        """A request comes, most of them without an ID."""
        id_ = self.rng.choice((0, 0, 0, 0, 900, "a"))
        correlation = Correlation(id_, start=True, end=self.rng.random() < 0.3) if id_ else None
        inputs = {"X": Tensor.from_numpy(np.zeros((1, 1), np.int32))}
        request = Request("m", id=str(len(self.stories)), inputs=inputs, correlation=correlation)
        job = Job(request, Nowhere(), self.now)
        self.stories.append(Story(job, self.rng.randint(1, 4), bool(id_), touched=self.now))
        self.schedule.admit(job, self.now)

    def withdraw(self) -> None:
        """A random caller goes away."""
        alive = [story for story in self.stories if not story.fate]
        if alive:
            story = self.rng.choice(alive)
            request = story.job.request
            request.cancelled = True
            if self.schedule.withdraw(request) is not None:
                self.end(story, "withdrawn")

    def pass_time(self, *, hasten: bool = False) -> None:
        """Time passes: to the next thing that happens, or only a random while, but not in haste."""
        steps = [end for end, _ in self.busy.values()]
        wake = self.schedule.wake_at()
        steps += [wake] if wake is not None else []
        soon = self.now + self.rng.randint(1, 2 * MILLISECOND)
        self.now = max(self.now, min(steps if hasten and steps else [*steps, soon]))
        for instance, (end, jobs) in list(self.busy.items()):
            if end <= self.now:
                del self.busy[instance]
                self.credits.append(instance)
                for job in jobs:
                    self.ran(self.story(job))

    def lose(self) -> None:
        """A busy instance breaks: its batch fails, and its sequences are over."""
        if self.busy:
            instance = self.rng.choice(list(self.busy))
            _, jobs = self.busy.pop(instance)
            self.broken.append(instance)
            for job in (*jobs, *self.schedule.lost(instance)):
                self.end(self.story(job), "lost")

    def come_back(self) -> None:
        """A broken instance returns."""
        if self.broken:
            instance = self.broken.pop()
            self.schedule.returned(instance)
            self.credits.append(instance)

    # --- what must hold ---

    def ran(self, story: Story) -> None:
        """A step has run: the request is answered, or comes again unless it must not."""
        story.done += 1
        if story.done == story.steps:
            self.end(story, "answered")
            return
        refusal = self.refusal_of(story.job)
        if refusal is None:
            story.touched = self.now
            return
        cancelled = story.job.request.cancelled
        assert cancelled or refusal.endswith("START flag on the first request of the sequence")
        idle = self.now - story.touched >= self.idle
        assert cancelled or idle or story.chosen, "a step of a living sequence was refused"
        self.end(story, "refused")

    def refusal_of(self, job: Job) -> str | None:
        """Have a job come again; return why it may not."""
        try:
            self.schedule.resume(job, self.now)
        except InferError as error:
            return error.message
        return None

    def plan(self) -> None:
        """Ask for orders, obey them, and hold them against what was promised."""
        for order in self.schedule.plan(tuple(self.credits), self.now):
            match order:
                case Reject(job, _, reason):
                    assert reason == "CANCELED"
                    self.end(self.story(job), "rejected")
                case Dispatch(instance, jobs):
                    self.credits.remove(instance)
                    self.dispatch(instance, list(jobs))
        self.schedule.check()

    def dispatch(self, instance: InstanceId, jobs: list[Job]) -> None:
        """Check a batch row by row, then let it run."""
        assert 0 < len(jobs) <= self.limit
        real = [job for job in jobs if not job.empty_row]
        slots = [job.request.sequence_slot for job in real]
        assert len(slots) == len(set(slots)), "two requests of a sequence share a batch"
        for row, job in enumerate(jobs):
            if job.empty_row:
                continue
            story = self.story(job)
            assert not story.fate, "an answered request runs"
            place = instance, job.request.sequence_slot
            assert story.place in (None, place), "a sequence moved between its steps"
            assert place[1] == row or not self.is_direct
            story.place = place
            says_start = bool(job.request.inputs["START"].numpy().all())
            assert says_start is (story.done == 0), "only the first step is a START"
        mine = {story.place for story in self.stories if not story.fate and story.done and not story.chosen}
        started = [s for s in self.stories if not s.fate and s.done and not s.chosen]
        assert len(mine) == len(started), "two sequences share a slot"
        self.busy[instance] = (self.now + self.rng.randint(1, MILLISECOND), real)

    def end(self, story: Story, fate: str) -> None:
        """Let a request meet its fate, the only one."""
        assert not story.fate, f"{story.fate}, and now {fate}"
        story.fate = fate


def random_world(seed: int) -> World:
    """Return a world with a random configuration."""
    rng = random.Random(seed)
    oldest = f"oldest {{ max_candidate_sequences: {rng.randint(1, 4)} }}"
    text = CONFIG.format(
        limit=rng.randint(1, 4), strategy=rng.choice(("", oldest)), idle=rng.choice((1_000, 5_000, 10**6))
    )
    message, _ = parse_text(text.encode(), "config.pbtxt")
    return World(rng, ModelConfig.from_message(normalise(message)))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_request_runs_all_its_steps_in_one_place_or_is_told_why_not(chunk: int) -> None:
    """Random requests, steps, withdrawals, breakages and time; in the end every slot is free."""
    for seed in range(chunk * WORLDS // CHUNKS, (chunk + 1) * WORLDS // CHUNKS):
        world = random_world(seed)
        deeds = (world.arrive,) * 4 + (world.pass_time,) * 4 + (world.withdraw, world.lose, world.come_back)
        for _ in range(EVENTS):
            world.rng.choice(deeds)()
            world.plan()
        while len(world.schedule) or world.busy:
            world.come_back()
            world.pass_time(hasten=True)
            world.plan()
        assert all(story.fate for story in world.stories), f"seed {seed}"
        world.plan()
        for id_ in (*range(1, len(world.stories) + 1), 900, "a"):
            straggler = Job(Request("m", correlation=Correlation(id_)), Nowhere(), world.now)
            with pytest.raises(InferError, match="must specify the START flag"):
                world.schedule.admit(straggler, world.now)
