"""The sequence batcher in virtual time: random worlds, every promise held against every order."""

import random
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pytest

from deuteron.actors.clock import MICROSECOND, MILLISECOND, Instant
from deuteron.actors.direct import DirectSequences
from deuteron.actors.oldest import OldestSequences
from deuteron.actors.schedule import Dispatch, Forget, InstanceId, Job, Reject
from deuteron.actors.schedules import schedule_of
from deuteron.proto.config import ModelConfig
from deuteron.proto.config.normalise import normalise
from deuteron.proto.config.text import parse_text
from deuteron.proto.errors import InferError
from deuteron.proto.message import Correlation, Request, Response
from deuteron.proto.tensor import Tensor

WORLDS = 10_000
CHUNKS = 10
EVENTS = 50

NO_START: Final = "must specify the START flag on the first request of the sequence"
IMPATIENT: Final = "timeout of the corresponding sequence has been expired"

CONFIG = """
name: "m" backend: "b" max_batch_size: {limit}
input {{ name: "X" data_type: TYPE_INT32 dims: -1 }} output {{ name: "Y" data_type: TYPE_INT32 dims: -1 }}
sequence_batching {{
  {strategy}
  max_sequence_idle_microseconds: {idle}
  control_input {{ name: "START" control {{ kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] }} }}
  control_input {{ name: "READY" control {{ kind: CONTROL_SEQUENCE_READY bool_false_true: [ 0, 1 ] }} }}
  control_input {{ name: "CORRID" control {{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 }} }}
}}
"""


class Nowhere:
    """A reply nobody reads: the world counts fates itself."""

    def send(self, response: Response) -> None:
        """Drop the response."""


@dataclass(slots=True)
class Told:
    """What the world expects of one sequence, from its START on."""

    id: int | str
    last_seen: Instant
    names: list[str] = field(default_factory=list)
    begun: Instant = 0
    place: tuple[InstanceId, int] | None = None
    """Instance, and the row where that means something; None until it was served first."""
    placed: Instant = 0


@dataclass
class World:
    """A schedule, instances that take random times and break, clients with few ids, and every fate."""

    rng: random.Random
    config: ModelConfig
    now: Instant = 0
    credits: list[InstanceId] = field(default_factory=list)
    busy: dict[InstanceId, tuple[Instant, list[Job]]] = field(default_factory=dict)
    broken: list[InstanceId] = field(default_factory=list)
    leaving: dict[InstanceId, Instant] = field(default_factory=dict)
    """The instances that were told to leave, and when."""
    gone: set[InstanceId] = field(default_factory=set)
    """Those that were let go while a batch of theirs still runs."""
    fates: dict[str, list[str]] = field(default_factory=dict)
    told_of: dict[str, Told] = field(default_factory=dict)
    """The sequence of each request."""
    live: dict[int | str, Told] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    slots: dict[int, int | None] = field(default_factory=dict)
    """The slot that each sequence told the model."""
    seated: dict[tuple[InstanceId, int | None], Told] = field(default_factory=dict)
    """Who was served last in each slot and may still be remembered there."""

    def __post_init__(self) -> None:
        """Make the schedule; every instance returns at once."""
        batching = self.config.sequence_batching
        assert batching is not None
        self.is_direct = not batching.HasField("oldest")
        self.limit = max(1, self.config.max_batch_size)
        self.idle = batching.max_sequence_idle_microseconds * MICROSECOND
        made = schedule_of(self.config, {})
        assert isinstance(made, DirectSequences | OldestSequences)
        self.schedule = made
        self.broken = list(range(self.rng.randint(1, 3)))
        while self.broken:
            self.come_back()

    # --- what may happen ---

    def arrive(self) -> None:
        """A request comes, of one of few ids, that a client may use wrongly."""
        id_ = self.rng.choice((1, 2, 3, 4, 5, "1", "a"))
        name = str(len(self.fates))
        told = self.live.get(id_)
        start = told is None if self.rng.random() < 0.9 else self.rng.random() < 0.5
        if told is not None and self.now - told.last_seen >= self.idle:
            start = False  # whether it is forgotten is the question
        end = self.rng.random() < 0.25
        width = self.rng.choice((1, 1, 1, 2))
        request = Request(
            "m",
            id=name,
            inputs={"X": Tensor.from_numpy(np.zeros((1, width), np.int32))},
            correlation=Correlation(id_, start, end),
            timeout_us=self.rng.choice((0, 0, 0, 300, 2_000)),
        )
        job = Job(request, Nowhere(), self.now)
        self.jobs[name] = job
        self.fates[name] = []
        refusal = self.refusal_of(job)
        if refusal:
            self.fates[name].append("refused")
            assert refusal.endswith(NO_START)
            assert not start
            assert told is None or self.now - told.last_seen >= self.idle, "a live sequence was refused"
            self.live.pop(id_, None)
            return
        if told is None:
            assert start, "a sequence began without START"
            told = self.live[id_] = Told(id_, self.now, begun=self.now)
        assert self.now < self.idle_at(told) or told.place is None, "an idle sequence was not forgotten"
        told.last_seen = self.now
        told.names.append(name)
        self.told_of[name] = told
        if end:
            del self.live[id_]

    def refusal_of(self, job: Job) -> str:
        """Send a job and return why it is refused, if it is."""
        try:
            self.schedule.admit(job, self.now)
        except InferError as error:
            return error.message
        return ""

    def withdraw(self) -> None:
        """A random caller goes away."""
        waiting = [name for name, fate in self.fates.items() if not fate]
        if not waiting:
            return
        name = self.rng.choice(waiting)
        request = self.jobs[name].request
        request.cancelled = True
        job = self.schedule.withdraw(request)
        if job is None:
            assert any(job.request is request for _, jobs in self.busy.values() for job in jobs)
            return
        assert job.request is request
        assert self.schedule.withdraw(request) is None
        self.fates[name].append("withdrawn")
        self.let_go(self.told_of[name])

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
                if instance in self.gone:
                    self.gone.discard(instance)
                    self.broken.append(instance)
                else:
                    self.credits.append(instance)
                self.meet(jobs, "answered")

    def lose(self) -> None:
        """A busy instance breaks: its batch fails, and its sequences are over."""
        running = [each for each in self.busy if each not in self.gone]
        if not running:
            return
        instance = self.rng.choice(running)
        _, jobs = self.busy.pop(instance)
        self.broken.append(instance)
        self.leaving.pop(instance, None)
        self.meet(jobs, "failed")
        lost = self.schedule.lost(instance)
        self.seated = {place: told for place, told in self.seated.items() if place[0] != instance}
        self.meet(lost, "lost")
        for told in list(self.live.values()):
            if told.place is not None and told.place[0] == instance:
                self.let_go(told)
        for job in lost:
            self.let_go(self.told_of[job.request.id])

    def retire(self) -> None:
        """An instance is told to leave."""
        there = {*self.credits, *self.busy} - self.leaving.keys() - self.gone
        if there:
            instance = self.rng.choice(sorted(there))
            self.leaving[instance] = self.now
            self.schedule.retire(instance)

    def let_leave(self) -> None:
        """Whoever is to leave goes as soon as no sequence is bound to it."""
        for instance in [each for each in self.leaving if not self.schedule.holds(each)]:
            del self.leaving[instance]
            assert not self.schedule.lost(instance), "a request was bound to an instance that nothing holds"
            if instance in self.busy:
                self.gone.add(instance)
            else:
                self.credits.remove(instance)
                self.broken.append(instance)

    def come_back(self) -> None:
        """A broken instance returns, or one that left."""
        if self.broken:
            instance = self.broken.pop()
            self.schedule.returned(instance)
            self.credits.append(instance)

    # --- what must hold ---

    def plan(self) -> None:
        """Ask for orders, obey them, and hold them against what was promised."""
        self.let_leave()
        for order in self.schedule.plan(tuple(self.credits), self.now):
            match order:
                case Reject(job, error, reason):
                    self.see_rejected(job, error, reason)
                case Dispatch(instance, jobs, empty_rows):
                    self.credits.remove(instance)
                    self.dispatch(instance, list(jobs), empty_rows)
                case Forget(instance, correlation_id, slot):
                    told = self.seated.pop((instance, slot))
                    idle = self.now >= told.last_seen + self.idle
                    assert idle or told not in self.live.values(), "a living sequence was called abandoned"
                    assert told.id == correlation_id
        self.let_leave()
        self.schedule.check()
        running = {job.request.id for _, jobs in self.busy.values() for job in jobs}
        waiting = [name for name, fate in self.fates.items() if not fate and name not in running]
        assert len(waiting) == len(self.schedule)
        wake = self.schedule.wake_at()
        assert not waiting or not self.credits or self.busy or wake is not None, "nobody will look again"
        for told in self.live.values():
            if told.place is not None and self.now < told.last_seen + self.idle:
                assert wake is not None
                assert wake <= self.idle_at(told), "an idle sequence would keep its slot"

    def see_rejected(self, job: Job, error: InferError, reason: str) -> None:
        """A rejection is the end of a cancelled sequence, or of one that lost its patience in the backlog."""
        name = job.request.id
        told = self.told_of[name]
        if reason == "CANCELED":
            assert any(self.fates[each] == ["withdrawn"] for each in told.names)
        else:
            assert (error.message, reason) == (IMPATIENT, "REJECTED")
            assert told.place is None, "a sequence in a slot lost its patience"
            asked = [self.jobs[each] for each in told.names if self.jobs[each].request.timeout_us]
            due = min(each.queued + each.request.timeout_us * MICROSECOND for each in asked)
            assert due <= self.now
            assert self.fates[name] == []
        self.fates[name].append("rejected")
        self.let_go(told)

    def dispatch(self, instance: InstanceId, jobs: list[Job], empty_rows: int) -> None:
        """Check a batch row by row, then let it run."""
        assert instance not in self.busy, "an instance runs two batches"
        assert 0 < len(jobs) <= self.limit
        real = [job for job in jobs if not job.empty_row]
        assert len(jobs) - len(real) == empty_rows
        assert real
        assert len({job.request.inputs["X"].shape for job in jobs}) == 1
        assert self.is_direct or not empty_rows
        sequences = [id(self.told_of[job.request.id]) for job in real]
        assert len(sequences) == len(set(sequences)), "two requests of a sequence share a batch"
        for row, job in enumerate(jobs):
            ready = bool(job.request.inputs["READY"].numpy().all())
            assert ready is not job.empty_row
            assert job.request.inputs["READY"].shape == job.request.inputs["CORRID"].shape == (1, 1)
            if not job.empty_row:
                self.see_served(job, instance, row if self.is_direct else 0)
        self.busy[instance] = (self.now + self.rng.randint(1, MILLISECOND), real)

    def see_served(self, job: Job, instance: InstanceId, row: int) -> None:
        """A request runs in its turn, at the place of its sequence, and says what it is."""
        name = job.request.id
        correlation = job.request.correlation
        assert correlation is not None
        told = self.told_of[name]
        assert not self.fates[name], "an answered request runs"
        before = told.names[: told.names.index(name)]
        assert all(self.fates[each] for each in before), "a request overtook one of its sequence"
        assert told.place in (None, (instance, row)), "a sequence moved"
        assert self.slots.setdefault(id(told), job.request.sequence_slot) == job.request.sequence_slot
        assert job.request.sequence_slot == row or not self.is_direct
        before_here = self.seated.get((instance, job.request.sequence_slot), told)
        assert before_here is told or correlation.start, "a slot remembers another sequence"
        self.seated[instance, job.request.sequence_slot] = told
        if told.place is None:
            told.place, told.placed = (instance, row), self.now
            assert told.begun <= self.leaving.get(instance, self.now), "a sequence began on one that leaves"
        assert before or correlation.start, "a sequence began without START"
        assert bool(job.request.inputs["START"].numpy().all()) is correlation.start

    def idle_at(self, told: Told) -> Instant:
        """Return when a sequence that was served is idle for too long."""
        return max(told.last_seen, told.placed) + self.idle

    def let_go(self, told: Told) -> None:
        """Forget an id, if it still means this sequence."""
        for id_, each in list(self.live.items()):
            if each is told:
                del self.live[id_]

    def has_ended(self, told: Told) -> bool:
        """Tell whether the model has heard the END of a sequence."""
        served = (self.jobs[name].request for name in told.names if self.fates[name] == ["answered"])
        return any(request.correlation is not None and request.correlation.end for request in served)

    def meet(self, jobs: list[Job], fate: str) -> None:
        """Let jobs meet their fate."""
        for job in jobs:
            self.fates[job.request.id].append(fate)


def random_world(seed: int) -> World:
    """Return a world with a random configuration."""
    rng = random.Random(seed)
    patient = "direct { max_queue_delay_microseconds: 500 minimum_slot_utilization: 0.6 }"
    candidates, delay = rng.randint(1, 6), rng.choice((0, 200))
    oldest = f"oldest {{ max_candidate_sequences: {candidates} max_queue_delay_microseconds: {delay} }}"
    strategy = rng.choice(("", patient, oldest, oldest))
    text = CONFIG.format(limit=rng.randint(1, 4), strategy=strategy, idle=rng.choice((1_000, 5_000, 10**6)))
    message, _ = parse_text(text.encode(), "config.pbtxt")
    return World(rng, ModelConfig.from_message(normalise(message)))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_request_of_every_sequence_is_answered_once_and_at_its_place(chunk: int) -> None:
    """Random requests, withdrawals, breakages, leaves and time: slots, order, controls and timeouts hold."""
    for seed in range(chunk * WORLDS // CHUNKS, (chunk + 1) * WORLDS // CHUNKS):
        world = random_world(seed)
        arrive, pass_time = world.arrive, world.pass_time
        deeds = [arrive] * 6 + [pass_time] * 4 + [world.withdraw, world.lose, world.come_back]
        deeds += [world.retire] * (seed % 2)
        for _ in range(EVENTS):
            world.rng.choice(deeds)()
            world.plan()
        while len(world.schedule) or world.busy:
            world.come_back()
            world.pass_time(hasten=True)
            world.plan()
        while world.schedule.wake_at() is not None:
            world.pass_time(hasten=True)
            world.plan()
        remembered = [told for told in world.seated.values() if not world.has_ended(told)]
        assert not remembered, f"seed {seed}: an instance was never told that {remembered[0]} is abandoned"
        unmet = {name: fate for name, fate in world.fates.items() if len(fate) != 1}
        assert not unmet, f"seed {seed}: {unmet}"
