"""The queue before a dynamic batcher: order of service, bounds, deadlines."""

import pytest

from deuteron.actors.clock import MICROSECOND
from deuteron.actors.queueing import LEVELS_KEPT, PriorityQueue
from deuteron.actors.reply import Reply
from deuteron.actors.schedule import Job
from deuteron.proto.config.model_config import DynamicBatching, QueuePolicy, TimeoutAction
from deuteron.proto.errors import InferError
from deuteron.proto.message import Request, Response


class Nowhere:
    """A reply nobody reads."""

    def send(self, response: Response) -> None:
        """Drop the response."""


NOWHERE: Reply = Nowhere()


def job(name: str, priority: int = 0, timeout_us: int = 0) -> Job:
    """Return a job that can be told from others."""
    return Job(Request("m", id=name, priority=priority, timeout_us=timeout_us), NOWHERE, 0)


def names(queue: PriorityQueue) -> list[str]:
    """Return who waits, in order of service."""
    return [each.request.id for each in queue]


def test_higher_priorities_are_served_first_and_equals_in_order() -> None:
    """Level 1 before level 2; unknown levels and none are the default."""
    queue = PriorityQueue(DynamicBatching(priority_levels=3, default_priority_level=2))
    for name, priority in (("a", 3), ("b", 0), ("c", 1), ("d", 2), ("e", 9), ("f", 1)):
        queue.push(job(name, priority), 0)
    assert names(queue) == ["c", "f", "b", "d", "e", "a"]
    assert [each.request.id for each in queue.take(3)] == ["c", "f", "b"]
    queue.check()


def test_a_level_refuses_beyond_its_bound_with_the_id_of_the_request() -> None:
    """The bound is that of the level alone."""
    policies = {1: QueuePolicy(max_queue_size=1)}
    queue = PriorityQueue(
        DynamicBatching(priority_levels=2, default_priority_level=1, priority_queue_policy=policies)
    )
    queue.push(job("a", 1), 0)
    queue.push(job("b", 2), 0)
    with pytest.raises(InferError, match=r"^\[request id: c\] Exceeds maximum queue size$"):
        queue.push(job("c", 1), 0)


def test_a_job_that_waited_too_long_is_rejected() -> None:
    """Exactly when its time is over, not before."""
    queue = PriorityQueue(DynamicBatching(default_queue_policy=QueuePolicy(default_timeout_us=10)))
    queue.push(job("a"), 0)
    assert queue.next_deadline() == 10 * MICROSECOND
    assert list(queue.expire(10 * MICROSECOND - 1)) == []
    (rejected,) = queue.expire(10 * MICROSECOND)
    assert (rejected.job.request.id, rejected.error.message) == ("a", "Request timeout expired")
    assert names(queue) == []


def test_a_delayed_job_is_served_after_all_that_did_not_wait_too_long() -> None:
    """It keeps its level, and no clock runs for it any more."""
    policy = QueuePolicy(TimeoutAction.DELAY, default_timeout_us=10)
    queue = PriorityQueue(
        DynamicBatching(priority_levels=2, default_priority_level=1, default_queue_policy=policy)
    )
    queue.push(job("late", 1), 0)
    queue.push(job("timely", 1), 5 * MICROSECOND)
    queue.push(job("lower", 2), 5 * MICROSECOND)
    assert list(queue.expire(10 * MICROSECOND)) == []
    assert names(queue) == ["timely", "late", "lower"]
    list(queue.expire(1_000 * MICROSECOND))
    assert sorted(names(queue)[:2]) == ["late", "timely"]
    assert queue.next_deadline() is None
    queue.check()


@pytest.mark.parametrize(
    ("default_us", "override", "wish_us", "deadline"),
    [
        (100, True, 10, 10),
        (100, True, 500, 100),
        (100, False, 10, 100),
        (0, True, 10, None),
        (100, True, 0, 100),
    ],
)
def test_a_request_may_wish_for_a_shorter_wait_only(
    default_us: int, override: bool, wish_us: int, deadline: int | None
) -> None:
    """Its timeout counts where the policy allows it, where there is one and it is longer."""
    policy = QueuePolicy(default_timeout_us=default_us, allow_timeout_override=override)
    queue = PriorityQueue(DynamicBatching(default_queue_policy=policy))
    queue.push(job("a", timeout_us=wish_us), 0)
    assert queue.next_deadline() == (None if deadline is None else deadline * MICROSECOND)


def test_a_withdrawn_job_is_gone_and_so_is_its_deadline() -> None:
    """Nobody is rejected who is not there."""
    queue = PriorityQueue(DynamicBatching(default_queue_policy=QueuePolicy(default_timeout_us=10)))
    waiting = job("a")
    queue.push(waiting, 0)
    assert queue.remove(waiting.request) is waiting
    assert queue.remove(waiting.request) is None
    assert queue.next_deadline() is None
    assert list(queue.expire(10**9)) == []


def test_there_may_be_as_many_levels_as_a_number_has_room_for() -> None:
    """Only those are kept that somebody waits at, and a few more."""
    most = 2**64 - 1
    queue = PriorityQueue(DynamicBatching(priority_levels=most, default_priority_level=2**32))
    for name, priority in (("last", most), ("default", 0), ("first", 1)):
        queue.push(job(name, priority), 0)
    assert names(queue) == ["first", "default", "last"]
    for priority in range(2, 10 * LEVELS_KEPT):
        queue.push(job("passing", priority), 0)
        assert [each.request.id for each in queue.take(2)] == ["first", "passing"]
        queue.push(job("first", 1), 0)
        queue.check()
    assert len(queue._levels) <= 2 * LEVELS_KEPT
    assert names(queue) == ["first", "default", "last"]
