"""Lanes: a storage that hangs costs its own callers a deadline, once, and nobody else anything."""

from __future__ import annotations

import asyncio
import threading
from time import monotonic

import pytest
from tests.polling import eventually

from roost_common.errors import Unavailable
from roost_imaging.lanes import LANE_WIDTH, Lane, Lanes


async def test_results_and_errors_come_back() -> None:
    lane = Lane("a", 5)
    assert await lane.run(lambda x: x + 1, 2) == 3
    with pytest.raises(ZeroDivisionError):
        await lane.run(lambda: 1 // 0)


async def test_a_hanging_call_is_left_behind_and_the_next_fail_at_once() -> None:
    lane, again = Lane("a", 0.2), threading.Event()
    with pytest.raises(Unavailable) as caught:
        await lane.run(again.wait, 30)
    assert (caught.value.code, caught.value.retryable) == ("storage.unavailable", True)
    assert lane.stuck == 1
    before, threads = monotonic(), threading.active_count()
    for _ in range(50):
        with pytest.raises(Unavailable):
            await lane.run(again.wait, 30)
    assert monotonic() - before < 0.2
    assert threading.active_count() == threads
    again.set()
    await eventually(lambda: not lane.stuck, "the storage answers again")
    assert await lane.run(lambda: "back") == "back"


async def test_lanes_do_not_wait_for_each_other() -> None:
    lanes, again = Lanes(30), threading.Event()
    hanging = [asyncio.create_task(lanes.of("dead").run(again.wait, 30)) for _ in range(20)]
    assert await lanes.of("good").run(lambda: 1) == 1
    assert lanes.of("good") is lanes.of("good")
    assert not any(task.done() for task in hanging)
    again.set()
    assert all(await asyncio.gather(*hanging))


async def test_a_lane_is_not_wider_than_it_says() -> None:
    lane, inside, most = Lane("a", 30), 0, 0
    lock = threading.Lock()
    gate = threading.Event()

    def call() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            if inside == LANE_WIDTH:
                gate.set()
        gate.wait(10)
        with lock:
            inside -= 1

    await asyncio.gather(*(lane.run(call) for _ in range(3 * LANE_WIDTH)))
    assert most == LANE_WIDTH


async def test_a_long_call_has_no_deadline() -> None:
    lane, again = Lane("a", 0.05), threading.Event()
    slow = asyncio.create_task(lane.run_long(again.wait, 30))
    await asyncio.wait({slow}, timeout=0.2)
    assert not slow.done()
    assert lane.stuck == 0
    again.set()
    assert await slow
