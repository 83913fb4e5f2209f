"""The dynamic batcher's marks: it loses nowhere to a model of Triton's, and slow instances cost nothing."""

import pytest

from . import marks
from .marks import FAST, PATTERNS, SLOW, TEAMS, ahead, late, paced


@pytest.mark.parametrize("pattern", PATTERNS)
def test_cutting_late_costs_nothing_against_cutting_ahead(pattern: str) -> None:
    """Batches are as full and waits as short, though nothing leaves the queue before it runs."""
    ours, theirs = PATTERNS[pattern](late()), PATTERNS[pattern](ahead())
    assert ours.throughput >= 0.99 * theirs.throughput
    assert ours.fill >= 0.98 * theirs.fill
    assert ours.p50_ms <= 1.05 * theirs.p50_ms + 0.05
    assert ours.p99_ms <= 1.05 * theirs.p99_ms + 0.05
    assert ours.fairness >= 0.99
    assert ours.waste <= theirs.waste + 0.02


def test_clients_that_wait_find_full_batches() -> None:
    """With two batches of clients one is served while the other comes: the model is never idle."""
    ours = PATTERNS["64 clients that wait"](late())
    assert ours.throughput > 3_700
    assert ours.fill > 0.97
    assert ours.p99_ms < 10


def test_what_is_below_capacity_is_served_within_three_batches() -> None:
    """The longest batch takes 8.4 ms."""
    ours = PATTERNS["Poisson, 3,000 a second"](late())
    assert ours.whole_p99_ms < 3 * 8.4


@pytest.mark.parametrize("team", TEAMS)
def test_slow_instances_beside_fast_ones_lower_nothing(team: str) -> None:
    """Two that are ten times slower join two: as many are answered, and the last of a hundred as soon."""
    alone, joined = TEAMS[team](late((FAST, FAST))), TEAMS[team](paced((FAST, FAST, SLOW, SLOW)))
    assert joined.throughput >= 0.995 * alone.throughput
    assert joined.whole_p99_ms <= 1.1 * alone.whole_p99_ms
    assert joined.fairness >= 0.98


def test_slow_instances_help_where_the_fast_are_not_enough() -> None:
    """More than two can do is asked, and less than all four can."""
    contest = TEAMS["Poisson, 8,000 a second"]
    alone, joined = contest(late((FAST, FAST))), contest(paced((FAST, FAST, SLOW, SLOW)))
    assert alone.throughput < 7_700
    assert joined.throughput > 7_850
    assert joined.whole_p99_ms < alone.whole_p99_ms / 2


def test_whoever_is_idle_is_the_wrong_one_to_ask() -> None:
    """The marks tell: without measured speeds the same slow instances cost throughput."""
    contest = TEAMS["8 clients that wait"]
    assert contest(ahead((FAST, FAST, SLOW, SLOW))).throughput < 0.9 * contest(late((FAST, FAST))).throughput


def test_instances_of_equal_speed_are_all_used() -> None:
    """Measuring finds nothing, and changes nothing."""
    contest = TEAMS["64 clients that wait"]
    assert contest(paced((FAST, FAST))).throughput >= 0.99 * contest(late((FAST, FAST))).throughput


def test_the_table_tells_all_of_it() -> None:
    """A line for each pattern and each batcher."""
    lines = marks.table()
    assert len(lines) == 1 + 2 * len(PATTERNS) + 2 + 3 * len(TEAMS)
