"""Who asks the same at the same time flies together: one leads, nobody is lost, in any history."""

import random
from collections import Counter

import pytest

from deuteron.actors.flights import Flight, Flights
from deuteron.actors.schedule import Job
from deuteron.proto.message import Request, Response


class Nobody:
    def send(self, response: Response) -> None:
        raise AssertionError("flights answer nobody")


def job(number: int = 0) -> Job:
    return Job(Request("model", id=str(number)), Nobody(), number)


def board(flights: Flights, name: bytes, who: Job) -> Flight | None:
    return flights.board((name, 0, 0), who)


def test_the_first_leads_and_the_others_follow_in_order() -> None:
    flights = Flights()
    first, second, third = job(1), job(2), job(3)
    flight = board(flights, b"a", first)
    assert flight is not None
    assert board(flights, b"a", second) is None
    assert board(flights, b"a", third) is None
    assert board(flights, b"b", job(4)) is not None, "another key is another flight"
    assert flight.leader is first
    assert list(flights.land(flight)) == [second, third]
    assert board(flights, b"a", job(5)) is not None, "what has landed flies no more"


def test_a_flight_is_passed_on_until_nobody_is_left() -> None:
    flights = Flights()
    first, second = job(1), job(2)
    flight = board(flights, b"a", first)
    assert flight is not None
    board(flights, b"a", second)
    assert flights.pass_on(flight)
    assert flight.leader is second
    assert not flights.pass_on(flight)
    assert len(flights) == 0


def test_those_who_may_not_wait_as_long_or_are_more_urgent_fly_alone() -> None:
    flights = Flights()
    assert flights.board((b"a", 0, 0), job()) is not None
    assert flights.board((b"a", 1, 0), job()) is not None
    assert flights.board((b"a", 0, 1000), job()) is not None


def test_only_followers_can_be_withdrawn() -> None:
    flights = Flights()
    leader, follower = job(1), job(2)
    flight = board(flights, b"a", leader)
    assert flight is not None
    board(flights, b"a", follower)
    assert flights.withdraw(leader.request) is None
    assert flights.withdraw(follower.request) is follower
    assert flights.withdraw(follower.request) is None
    assert not flights.land(flight)


def test_there_is_a_bound_on_those_who_follow() -> None:
    flights = Flights(bound=2)
    for number in range(3):
        board(flights, b"a", job(number))
    assert flights.full


@pytest.mark.parametrize("seed", range(250))
def test_in_random_histories_every_job_leaves_exactly_once(seed: int) -> None:
    """40 events each: 10,000 in all, checked after every one."""
    dice = random.Random(seed)
    flights = Flights()
    under_way: list[Flight] = []
    left: Counter[int] = Counter()
    waiting: dict[int, Job] = {}
    for number in range(40):
        event = dice.choice(["board", "board", "board", "land", "pass on", "withdraw"])
        if event == "board":
            waiting[number] = job(number)
            flight = board(flights, bytes([dice.randrange(3)]), waiting[number])
            under_way += [flight] if flight is not None else []
        elif event == "land" and under_way:
            flight = under_way.pop(dice.randrange(len(under_way)))
            gone = [flight.leader, *flights.land(flight)]
            assert [each.arrived for each in gone] == sorted(each.arrived for each in gone)
            left.update(waiting.pop(each.arrived).arrived for each in gone)
        elif event == "pass on" and under_way:
            flight = dice.choice(under_way)
            left[waiting.pop(flight.leader.arrived).arrived] += 1
            if not flights.pass_on(flight):
                under_way.remove(flight)
        elif event == "withdraw" and waiting:
            wanted = waiting[dice.choice(list(waiting))]
            found = flights.withdraw(wanted.request)
            leads = any(flight.leader is wanted for flight in under_way)
            assert (found is None) == leads, "a follower is found, a leader is not"
            if found is not None:
                left[waiting.pop(found.arrived).arrived] += 1
        flights.check()
        assert len(flights) == len(waiting), "a job is lost, or stands where it should not"
    for flight in list(under_way):
        left.update(waiting.pop(each.arrived).arrived for each in (flight.leader, *flights.land(flight)))
    assert not waiting
    assert set(left.values()) <= {1}
