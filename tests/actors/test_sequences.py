"""The rules of sequences, one by one: ids, slots, backlog, timeouts, strategies, held starts."""

from typing import Final

import numpy as np
import pytest

from deuteron.actors.clock import MICROSECOND, Instant
from deuteron.actors.schedule import Dispatch, Forget, Job, Order, Reject, Schedule
from deuteron.actors.schedules import depth_of, is_ordered, schedule_of
from deuteron.actors.sequence_statistics import SequenceStatistics
from deuteron.proto.config import ModelConfig
from deuteron.proto.config.normalise import normalise
from deuteron.proto.config.text import parse_text
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import Correlation, Request, Response
from deuteron.proto.tensor import Tensor

MODEL: Final = """
name: "m" backend: "b" max_batch_size: 2
input { name: "X" data_type: TYPE_INT32 dims: -1 } output { name: "Y" data_type: TYPE_INT32 dims: -1 }
"""
DIRECT: Final = "sequence_batching { }"
OLDEST: Final = "sequence_batching { oldest { max_candidate_sequences: 2 } }"
STRATEGIES: Final = pytest.mark.parametrize("strategy", [DIRECT, OLDEST])
IDLE: Final = 1_000_000 * MICROSECOND


class Nowhere:
    """A reply nobody reads."""

    def send(self, response: Response) -> None:
        """Drop the response."""


def config_of(text: str, model: str = MODEL) -> ModelConfig:
    """Return a model's configuration with this scheduler."""
    message, _ = parse_text((model + text).encode(), "config.pbtxt")
    return ModelConfig.from_message(normalise(message))


def opened(text: str, instances: int = 1, **environment: str) -> Schedule:
    """Return the schedule of such a model, all its instances there."""
    schedule = schedule_of(config_of(text), environment)
    for instance in range(instances):
        schedule.returned(instance)
    return schedule


def job_of(id_: int | str, flags: str = "", *, width: int = 1, timeout_us: int = 0, rows: int = 1) -> Job:
    """Return a job; `flags` holds s for START, e for END."""
    return Job(
        Request(
            "m",
            inputs={"X": Tensor.from_numpy(np.ones((rows, width), np.int32))},
            correlation=Correlation(id_, "s" in flags, "e" in flags),
            timeout_us=timeout_us,
            batch_size=rows,
        ),
        Nowhere(),
        0,
    )


def admitted(schedule: Schedule, *jobs: Job, now: Instant = 0) -> list[Job]:
    """Admit jobs and return them."""
    for job in jobs:
        schedule.admit(job, now)
    return list(jobs)


def orders(schedule: Schedule, *credits_: int, now: Instant = 0) -> list[Order]:
    """Return what a schedule orders now; it must not contradict itself then."""
    made = list(schedule.plan(credits_, now))
    schedule.check()
    return made


def batches(schedule: Schedule, *credits_: int, now: Instant = 0) -> list[list[Job | None]]:
    """Return the batches cut now, with None for each empty row."""
    return [
        [None if job.empty_row else job for job in order.jobs]
        for order in orders(schedule, *credits_, now=now)
        if isinstance(order, Dispatch)
    ]


def rejected(schedule: Schedule, now: Instant) -> list[tuple[Job, str, str]]:
    """Return who is rejected now, with message and reason."""
    return [
        (order.job, order.error.message, order.reason)
        for order in orders(schedule, now=now)
        if isinstance(order, Reject)
    ]


# --- who may come ---


@STRATEGIES
def test_a_sequence_begins_with_start(strategy: str) -> None:
    """Without it an id that nobody knows is refused, in the words of Triton."""
    with pytest.raises(InferError) as refusal:
        opened(strategy).admit(job_of(7), 0)
    assert refusal.value.fault is Fault.INVALID_ARG
    assert refusal.value.message == (
        "inference request for sequence 7 to model 'm' must specify the START flag on the first request of "
        "the sequence"
    )


@pytest.mark.parametrize("no_id", [0, ""])
@STRATEGIES
def test_a_request_needs_a_correlation_id(strategy: str, no_id: int | str) -> None:
    """0 and the empty text are none."""
    with pytest.raises(InferError, match="must specify a non-zero or non-empty correlation ID"):
        opened(strategy).admit(job_of(no_id, "s"), 0)


@STRATEGIES
def test_a_request_without_any_place_in_a_sequence_is_refused(strategy: str) -> None:
    """A request of a client that knows nothing of sequences has no correlation."""
    job = job_of(1)
    job.request.correlation = None
    with pytest.raises(InferError, match="must specify a non-zero or non-empty correlation ID"):
        opened(strategy).admit(job, 0)


@STRATEGIES
def test_a_request_has_one_row(strategy: str) -> None:
    """The rows of a batch belong to sequences, not to requests."""
    with pytest.raises(InferError, match="must specify batch-size 1 due to requirements of sequence batcher"):
        opened(strategy).admit(job_of(1, "s", rows=2), 0)


@STRATEGIES
def test_a_number_and_its_digits_are_two_ids(strategy: str) -> None:
    """1 and "1" are sequences of their own."""
    schedule = opened(strategy)
    number, text = admitted(schedule, job_of(1, "s"), job_of("1", "s"))
    assert batches(schedule, 0) == [[number, text]]


@STRATEGIES
def test_end_lets_the_id_go_at_once(strategy: str) -> None:
    """Though its last request still waits, another sequence of the same id stands beside it."""
    schedule = opened(strategy)
    last, other = admitted(schedule, job_of(1, "se"), job_of(1, "s"))
    assert batches(schedule, 0) == [[last, other]]


@STRATEGIES
def test_a_second_start_waits_for_the_sequence_before_it(strategy: str) -> None:
    """They share the id, so they share the slot, one after the other."""
    schedule = opened(strategy)
    first, second = admitted(schedule, job_of(1, "s"), job_of(1, "s"))
    assert batches(schedule, 0) == [[first]]
    assert batches(schedule, 0) == [[second]]


# --- slots and backlog ---


def test_sequences_spread_over_instances_before_they_share_one() -> None:
    """The lowest slot number is handed out first."""
    schedule = opened(DIRECT, instances=2)
    jobs = admitted(schedule, *(job_of(id_, "s") for id_ in (1, 2, 3, 4)))
    assert batches(schedule, 0, 1) == [[jobs[0], jobs[2]], [jobs[1], jobs[3]]]


@STRATEGIES
def test_the_backlog_is_served_in_the_order_it_came(strategy: str) -> None:
    """Whole sequences wait for slots; what comes meanwhile joins them there."""
    schedule = opened(strategy)
    admitted(schedule, job_of(1, "se"), job_of(2, "s"))
    third, fourth, more = admitted(schedule, job_of(3, "s"), job_of(4, "s"), job_of(3, "e"))
    assert len(batches(schedule, 0)[0]) == 2
    assert batches(schedule, 0) == [[third]]
    assert batches(schedule, 0) == [[more]]
    assert batches(schedule, 0) == [[fourth]]


@STRATEGIES
def test_a_model_that_does_not_batch_has_one_slot_an_instance(strategy: str) -> None:
    """Unless it names its candidates; a batch is one request either way."""
    config = config_of(strategy, MODEL.replace("max_batch_size: 2", ""))
    schedule = schedule_of(config, {})
    schedule.returned(0)
    first, _ = admitted(schedule, job_of(1, "s"), job_of(2, "s"))
    assert batches(schedule, 0) == [[first]]


# --- time ---


@STRATEGIES
def test_an_idle_sequence_is_forgotten_and_its_slot_passes_on(strategy: str) -> None:
    """Exactly when the time is over: then its id is unknown, and the backlog moves up."""
    schedule = opened(strategy)
    admitted(schedule, job_of(1, "s"), job_of(2, "s"))
    batches(schedule, 0)
    (waiting,) = admitted(schedule, job_of(3, "s"), now=1)
    assert schedule.wake_at() == IDLE
    assert batches(schedule, 0, now=IDLE - 1) == []
    assert batches(schedule, 0, now=IDLE) == [[waiting]]
    with pytest.raises(InferError, match="START"):
        schedule.admit(job_of(1), IDLE)


@STRATEGIES
def test_every_request_keeps_its_sequence_alive(strategy: str) -> None:
    """The idle time counts from the last one."""
    schedule = opened(strategy)
    admitted(schedule, job_of(1, "s"))
    batches(schedule, 0)
    admitted(schedule, job_of(1), now=IDLE - 1)
    batches(schedule, 0, now=IDLE)
    admitted(schedule, job_of(1), now=2 * IDLE - 2)


@STRATEGIES
def test_the_time_in_the_backlog_is_no_idleness(strategy: str) -> None:
    """A sequence that waited long for its slot may go on in it."""
    schedule = opened(strategy)
    admitted(schedule, job_of(1, "s"), job_of(2, "s"))
    batches(schedule, 0)
    admitted(schedule, job_of(3, "s"))
    batches(schedule, 0, now=IDLE)
    admitted(schedule, job_of(3, "e"), now=IDLE + 5)


@STRATEGIES
def test_a_sequence_in_the_backlog_loses_its_patience_as_a_whole(strategy: str) -> None:
    """The shortest timeout of its requests counts; afterwards its id is unknown."""
    schedule = opened(strategy)
    admitted(schedule, job_of(1, "s"), job_of(2, "s"))
    batches(schedule, 0)
    first, second = admitted(schedule, job_of(3, "s", timeout_us=500), job_of(3, timeout_us=300))
    assert schedule.wake_at() == 300 * MICROSECOND
    assert rejected(schedule, 300 * MICROSECOND - 1) == []
    text = "timeout of the corresponding sequence has been expired"
    assert rejected(schedule, 300 * MICROSECOND) == [(first, text, "REJECTED"), (second, text, "REJECTED")]
    with pytest.raises(InferError, match="START"):
        schedule.admit(job_of(3, "e"), 300 * MICROSECOND)


@STRATEGIES
def test_a_timeout_means_nothing_once_the_sequence_has_its_slot(strategy: str) -> None:
    """It is served however late."""
    schedule = opened(strategy)
    (job,) = admitted(schedule, job_of(1, "s", timeout_us=1))
    assert batches(schedule, 0, now=IDLE // 2) == [[job]]


# --- cancellation and breakage ---


@STRATEGIES
def test_who_cancels_a_waiting_request_cancels_those_behind_it(strategy: str) -> None:
    """The model would miss a step; those before it are served, and the id is let go."""
    schedule = opened(strategy)
    first, second, third = admitted(schedule, job_of(1, "s"), job_of(1), job_of(1))
    assert schedule.withdraw(second.request) is second
    assert rejected(schedule, 0) == [(third, "", "CANCELED")]
    assert batches(schedule, 0) == [[first]]
    with pytest.raises(InferError, match="START"):
        schedule.admit(job_of(1), 0)


@STRATEGIES
def test_a_sequence_in_the_backlog_is_cancelled_as_a_whole(strategy: str) -> None:
    """No step of it was made yet."""
    schedule = opened(strategy)
    admitted(schedule, job_of(1, "s"), job_of(2, "s"))
    batches(schedule, 0)
    first, second = admitted(schedule, job_of(3, "s"), job_of(3))
    assert schedule.withdraw(second.request) is second
    assert rejected(schedule, 0) == [(first, "", "CANCELED")]
    assert not len(schedule)


@STRATEGIES
def test_the_sequences_of_a_lost_instance_are_over(strategy: str) -> None:
    """What the instance knew of them is gone; others find slots when it returns."""
    schedule = opened(strategy)
    admitted(schedule, job_of(1, "s"))
    batches(schedule, 0)
    (waiting,) = admitted(schedule, job_of(1))
    assert list(schedule.lost(0)) == [waiting]
    with pytest.raises(InferError, match="START"):
        schedule.admit(job_of(1), 0)
    (again,) = admitted(schedule, job_of(1, "s"))
    assert batches(schedule) == []
    schedule.returned(0)
    assert batches(schedule, 0) == [[again]]


@STRATEGIES
def test_all_who_wait_are_given_back_at_the_end(strategy: str) -> None:
    """Those in slots, those in the backlog, and those whose rejection nobody has heard of."""
    schedule = opened(strategy)
    jobs = admitted(schedule, *(job_of(id_, "s") for id_ in (1, 2, 3)), job_of(1), job_of(1))
    assert schedule.withdraw(jobs[3].request) is jobs[3]
    assert set(schedule.clear()) == set(jobs) - {jobs[3]}
    assert not len(schedule)


# --- what runs together ---


def test_direct_fills_the_slots_where_nobody_waits() -> None:
    """With zeros of the same shape; rows behind the last waiting one are left out."""
    schedule = opened(DIRECT)
    admitted(schedule, job_of(1, "s"), job_of(2, "s"))
    batches(schedule, 0)
    (job,) = admitted(schedule, job_of(2, width=3))
    (order,) = orders(schedule, 0)
    assert isinstance(order, Dispatch)
    empty, real = order.jobs
    assert (empty.empty_row, real, order.empty_rows) == (True, job, 1)
    assert empty.request.inputs["X"].numpy().tolist() == [[0, 0, 0]]


def test_direct_puts_an_empty_row_where_the_shape_differs() -> None:
    """Whoever waits longest decides on the shape of the batch."""
    schedule = opened(DIRECT)
    (narrow,) = admitted(schedule, job_of(1, "s"), now=1)
    (wide,) = admitted(schedule, job_of(2, "s", width=2), now=2)
    assert batches(schedule, 0, now=3) == [[narrow, None]]
    assert batches(schedule, 0, now=3) == [[None, wide]]


@pytest.mark.parametrize(("share", "together"), [(0.5, 1), (1.0, 2), (0.0, 1)])
def test_direct_waits_until_enough_slots_have_somebody(share: float, together: int) -> None:
    """Or until the first of them has waited the whole delay."""
    schedule = opened(
        "sequence_batching { direct { max_queue_delay_microseconds: 100 "
        f"minimum_slot_utilization: {share} }} }}"
    )
    (first,) = admitted(schedule, job_of(1, "s"))
    if together == 1:
        assert batches(schedule, 0) == [[first]]
        return
    assert batches(schedule, 0) == []
    assert schedule.wake_at() == 100 * MICROSECOND
    assert batches(schedule, 0, now=100 * MICROSECOND) == [[first]]


def test_oldest_never_has_two_requests_of_a_sequence_on_their_way() -> None:
    """The next one joins the batcher when the one before has run."""
    schedule = opened(OLDEST)
    first, second, other = admitted(schedule, job_of(1, "s"), job_of(1), job_of(2, "s"))
    assert batches(schedule, 0) == [[first, other]]
    assert batches(schedule) == []
    assert batches(schedule, 0) == [[second]]


def test_oldest_tells_how_long_a_request_has_waited_in_all() -> None:
    """The time behind the request before it counts too."""
    schedule = opened(OLDEST)
    _, second = admitted(schedule, job_of(1, "s"), job_of(1), now=5)
    batches(schedule, 0, now=5)
    assert batches(schedule, 0, now=90) == [[second]]
    assert second.queued == 5


def test_an_instance_with_sequences_has_one_batch_on_its_way() -> None:
    """The next step of a sequence needs what this one leaves behind."""
    assert depth_of(config_of(DIRECT), 1) == depth_of(config_of(OLDEST), 1) == 1
    assert depth_of(config_of(""), 1) > 1


def test_oldest_may_promise_the_order_of_responses() -> None:
    """As the dynamic batcher may."""
    assert is_ordered(config_of("sequence_batching { oldest { preserve_ordering: true } }"))
    assert not is_ordered(config_of(DIRECT))


# --- held starts ---


def test_the_environment_may_hold_back_the_start_of_a_dynamic_batcher() -> None:
    """Until so many requests wait, and never again."""
    schedule = opened("dynamic_batching { }", TRITONSERVER_DELAY_SCHEDULER="3")
    jobs = admitted(schedule, job_of(1), job_of(2))
    assert batches(schedule, 0) == []
    jobs += admitted(schedule, job_of(3))
    assert batches(schedule, 0) == [jobs[:2]]
    assert batches(schedule, 0) == [jobs[2:]]


def test_the_environment_may_hold_back_the_start_of_sequences() -> None:
    """Until so many wait in slots, and so many in the backlog."""
    schedule = opened(DIRECT, TRITONSERVER_DELAY_SCHEDULER="2", TRITONSERVER_BACKLOG_DELAY_SCHEDULER="1")
    jobs = admitted(schedule, job_of(1, "s"), job_of(2, "s"))
    assert batches(schedule, 0) == []
    admitted(schedule, job_of(3, "s"))
    assert batches(schedule, 0) == [jobs]


@pytest.mark.parametrize("number", ["", "0", "-1", "many"])
def test_a_start_is_held_back_by_a_positive_number_only(number: str) -> None:
    """Anything else in the environment is as good as nothing."""
    schedule = opened("dynamic_batching { }", TRITONSERVER_DELAY_SCHEDULER=number)
    jobs = admitted(schedule, job_of(1))
    assert batches(schedule, 0) == [jobs]


# --- who was abandoned ---


def forgets(schedule: Schedule, *credits_: int, now: Instant = 0) -> list[Forget]:
    """Return what instances are to hear of abandoned sequences."""
    return [order for order in orders(schedule, *credits_, now=now) if isinstance(order, Forget)]


@STRATEGIES
def test_the_instance_hears_of_a_sequence_that_was_idle_for_too_long(strategy: str) -> None:
    """Once, with its id and its slot; whoever came to an END is none of it."""
    schedule = opened(strategy)
    admitted(schedule, job_of(1, "se"), job_of("two", "s"))
    assert forgets(schedule, 0) == []
    assert forgets(schedule, 0, now=IDLE) == [Forget(0, "two", 1)]
    assert forgets(schedule, 0, now=2 * IDLE) == []


@STRATEGIES
def test_the_instance_hears_of_a_sequence_whose_client_went_away(strategy: str) -> None:
    """The next request of it waited and was withdrawn."""
    schedule = opened(strategy)
    admitted(schedule, job_of(1, "s"))
    orders(schedule, 0)
    (gone,) = admitted(schedule, job_of(1))
    assert schedule.withdraw(gone.request) is gone
    assert forgets(schedule, 0) == [Forget(0, 1, 0)]


@STRATEGIES
def test_nobody_hears_of_a_sequence_that_was_never_served(strategy: str) -> None:
    """Neither from a slot nor from the backlog."""
    schedule = opened(strategy)
    jobs = admitted(schedule, *(job_of(id_, "s") for id_ in range(1, 4)))
    for job in jobs:
        schedule.withdraw(job.request)
    assert forgets(schedule, 0) == []


@STRATEGIES
def test_it_is_heard_before_the_slot_is_anothers(strategy: str) -> None:
    """The one who waited in the backlog is served after that."""
    schedule = opened(strategy)
    admitted(schedule, job_of(1, "s"), job_of(2, "s"), job_of(3, "se"))
    assert len(batches(schedule, 0)) == 1
    *heard, dispatch = orders(schedule, 0, now=IDLE)
    assert heard == [Forget(0, 1, 0), Forget(0, 2, 1)]
    assert isinstance(dispatch, Dispatch)


@STRATEGIES
def test_how_sequences_end_is_counted(strategy: str) -> None:
    """By reason, with their length and their age."""
    told = SequenceStatistics()
    schedule = schedule_of(config_of(strategy), {}, told)
    schedule.returned(0)
    schedule.returned(1)
    admitted(schedule, job_of(1, "s"), job_of(2, "s"), job_of(3, "s"), job_of(4, "s"), job_of(5, "s"))
    assert (told.live, told.backlog) == (4, 1)
    orders(schedule, 0, 1)
    admitted(schedule, job_of(1, "e"), now=IDLE // 2)
    orders(schedule, 0, 1, now=IDLE // 2)
    orders(schedule, 0, 1, now=IDLE // 2)
    assert told.ends == {"ended": 1, "abandoned": 0, "lost": 0}
    assert (told.live, told.backlog) == (4, 0)
    orders(schedule, 0, 1, now=IDLE)
    schedule.lost(0)
    assert told.ends == {"ended": 1, "abandoned": 3, "lost": 1}
    assert told.lengths.total == 2 + 1 + 1 + 1 + 1
    assert (told.live, told.ages.total) == (0, 0.5 + 3 * 1 + 0.5)
