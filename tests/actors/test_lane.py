"""A lane: one thread, errands in order, reports on the loop."""

import asyncio
import threading

import pytest

from deuteron.actors.lane import Lane, LaneClosedError


async def test_calls_run_on_the_lanes_own_thread_in_order() -> None:
    """Whatever is called runs after what was called before, on one thread."""
    lane = Lane("tested")
    seen: list[tuple[int, str]] = []
    calls = [
        lane.call(lambda number=number: seen.append((number, threading.current_thread().name)))
        for number in range(5)
    ]
    await asyncio.gather(*calls)
    assert seen == [(number, "tested") for number in range(5)]
    lane.close()


async def test_what_a_call_raises_is_raised_where_it_is_awaited() -> None:
    """And the lane goes on."""
    lane = Lane("tested")
    with pytest.raises(ZeroDivisionError):
        await lane.call(lambda: 1 // 0)
    assert await lane.call(lambda: 7) == 7
    lane.close()


async def test_reports_from_any_thread_arrive_on_the_loop_in_order() -> None:
    """Every report arrives once, whoever reports, in the order of each reporter."""
    lane = Lane("tested")
    arrived: list[tuple[int, int]] = []
    everything = asyncio.Event()

    def receive(who: int, number: int) -> None:
        arrived.append((who, number))
        if len(arrived) == 4 * 200:
            everything.set()

    def report_all(who: int) -> None:
        for number in range(200):
            lane.report(receive, who, number)

    threads = [threading.Thread(target=report_all, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    await everything.wait()
    for thread in threads:
        thread.join()
    for me in range(4):
        assert [n for who, n in arrived if who == me] == list(range(200))
    lane.close()


async def test_a_closed_lane_refuses_calls() -> None:
    """Nobody waits for a thread that has ended."""
    lane = Lane("tested")
    lane.close()
    with pytest.raises(LaneClosedError):
        await lane.call(lambda: 7)
