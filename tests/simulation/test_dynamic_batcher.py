"""The dynamic batcher in virtual time: random worlds, every invariant after every event, marks at the end."""

import random
from dataclasses import dataclass, field

import pytest

from deuteron.actors.batching import DynamicBatcher
from deuteron.actors.clock import MICROSECOND, MILLISECOND, Instant
from deuteron.actors.schedule import Dispatch, InstanceId, Job, Reject
from deuteron.proto.config.model_config import DynamicBatching, QueuePolicy, TimeoutAction
from deuteron.proto.errors import InferError
from deuteron.proto.message import Request, Response

WORLDS = 10_000
CHUNKS = 10
EVENTS = 40


class Nowhere:
    """A reply nobody reads: the world counts fates itself."""

    def send(self, response: Response) -> None:
        """Drop the response."""


@dataclass
class World:
    """A batcher, instances that take random times, and the fate of every request."""

    rng: random.Random
    batching: DynamicBatching
    limit: int
    credits: list[InstanceId]
    shapes: int
    now: Instant = 0
    busy: dict[InstanceId, tuple[Instant, list[Job]]] = field(default_factory=dict)
    fates: dict[str, list[str]] = field(default_factory=dict)
    deadlines: dict[str, Instant] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the batcher; the shape of a request is a number derived from its id."""
        self.batcher = DynamicBatcher(
            self.batching, self.limit, lambda request: int(request.id) * 7 % 5 % self.shapes
        )

    def arrive(self) -> None:
        """One request comes, of random size, shape, priority and patience."""
        name = str(len(self.fates))
        request = Request(
            "m",
            id=name,
            batch_size=self.rng.randint(1, self.limit),
            priority=self.rng.randint(0, 4),
            timeout_us=self.rng.choice((0, 0, 50, 500)),
        )
        job = Job(request, Nowhere(), self.now)
        self.fates[name] = []
        try:
            self.batcher.admit(job, self.now)
        except InferError as error:
            self.fates[name].append("refused")
            refusal = error.message
        else:
            refusal = ""
        assert not refusal or refusal.endswith("Exceeds maximum queue size")
        if job.deadline is not None:
            self.deadlines[name] = job.deadline

    def withdraw(self) -> None:
        """A random caller goes away."""
        waiting = list(self.batcher)
        if waiting:
            request = self.rng.choice(waiting).request
            job = self.batcher.withdraw(request)
            assert job is not None
            assert job.request is request
            assert self.batcher.withdraw(request) is None
            self.fates[request.id].append("withdrawn")

    def pass_time(self) -> None:
        """Time passes: to the next thing that happens, or a random while where nothing does."""
        steps = [end for end, _ in self.busy.values()]
        wake = self.batcher.wake_at()
        steps += [wake] if wake is not None else []
        soon = self.now + self.rng.randint(1, 2 * MILLISECOND)
        self.now = max(self.now, min([*steps, soon]))
        for instance, (end, jobs) in list(self.busy.items()):
            if end <= self.now:
                self.end(instance, jobs, "answered")

    def lose(self) -> None:
        """A busy instance breaks: its batch fails, and it returns at once."""
        if self.busy:
            instance = self.rng.choice(list(self.busy))
            self.end(instance, self.busy[instance][1], "failed")

    def end(self, instance: InstanceId, jobs: list[Job], fate: str) -> None:
        """Give an instance its credit back and its jobs their fate."""
        del self.busy[instance]
        self.credits.append(instance)
        for job in jobs:
            self.fates[job.request.id].append(fate)

    def plan(self) -> None:
        """Ask for orders, obey them, and hold them against what was promised."""
        for order in self.batcher.plan(tuple(self.credits), self.now):
            match order:
                case Reject(job, error, reason):
                    assert (error.message, reason) == ("Request timeout expired", "REJECTED")
                    assert self.now >= self.deadlines[job.request.id]
                    self.fates[job.request.id].append("rejected")
                case Dispatch(instance, jobs):
                    self.credits.remove(instance)
                    self.dispatch(instance, list(jobs))
        self.batcher.check()
        waiting = list(self.batcher)
        if self.credits and waiting:
            wake = self.batcher.wake_at()
            aged_at = min(job.queued for job in waiting) + self.batching.max_queue_delay_us * MICROSECOND
            assert wake is not None, "jobs and credit are there, and nobody will look again"
            assert self.now < wake <= aged_at, "the window is over and nothing was cut"

    def dispatch(self, instance: InstanceId, jobs: list[Job]) -> None:
        """Check a batch against its bounds and against who was left behind, then let it run."""
        assert jobs
        assert sum(job.request.batch_size for job in jobs) <= self.limit
        assert len({job.signature for job in jobs}) == 1
        assert not [job for job in jobs if self.fates[job.request.id]], "an answered request runs"
        served = [self.rank(job) for job in jobs]
        assert served == sorted(served), "the batch is not in order of service"
        left = [self.rank(job) for job in self.batcher]
        assert not left or served[-1] <= min(left), "somebody was overtaken"
        self.busy[instance] = (self.now + self.rng.randint(1, MILLISECOND), jobs)

    def rank(self, job: Job) -> tuple[int, bool, int]:
        """Return the place of a job in order of service; those delayed have no order among themselves."""
        delayed = self.deadlines.get(job.request.id, self.now + 1) <= self.now
        return job.level, delayed, 0 if delayed else int(job.request.id)


def random_world(seed: int) -> World:
    """Return a world with a random configuration."""
    rng = random.Random(seed)
    limit = rng.randint(1, 16)
    levels = rng.choice((0, 0, 1, 3))
    batching = DynamicBatching(
        preferred_batch_sizes=tuple(sorted(rng.sample(range(1, limit + 1), rng.randint(1, min(3, limit))))),
        max_queue_delay_us=rng.choice((0, 0, 100, 1_000)),
        priority_levels=levels,
        default_priority_level=rng.randint(1, levels) if levels else 0,
        default_queue_policy=random_policy(rng),
        priority_queue_policy={
            level: random_policy(rng) for level in range(1, levels + 1) if rng.random() < 0.5
        },
    )
    return World(rng, batching, limit, list(range(rng.randint(1, 3))), shapes=rng.choice((1, 1, 3)))


def random_policy(rng: random.Random) -> QueuePolicy:
    """Return a random queue policy, often none at all."""
    if rng.random() < 0.5:
        return QueuePolicy()
    return QueuePolicy(
        timeout_action=rng.choice(tuple(TimeoutAction)),
        default_timeout_us=rng.choice((0, 200, 2_000)),
        allow_timeout_override=rng.random() < 0.5,
        max_queue_size=rng.choice((0, 3, 10)),
    )


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_admitted_request_meets_exactly_one_fate_and_every_promise_is_kept(chunk: int) -> None:
    """Random arrivals, withdrawals, breakages and time: bounds, shapes, order and wake-ups hold."""
    for seed in range(chunk * WORLDS // CHUNKS, (chunk + 1) * WORLDS // CHUNKS):
        world = random_world(seed)
        deeds = (
            world.arrive,
            world.arrive,
            world.arrive,
            world.pass_time,
            world.pass_time,
            world.withdraw,
            world.lose,
        )
        for _ in range(EVENTS):
            world.rng.choice(deeds)()
            world.plan()
        for _ in range(10 * EVENTS):
            if not len(world.batcher) and not world.busy:
                break
            world.pass_time()
            world.plan()
        unmet = {name: fate for name, fate in world.fates.items() if len(fate) != 1}
        assert not unmet, f"seed {seed}: {unmet}"


def test_a_rule_of_the_model_closes_a_batch() -> None:
    """Requests of odd and of even size do not mix, whoever else would fit."""
    batcher = DynamicBatcher(
        DynamicBatching(preferred_batch_sizes=(8,)),
        8,
        None,
        lambda batch, request: batch[0].batch_size % 2 == request.batch_size % 2,
    )
    for size in (1, 1, 3, 2, 2, 1):
        batcher.admit(Job(Request("m", batch_size=size), Nowhere(), 0), 0)
    batches = []
    for now in range(3):
        for order in batcher.plan((0,), now):
            assert isinstance(order, Dispatch)
            batches.append([job.request.batch_size for job in order.jobs])
        batcher.check()
    assert batches == [[1, 1, 3], [2, 2], [1]]


def test_a_rule_that_lets_nobody_join_stops_nobody() -> None:
    batcher = DynamicBatcher(DynamicBatching(preferred_batch_sizes=(8,)), 8, None, lambda *_: False)
    for _ in range(3):
        batcher.admit(Job(Request("m"), Nowhere(), 0), 0)
    orders = [order for order in batcher.plan((0, 1, 2), 0) if isinstance(order, Dispatch)]
    assert [len(order.jobs) for order in orders] == [1, 1, 1]
