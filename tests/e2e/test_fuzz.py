"""A short run of the fuzzer, whose long run is `python -m tests.fuzz`: mutated requests harm nobody."""

import asyncio
from collections.abc import Iterator
from random import Random

import pytest

from ..fuzz.__main__ import GOOD, fuzz, house
from ..fuzz.tally import Tally
from .house import Server
from .wire import infer

REQUESTS = 6000
FRAMES = 20_000


@pytest.fixture
def fuzzed() -> Iterator[Server]:
    with house() as server:
        yield server


@pytest.mark.slow
def test_mutated_requests_leave_the_server_as_it_was(fuzzed: Server) -> None:
    tally = Tally()
    asyncio.run(fuzz(fuzzed, Random(20261120), REQUESTS, FRAMES, tally))
    assert tally.faults == []
    assert tally.requests >= REQUESTS + FRAMES
    assert infer(fuzzed.http, "fixed", GOOD)[0] == 200
