"""The rules of iterative sequences: a request is a sequence of steps, which its model makes it run."""

from typing import Final

import pytest

from deuteron.actors.schedule import Job, Schedule
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import Correlation

from .test_sequences import DIRECT, IDLE, admitted, batches, job_of, opened, orders

ITERATIVE_DIRECT: Final = "sequence_batching { iterative_sequence: true direct { } }"
ITERATIVE_OLDEST: Final = (
    "sequence_batching { iterative_sequence: true oldest { max_candidate_sequences: 2 } }"
)
STRATEGIES: Final = pytest.mark.parametrize("strategy", [ITERATIVE_DIRECT, ITERATIVE_OLDEST])


def anonymous() -> Job:
    """Return a job of a client that knows nothing of sequences."""
    job = job_of(0)
    job.request.correlation = None
    return job


def resumed(schedule: Schedule, *jobs: Job, now: int = 0) -> None:
    """Have jobs come again, as their model wants it."""
    for job in jobs:
        schedule.resume(job, now)


def flags_of(job: Job) -> tuple[bool, bool]:
    """Return whether a job says START and END."""
    assert job.request.correlation is not None
    return job.request.correlation.start, job.request.correlation.end


@STRATEGIES
def test_a_request_without_an_id_gets_one_and_starts(strategy: str) -> None:
    """Each gets its own, so that two of them share a batch."""
    schedule = opened(strategy)
    one, two = admitted(schedule, anonymous(), anonymous())
    assert batches(schedule, 0) == [[one, two]]
    assert [job.request.correlation for job in (one, two)] == [Correlation(1, True), Correlation(2, True)]


@STRATEGIES
def test_a_generated_id_is_nobody_elses(strategy: str) -> None:
    """A client that chose 1 keeps it to itself."""
    schedule = opened(strategy)
    _, generated = admitted(schedule, job_of(1, "s"), anonymous())
    assert generated.request.correlation == Correlation(2, True)


@STRATEGIES
def test_each_step_runs_in_the_slot_of_the_first_and_only_that_is_a_start(strategy: str) -> None:
    """Another request joins the batches of a sequence between its steps."""
    schedule = opened(strategy)
    (long,) = admitted(schedule, anonymous())
    assert batches(schedule, 0) == [[long]]
    assert flags_of(long) == (True, False)
    slot = long.request.sequence_slot
    (short,) = admitted(schedule, anonymous())
    for _ in range(3):
        resumed(schedule, long)
        (batch,) = batches(schedule, 0)
        assert long in batch
        assert flags_of(long) == (False, False)
        assert long.request.sequence_slot == slot
    assert short.request.sequence_slot == 1


@STRATEGIES
def test_a_slot_is_kept_between_steps_and_free_after_the_last(strategy: str) -> None:
    """Two slots, three requests: the third runs when one of the others has come to its end."""
    schedule = opened(strategy)
    one, two, third = admitted(schedule, anonymous(), anonymous(), anonymous())
    assert batches(schedule, 0) == [[one, two]]
    resumed(schedule, one, two)
    assert batches(schedule, 0) == [[one, two]]
    resumed(schedule, one)
    (batch,) = batches(schedule, 0)
    assert set(batch) == {one, third}


@STRATEGIES
def test_a_step_comes_before_the_next_request_of_the_same_id(strategy: str) -> None:
    """Whoever came second is served second, and by the same slot."""
    schedule = opened(strategy)
    first, second = admitted(schedule, job_of(5, "s"), job_of(5))
    assert batches(schedule, 0) == [[first]]
    resumed(schedule, first)
    assert batches(schedule, 0) == [[first]]
    assert batches(schedule, 0) == [[second]]
    assert orders(schedule, 0) == []
    with pytest.raises(InferError, match="must specify the START flag"):
        schedule.admit(job_of(5), 0)


@STRATEGIES
def test_end_does_not_end_what_the_model_goes_on_with(strategy: str) -> None:
    """Only the model knows how many steps there are."""
    schedule = opened(strategy)
    (job,) = admitted(schedule, job_of(5, "se"))
    assert batches(schedule, 0) == [[job]]
    assert flags_of(job) == (True, True)
    resumed(schedule, job)
    assert batches(schedule, 0) == [[job]]


@STRATEGIES
def test_a_step_that_comes_after_the_idle_time_comes_too_late(strategy: str) -> None:
    """The sequence was forgotten while it ran; its slot goes to the next when the batch has returned."""
    schedule = opened(strategy)
    one, _ = admitted(schedule, anonymous(), anonymous())
    batches(schedule, 0)
    orders(schedule, now=IDLE)
    with pytest.raises(InferError) as refusal:
        schedule.resume(one, IDLE)
    assert refusal.value.fault is Fault.INVALID_ARG
    assert refusal.value.message.startswith("inference request for sequence 1 to model 'm' must specify the")
    (late,) = admitted(schedule, anonymous(), now=IDLE)
    assert batches(schedule, now=IDLE) == []
    assert batches(schedule, 0, now=IDLE) == [[late]]


@STRATEGIES
def test_a_request_nobody_waits_for_runs_no_further_step(strategy: str) -> None:
    """Its slot is free at once."""
    schedule = opened(strategy)
    one, two, third = admitted(schedule, anonymous(), anonymous(), anonymous())
    batches(schedule, 0)
    one.request.cancelled = True
    with pytest.raises(InferError) as refusal:
        schedule.resume(one, 0)
    assert refusal.value.fault is Fault.CANCELLED
    resumed(schedule, two)
    (batch,) = batches(schedule, 0)
    assert set(batch) == {two, third}


@STRATEGIES
def test_a_request_is_withdrawn_between_its_steps(strategy: str) -> None:
    """Then it is over, and its slot free."""
    schedule = opened(strategy)
    one, two, third = admitted(schedule, anonymous(), anonymous(), anonymous())
    batches(schedule, 0)
    resumed(schedule, one, two)
    assert schedule.withdraw(one.request) is one
    (batch,) = batches(schedule, 0)
    assert set(batch) == {two, third}


@STRATEGIES
def test_the_steps_of_a_lost_instance_are_over(strategy: str) -> None:
    """Nobody resumes them; when the instance is back its slots are free."""
    schedule = opened(strategy)
    one, _, waiting = admitted(schedule, anonymous(), anonymous(), anonymous())
    batches(schedule, 0)
    assert list(schedule.lost(0)) == []
    with pytest.raises(InferError, match="must specify the START flag"):
        schedule.resume(one, 0)
    schedule.returned(0)
    assert batches(schedule, 0) == [[waiting]]


NOT_ITERATIVE: Final = (
    DIRECT,
    "sequence_batching { oldest { } }",
    "dynamic_batching { }",
    "",
)


@pytest.mark.parametrize("scheduler", NOT_ITERATIVE)
def test_a_model_that_is_not_iterative_cannot_reschedule(scheduler: str) -> None:
    """The error is Triton's."""
    schedule = opened(scheduler)
    (job,) = admitted(schedule, job_of(1, "s"))
    batches(schedule, 0)
    with pytest.raises(InferError) as refusal:
        schedule.resume(job, 0)
    assert refusal.value.fault is Fault.INVALID_ARG
    assert refusal.value.message == (
        "Request is released with TRITONSERVER_REQUEST_RELEASE_RESCHEDULE, while the model is not configured "
        "to handle such a flag."
    )
