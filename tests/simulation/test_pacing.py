"""Instances of different speed in virtual time: random worlds, every invariant after every event."""

import random
from dataclasses import dataclass, field
from typing import Final

import pytest

from deuteron.actors.batching import DynamicBatcher
from deuteron.actors.clock import MICROSECOND, MILLISECOND, Instant, Nanoseconds
from deuteron.actors.one_by_one import OneByOne
from deuteron.actors.pacing import FastestFirst
from deuteron.actors.schedule import Dispatch, InstanceId, Job, Reject
from deuteron.proto.config.model_config import DynamicBatching, QueuePolicy
from deuteron.proto.message import Request

from .arena import Nowhere

WORLDS: Final = 10_000
CHUNKS: Final = 10
EVENTS: Final = 40


@dataclass
class World:
    """A schedule, instances of any speed that sometimes hang, and the fate of every request."""

    rng: random.Random
    now: Instant = 0
    credits: list[InstanceId] = field(default_factory=list)
    busy: dict[InstanceId, tuple[Instant, list[Job]]] = field(default_factory=dict)
    broken: list[InstanceId] = field(default_factory=list)
    fates: dict[str, list[str]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the schedule; every instance comes."""
        rng = self.rng
        self.limit = rng.randint(1, 16)
        self.delay_us = rng.choice((0, 0, 300))
        self.ordered = rng.random() < 0.3
        self.one_by_one = rng.random() < 0.2
        policy = QueuePolicy(default_timeout_us=rng.choice((0, 0, 3_000)))
        batching = DynamicBatching(
            preferred_batch_sizes=(self.limit,), max_queue_delay_us=self.delay_us, default_queue_policy=policy
        )
        shapes = rng.choice((1, 3))
        batcher = DynamicBatcher(batching, self.limit, lambda request: int(request.id) * 7 % 5 % shapes)
        if self.one_by_one:
            self.limit, self.delay_us = 1, 0
        self.schedule = FastestFirst(
            OneByOne() if self.one_by_one else batcher, self.limit, ordered=self.ordered
        )
        self.cost: dict[InstanceId, Nanoseconds] = {
            instance: rng.choice((1, 1, 10, 100)) * 100 * MICROSECOND for instance in range(rng.randint(2, 4))
        }
        self.broken = list(self.cost)
        while self.broken:
            self.come_back()

    # --- what may happen ---

    def arrive(self) -> None:
        """A request comes."""
        name = str(len(self.fates))
        request = Request("m", id=name, batch_size=self.rng.randint(1, self.limit))
        self.jobs[name] = Job(request, Nowhere(), self.now)
        self.fates[name] = []
        self.schedule.admit(self.jobs[name], self.now)

    def withdraw(self) -> None:
        """A random caller goes away."""
        waiting = [name for name, fate in self.fates.items() if not fate]
        if waiting:
            name = self.rng.choice(waiting)
            if self.schedule.withdraw(self.jobs[name].request) is not None:
                self.fates[name].append("withdrawn")

    def pass_time(self) -> None:
        """Time passes: to the next thing that happens, or only a random while."""
        steps = [end for end, _ in self.busy.values()]
        wake = self.schedule.wake_at()
        steps += [wake] if wake is not None else []
        self.now = max(self.now, min([*steps, self.now + self.rng.randint(1, 2 * MILLISECOND)]))
        for instance, (end, jobs) in list(self.busy.items()):
            if end <= self.now:
                del self.busy[instance]
                self.credits.append(instance)
                self.schedule.finished(instance, self.now)
                self.meet(jobs, "answered")

    def lose(self) -> None:
        """A busy instance breaks."""
        if self.busy:
            instance = self.rng.choice(list(self.busy))
            _, jobs = self.busy.pop(instance)
            self.broken.append(instance)
            self.meet(jobs, "failed")
            assert not self.schedule.lost(instance)

    def come_back(self) -> None:
        """A broken instance returns."""
        if self.broken:
            instance = self.broken.pop()
            self.schedule.returned(instance)
            self.credits.append(instance)

    # --- what must hold ---

    def plan(self) -> None:
        """Ask for orders, obey them, and hold them against what was promised."""
        for order in self.schedule.plan(tuple(self.credits), self.now):
            match order:
                case Reject(job):
                    self.meet([job], "rejected")
                case Dispatch(instance, jobs):
                    self.credits.remove(instance)
                    self.dispatch(instance, list(jobs))
        self.schedule.check()
        waiting = self.waiting()
        assert len(waiting) == len(self.schedule)
        if waiting and self.credits:
            wake = self.schedule.wake_at()
            assert wake is not None, "jobs and credit are there, and nobody will look again"
            assert wake > self.now
            young = all(self.now < job.queued + self.delay_us * MICROSECOND for job in waiting)
            assert self.busy or young, "nothing runs, and nothing was cut"

    def dispatch(self, instance: InstanceId, jobs: list[Job]) -> None:
        """Check a batch against its bounds and the order of those that are ordered, then let it run."""
        assert jobs
        assert instance not in self.busy, "an instance runs two batches"
        assert self.one_by_one or sum(job.request.batch_size for job in jobs) <= self.limit
        assert len({job.signature for job in jobs}) == 1
        assert not any(self.fates[job.request.id] for job in jobs), "an answered request runs"
        served = [int(job.request.id) for job in jobs]
        assert served == sorted(served), "the batch is not in order"
        if self.ordered:
            left = {int(job.request.id) for job in self.waiting()} - set(served)
            assert not left & set(range(served[0])), "somebody was overtaken"
        hangs = self.rng.random() < 0.02
        took = self.cost[instance] * len(jobs) * (1_000 if hangs else 1)
        self.busy[instance] = (self.now + self.rng.randint(took // 2 + 1, took), jobs)

    def waiting(self) -> list[Job]:
        """Return the jobs that have met no fate and are on no instance."""
        running = {job.request.id for _, jobs in self.busy.values() for job in jobs}
        return [job for name, job in self.jobs.items() if not self.fates[name] and name not in running]

    def meet(self, jobs: list[Job], fate: str) -> None:
        """Let jobs meet their fate."""
        for job in jobs:
            self.fates[job.request.id].append(fate)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_request_is_served_once_whatever_the_speeds(chunk: int) -> None:
    """Random arrivals, withdrawals, speeds, hangs and breakages; nobody is held for ever."""
    for seed in range(chunk * WORLDS // CHUNKS, (chunk + 1) * WORLDS // CHUNKS):
        world = World(random.Random(seed))
        deeds = (world.arrive,) * 5 + (world.pass_time,) * 4 + (world.withdraw, world.lose, world.come_back)
        for _ in range(EVENTS):
            world.rng.choice(deeds)()
            world.plan()
        while len(world.schedule) or world.busy:
            world.come_back()
            world.pass_time()
            world.plan()
        unmet = {name: fate for name, fate in world.fates.items() if len(fate) != 1}
        assert not unmet, f"seed {seed}: {unmet}"
