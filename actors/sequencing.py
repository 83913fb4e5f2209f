"""Sequences of requests: who belongs to which, who has a slot, and who waits for one.

This is what the two strategies share, `direct` and `oldest`; what runs together is theirs to decide.

* A request names its sequence by a correlation ID: a number or a text, and 1 is not "1". The first must say
  START. END lets the ID go at once: whoever comes with it next begins another sequence.
* A START under an ID that is in use is served after what the earlier sequence still has, in the same slot.
* A sequence that finds no slot free waits in the *backlog* with all its requests, and gets one in its turn:
  first come, first served. Its requests may say how long they will wait there; when the first of them has
  lost patience, all are rejected.
* A sequence that has a slot and is idle for too long is *forgotten*: what it sent is served, but its ID is
  let go, and its slot with it. The time in the backlog does not count.
* Who cancels a request that waits cancels those behind it too, since the model would miss a step; in the
  backlog it is the whole sequence, of which no step was made yet.
* A sequence that was forgotten or cancelled is *abandoned*. When its slot is free its instance is told, if
  it has served any of it: whatever is remembered there is of no use any more.
* Where sequences are *durable*, any server may be asked to go on with one: a request without START, under an
  ID that nobody knows here, gets a slot like a START. The engine will find out what there is to go on with.
* In an *iterative* model a request is a sequence of steps: when it has run, the model may have it come again,
  before those behind it and no more as a START. A request without an ID is given one. The sequence ends when
  its last request has run its last step, whatever END says.
* When an instance breaks, what it remembered is lost: the requests of its sequences are rejected, and their
  IDs let go, so that clients begin anew rather than continue on nothing.

The rules are those of Triton's `sequence_batch_scheduler.cc`, with two differences to the good of clients: a
cancelled sequence is answered when it is cancelled and not when its turn comes, and the idle time of a
sequence from the backlog begins when it gets its slot.
"""

import heapq
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Final

from ..proto.config import ModelConfig
from ..proto.errors import Fault, InferError, invalid
from ..proto.message import Correlation, Request
from ..proto.sequence_controls import no_start
from .clock import MICROSECOND, Instant
from .one_by_one import QUEUE_CAPACITY, queue_full
from .schedule import Forget, InstanceId, Job, Reject, not_iterative
from .sequence_statistics import ABANDONED, ENDED, LOST, SequenceStatistics
from .slots import JobSequence, Slot, Slots

_IMPATIENT: Final = "timeout of the corresponding sequence has been expired"


class Sequencer:
    """The sequences of one model."""

    __slots__ = (
        "_alarms",
        "_backlog",
        "_durable",
        "_forgotten",
        "_generated",
        "_iterative",
        "_live",
        "_max_idle",
        "_model_name",
        "_rejected",
        "_statistics",
        "_stepping",
        "_tiebreak",
        "_vacated",
        "_waiting",
        "slots",
    )

    def __init__(
        self,
        config: ModelConfig,
        slots_per_instance: int,
        statistics: SequenceStatistics,
        *,
        durable: bool = False,
    ) -> None:
        assert config.sequence_batching is not None
        self._durable = durable
        self._statistics = statistics
        self._model_name = config.name
        self._max_idle = config.sequence_batching.max_sequence_idle_microseconds * MICROSECOND
        self._iterative = config.sequence_batching.iterative_sequence
        self._generated = count(1)
        self._live: dict[int | str, JobSequence] = {}
        self._backlog: dict[JobSequence, None] = {}
        self._alarms: list[tuple[Instant, int, JobSequence]] = []
        self._rejected: list[Reject] = []
        self._forgotten: list[Forget] = []
        self._stepping: dict[Job, JobSequence] = {}
        self._vacated: list[Slot] = []
        self._tiebreak = count()
        self._waiting = 0
        self.slots = Slots(slots_per_instance)

    def __len__(self) -> int:
        """Jobs that wait, in slots and in the backlog, and those whose rejection is not told yet."""
        return self._waiting + len(self._rejected)

    @property
    def backlogged(self) -> int:
        """Jobs that wait in the backlog."""
        return sum(len(sequence.jobs) for sequence in self._backlog)

    def admit(self, job: Job, now: Instant) -> None:
        """Take a job into its sequence; raises InferError where there is none, or no room."""
        request = job.request
        if request.batch_size > 1:
            raise invalid(
                f"inference request to model '{self._model_name}' must specify batch-size 1 due to "
                "requirements of sequence batcher"
            )
        correlation = request.correlation
        if self._iterative and (correlation is None or not correlation.id):
            correlation = request.correlation = Correlation(self._generate(), start=True)
        if correlation is None or not correlation.id:
            raise invalid(
                f"inference request to model '{self._model_name}' must specify a non-zero or non-empty "
                "correlation ID"
            )
        sequence = self._live.get(correlation.id)
        if sequence is None and not correlation.start and not self._durable:
            raise no_start(correlation.id, self._model_name)
        if self._waiting >= QUEUE_CAPACITY:
            raise queue_full(request)
        job.queued = now
        if sequence is None:
            sequence = self._live[correlation.id] = self._begin(correlation.id, now)
        sequence.jobs.append(job)
        sequence.last_seen = now
        self._waiting += 1
        if sequence.slot is None and request.timeout_us:
            impatient = now + request.timeout_us * MICROSECOND
            sequence.patience = min(sequence.patience or impatient, impatient)
        if correlation.end and not self._iterative:
            self._let_go(sequence)
        self._watch(sequence)

    def resume(self, job: Job, now: Instant) -> None:
        """Put a job that has run before the others of its sequence, for another step.

        Raises InferError where the model is not iterative, the sequence is over, or nobody waits any more.
        """
        if not self._iterative:
            raise not_iterative()
        sequence = self._stepping.get(job)
        if sequence is None or not sequence.open:
            raise no_start(job.request.correlation.id if job.request.correlation else 0, self._model_name)
        if job.request.cancelled:
            sequence.abandoned = not sequence.jobs
            raise InferError(Fault.CANCELLED, "")
        job.request.correlation = Correlation(sequence.id)
        job.queued = sequence.last_seen = now
        sequence.jobs.appendleft(job)
        self._waiting += 1
        self._watch(sequence)

    def note_steps(self, jobs: Iterable[Job], now: Instant) -> None:
        """Hear that jobs of an iterative model have run; those that are to come again were resumed before."""
        for job in jobs:
            sequence = self._stepping.pop(job)
            assert sequence.slot is not None
            sequence.slot.busy = False
            if not sequence.jobs:
                self._let_go(sequence)
            self.settle(sequence.slot, now)

    def withdraw(self, request: Request) -> Job | None:
        """Give back the waiting job of a request, if there is one; what needs it before it is cancelled."""
        for sequence in self._sequences():
            for place, job in enumerate(sequence.jobs):
                if job.request is request:
                    self.cut(sequence, 0 if sequence.slot is None else place, spare=job)
                    return job
        return None

    def cut(self, sequence: JobSequence, place: int, *, spare: Job | None = None) -> None:
        """End a sequence by cancelling its jobs from a place on; `spare` is answered by the caller."""
        while len(sequence.jobs) > place:
            job = sequence.jobs.pop()
            self._waiting -= 1
            if job is not spare:
                job.request.cancel()
                self._rejected.append(Reject(job, InferError(Fault.CANCELLED, ""), "CANCELED"))
        self._abandon(sequence)
        if sequence.slot is None:
            self._leave_backlog(sequence)
        else:
            self._vacated.append(sequence.slot)

    def pop(self, slot: Slot) -> Job:
        """Take the next job of a slot's sequence, which has one."""
        assert slot.sequence is not None
        self._waiting -= 1
        job = slot.sequence.jobs.popleft()
        slot.sequence.length += 1
        if self._iterative:
            slot.busy = True
            self._stepping[job] = slot.sequence
        return job

    def withdraw_popped(self, slot: Slot, job: Job) -> None:
        """Hear that a job which was taken will not run; those behind it are cancelled."""
        slot.busy = False
        self._stepping.pop(job, None)
        if slot.sequence is not None:
            slot.sequence.length -= 1
            self.cut(slot.sequence, 0)

    def settle(self, slot: Slot, now: Instant) -> None:
        """Take a slot from its sequence if that is over, and give it to the next in the backlog."""
        sequence = slot.sequence
        if sequence is None or sequence.open or sequence.jobs or slot.busy:
            return
        self._statistics.over(
            ABANDONED if sequence.abandoned else ENDED, sequence.length, now - sequence.began
        )
        if sequence.abandoned and sequence.length:
            self._forgotten.append(Forget(slot.instance, sequence.id, slot.number))
        slot.sequence = None
        self.slots.release(slot)
        self._fill(now)

    def forgotten(self) -> list[Forget]:
        """Return once what instances should hear of sequences that were abandoned."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def expire(self, now: Instant) -> Iterator[Reject | Forget]:
        """Reject who was cancelled or lost patience, forget who was idle for too long, fill free slots."""
        vacated, self._vacated = self._vacated, []
        for slot in vacated:
            self.settle(slot, now)
        self._fill(now)
        while self._alarms and self._alarms[0][0] <= now:
            alarm, _, sequence = heapq.heappop(self._alarms)
            if sequence.alarm != alarm:
                continue
            sequence.alarm = None
            due = self._due(sequence)
            if due is None or due > now:
                self._watch(sequence)
            elif sequence.slot is None:
                self._lose_patience(sequence)
            else:
                self._abandon(sequence)
                self.settle(sequence.slot, now)
        rejected, self._rejected = self._rejected, []
        yield from rejected
        yield from self.forgotten()

    def next_alarm(self) -> Instant | None:
        """When `expire` should be asked again; None for never."""
        while self._alarms and self._alarms[0][2].alarm != self._alarms[0][0]:
            heapq.heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else None

    def lost(self, instance: InstanceId) -> list[Job]:
        """Hear that an instance broke; give back the jobs of its sequences, which end."""
        jobs: list[Job] = []
        for slot in self.slots.close(instance):
            sequence = slot.sequence
            if sequence is not None:
                jobs += sequence.jobs
                sequence.jobs.clear()
                self._let_go(sequence)
                self._statistics.over(LOST, sequence.length, sequence.last_seen - sequence.began)
        self._waiting -= len(jobs)
        self._stepping = {
            job: sequence
            for job, sequence in self._stepping.items()
            if sequence.slot is not None and sequence.slot.instance != instance
        }
        self._vacated = [slot for slot in self._vacated if slot.instance != instance]
        return jobs

    def clear(self) -> list[Job]:
        """Give back every waiting job; no sequence is left."""
        jobs = [rejected.job for rejected in self._rejected]
        self._rejected.clear()
        for sequence in list(self._sequences()):
            jobs += sequence.jobs
            sequence.jobs.clear()
            self._let_go(sequence)
        self._waiting = 0
        self._backlog.clear()
        self._statistics.backlog = 0
        self._alarms.clear()
        return jobs

    def check(self) -> None:
        """Raise AssertionError where slots, backlog and ids contradict each other."""
        self.slots.check()
        sequences = list(self._sequences())
        jobs = [job for sequence in sequences for job in sequence.jobs]
        assert len(jobs) == self._waiting == len(set(jobs)), "a job stands twice or was miscounted"
        assert not any(job.answered for job in jobs), "an answered job still waits"
        assert not self._backlog or not self.slots.any_free, "a slot is free though a sequence waits"
        for sequence in self._backlog:
            assert sequence.slot is None, "a sequence has a slot and waits for one"
            assert sequence.jobs, "nobody waits in a sequence of the backlog"
        for id_, sequence in self._live.items():
            assert sequence.id == id_
            assert sequence.open
            assert sequence in sequences, "an id leads nowhere"
            assert sequence.slot is None or sequence.alarm is not None, "nobody looks whether it is idle"
        for sequence in self._stepping.values():
            assert sequence in sequences, "a step runs in a sequence that is nowhere"
            assert sequence.slot is not None
            assert sequence.slot.busy, "a slot was given away though a step runs in it"

    def _generate(self) -> int:
        """Return a correlation ID for a request without one, which nobody uses now."""
        return next(number for number in self._generated if number not in self._live)

    def _begin(self, id_: int | str, now: Instant) -> JobSequence:
        sequence = JobSequence(id_, now, now)
        slot = self.slots.take()
        if slot is None:
            self._backlog[sequence] = None
            self._statistics.backlog += 1
        else:
            self._seat(sequence, slot)
        return sequence

    def _seat(self, sequence: JobSequence, slot: Slot) -> None:
        slot.sequence, sequence.slot = sequence, slot
        self._statistics.live += 1

    def _fill(self, now: Instant) -> None:
        """Give free slots to the backlog, first come, first served."""
        while self._backlog and (slot := self.slots.take()) is not None:
            sequence = next(iter(self._backlog))
            self._leave_backlog(sequence)
            self._seat(sequence, slot)
            sequence.last_seen = now
            self._watch(sequence)

    def _leave_backlog(self, sequence: JobSequence) -> None:
        del self._backlog[sequence]
        self._statistics.backlog -= 1
        sequence.patience = None

    def _abandon(self, sequence: JobSequence) -> None:
        sequence.abandoned = True
        self._let_go(sequence)

    def _let_go(self, sequence: JobSequence) -> None:
        if sequence.open:
            sequence.open = False
            del self._live[sequence.id]

    def _lose_patience(self, sequence: JobSequence) -> None:
        for job in sequence.jobs:
            self._rejected.append(Reject(job, InferError(Fault.UNAVAILABLE, _IMPATIENT), "REJECTED"))
        self._waiting -= len(sequence.jobs)
        sequence.jobs.clear()
        self._leave_backlog(sequence)
        self._let_go(sequence)

    def _due(self, sequence: JobSequence) -> Instant | None:
        """Return when time alone will do something to a sequence."""
        if sequence.slot is None:
            return sequence.patience
        return sequence.last_seen + self._max_idle if sequence.open else None

    def _watch(self, sequence: JobSequence) -> None:
        """See that a sequence is looked at in time; a little too early does no harm."""
        due = self._due(sequence)
        if due is not None and (sequence.alarm is None or due < sequence.alarm):
            sequence.alarm = due
            heapq.heappush(self._alarms, (due, next(self._tiebreak), sequence))

    def _sequences(self) -> Iterator[JobSequence]:
        for instance in self.slots.instances():
            for slot in self.slots[instance]:
                if slot.sequence is not None:
                    yield slot.sequence
        yield from self._backlog
