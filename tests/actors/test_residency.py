"""The least recently used go first: random histories against a plain list."""

import random

import pytest

from deuteron.actors.residency import Residency


def test_whoever_was_used_longest_ago_goes_first() -> None:
    books: Residency[str] = Residency(30)
    for name in "abc":
        books.enter(name, 10)
    books.touch("a")
    assert books.who_must_go(10, lambda _: True) == ["b"]
    assert books.who_must_go(15, lambda _: True) == ["b", "c"]
    assert books.who_must_go(0, lambda _: True) == []


def test_nobody_goes_who_is_at_work() -> None:
    books: Residency[str] = Residency(30)
    for name in "abc":
        books.enter(name, 10)
    assert books.who_must_go(10, lambda each: each != "a") == ["b"]
    assert books.who_must_go(20, lambda each: each == "c") is None


def test_what_is_larger_than_all_room_gets_in_when_nobody_else_is_left() -> None:
    books: Residency[str] = Residency(30)
    books.enter("a", 10)
    assert books.who_must_go(99, lambda _: False) is None
    assert books.who_must_go(99, lambda _: True) == ["a"]
    books.leave("a")
    assert books.who_must_go(99, lambda _: True) == []


def test_without_a_budget_there_is_room_for_all() -> None:
    books: Residency[int] = Residency(0)
    for number in range(100):
        assert books.who_must_go(1 << 40, lambda _: True) == []
        books.enter(number, 1 << 40)


def test_what_somebody_took_is_known_when_it_comes_back() -> None:
    books: Residency[str] = Residency(30)
    assert books.size_of("a", 7) == 7
    books.enter("a", 12)
    books.leave("a")
    assert books.size_of("a", 7) == 12
    books.forget("a")
    assert books.size_of("a", 7) == 7


@pytest.mark.parametrize("seed", range(200))
def test_any_history_keeps_within_the_room_and_evicts_as_a_plain_list_would(seed: int) -> None:
    rng = random.Random(seed)
    budget = rng.randint(10, 60)
    books: Residency[int] = Residency(budget)
    plain: list[int] = []
    """Who is in, the least recently used first."""
    sizes = {name: rng.randint(1, 20) for name in range(12)}
    for _ in range(300):
        name = rng.randrange(12)
        busy = {each for each in plain if rng.random() < 0.2}
        if name in books:
            books.touch(name)
            plain.remove(name)
            plain.append(name)
        else:
            going = books.who_must_go(sizes[name], lambda each: each not in busy)  # noqa: B023 - asked at once
            if going is None:
                assert busy, "room was refused though nobody was at work"
                continue
            assert not busy & set(going)
            assert going == [each for each in plain if each not in busy][: len(going)]
            for each in going:
                books.leave(each)
                plain.remove(each)
            spared = going[:-1]
            if going and plain:
                left_without_last = sum(sizes[each] for each in plain) + sizes[going[-1]]
                assert left_without_last + sizes[name] > budget, f"{spared} would have been enough"
            books.enter(name, sizes[name])
            plain.append(name)
        assert books.used <= budget or len(books) == 1
        assert [each for each in range(12) if each in books] == sorted(plain)
        books.check()
