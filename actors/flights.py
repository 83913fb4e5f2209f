"""Single flight: of requests that ask the same at the same time one leads, and the others share its answer.

A flight begins with the first request for a key and ends when the leader has been answered. What becomes of
the followers then is decided by whoever knows the answer; here stands only who follows whom:

* the leader was answered: the flight *lands*, and its followers share the answer;
* the leader gave up: the flight is *passed on* to the follower that has waited longest;
* a follower gave up: it is *withdrawn*, and nobody else notices.

Followers are jobs that wait, so their number is bounded: beyond it requests go their own ways.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from ..proto.message import Request
from .cache import Key
from .clock import Nanoseconds
from .schedule import Job

FlightKey = tuple[Key, int, int]
"""Who may fly together: the key in the cache, the priority, and the microseconds that a request may wait."""
MOST_FOLLOWERS: Final = 65_536
"""Requests to one model version that may follow others."""


@dataclass(slots=True, eq=False)
class Flight:
    """A request on its way, and those that wait for its answer."""

    key: FlightKey
    leader: Job
    followers: deque[Job] = field(default_factory=deque)
    lookup_ns: Nanoseconds = 0
    """How long it took to learn that the answer is not in the cache."""


class Flights:
    """All flights of one model version."""

    __slots__ = ("_bound", "_flights", "_followers")

    def __init__(self, bound: int = MOST_FOLLOWERS) -> None:
        self._bound = bound
        self._flights: dict[FlightKey, Flight] = {}
        self._followers = 0

    def __len__(self) -> int:
        """Jobs that lead or follow."""
        return len(self._flights) + self._followers

    @property
    def full(self) -> bool:
        """Whether nobody may follow any more."""
        return self._followers >= self._bound

    def board(self, key: FlightKey, job: Job) -> Flight | None:
        """Let a job follow whoever leads for this key; return its flight where it is the one to lead."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = Flight(key, job)
            return flight
        flight.followers.append(job)
        self._followers += 1
        return None

    def land(self, flight: Flight) -> deque[Job]:
        """End a flight and return its followers, the one that has waited longest first."""
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
            self._followers -= len(flight.followers)
        followers, flight.followers = flight.followers, deque()
        return followers

    def pass_on(self, flight: Flight) -> bool:
        """Let the follower that has waited longest lead; return False where none is left, which ends it."""
        if not flight.followers:
            self.land(flight)
            return False
        flight.leader = flight.followers.popleft()
        self._followers -= 1
        return True

    def withdraw(self, request: Request) -> Job | None:
        """Give back the job of a request that follows; one that leads is not found here."""
        for flight in self._flights.values():
            for job in flight.followers:
                if job.request is request:
                    flight.followers.remove(job)
                    self._followers -= 1
                    return job
        return None

    def check(self) -> None:
        """Raise AssertionError when the flights contradict themselves; for tests, after each step."""
        jobs = [job for flight in self._flights.values() for job in (flight.leader, *flight.followers)]
        assert len(jobs) == len(self) == len({id(job) for job in jobs}), (
            "a job stands twice or was miscounted"
        )
        assert all(flight.key == key for key, flight in self._flights.items()), "a flight under a wrong key"
