from __future__ import annotations

import asyncio

import pytest

from roost_host_agent.start_queue import StartQueue


class Starts:
    """Starts that end when the test says so."""

    def __init__(self, places: int) -> None:
        self.queue = StartQueue(places)
        self.began: list[int] = []
        self.ends: dict[int, asyncio.Event] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}

    async def one(self, number: int) -> None:
        async with self.queue.turn(number):
            self.began.append(number)
            await self.ends[number].wait()

    async def come(self, *numbers: int) -> None:
        for number in numbers:
            self.ends[number] = asyncio.Event()
            self.tasks[number] = asyncio.create_task(self.one(number))
            await asyncio.sleep(0)

    async def end(self, number: int) -> None:
        self.ends[number].set()
        await self.tasks[number]
        await asyncio.sleep(0)


async def test_no_more_than_there_are_places() -> None:
    starts = Starts(2)
    await starts.come(0, 1, 2, 3)
    assert starts.began == [0, 1]
    await starts.end(1)
    assert starts.began == [0, 1, 2]
    for number in (0, 2, 3):
        await starts.end(number)
    await starts.come(4, 5)
    assert starts.began[-2:] == [4, 5]
    for number in (4, 5):
        await starts.end(number)


async def test_whoever_came_first_is_next_however_late_it_began_to_wait() -> None:
    starts = Starts(1)
    numbers = [starts.queue.number() for _ in range(4)]
    await starts.come(*(numbers[i] for i in (0, 3, 1, 2)))
    for number in numbers:
        assert starts.began[-1] == number
        await starts.end(number)


@pytest.mark.parametrize("at_the_same_time", [False, True])
async def test_who_gives_up_keeps_no_place(at_the_same_time: bool) -> None:
    starts = Starts(1)
    await starts.come(0, 1, 2)
    if at_the_same_time:
        starts.ends[0].set()
        await asyncio.sleep(0)  # the place is on its way to 1
    starts.tasks[1].cancel()
    await asyncio.gather(starts.tasks[1], return_exceptions=True)
    if not at_the_same_time:
        await starts.end(0)
    await asyncio.sleep(0)
    assert starts.began == [0, 2]
    await starts.end(2)
    await starts.come(3)
    assert starts.began[-1] == 3
    await starts.end(3)
