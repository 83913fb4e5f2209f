"""The restart budget: waits that double, and an end."""

from deuteron.actors.clock import SECOND
from deuteron.actors.supervisor import RestartBudget, RestartPolicy


def test_each_restart_waits_twice_as_long_until_the_budget_is_spent() -> None:
    """A tenth of a second, then two, four tenths, and then no more."""
    budget = RestartBudget(RestartPolicy(restarts=3))
    waits = [budget.spend(number) for number in range(4)]
    assert waits == [SECOND // 10, SECOND // 5, SECOND * 2 // 5, None]


def test_breakages_are_forgotten_after_the_window() -> None:
    """An instance that breaks once in a while always comes back."""
    budget = RestartBudget(RestartPolicy(restarts=1, window=SECOND))
    assert [budget.spend(number * 2 * SECOND) for number in range(5)] == [SECOND // 10] * 5


def test_no_wait_is_longer_than_the_longest() -> None:
    """However often it broke."""
    budget = RestartBudget(RestartPolicy(restarts=50))
    assert max(budget.spend(0) or 0 for _ in range(50)) == 10 * SECOND
