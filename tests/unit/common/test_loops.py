"""Tasks that never end, and what becomes of one that does."""

from __future__ import annotations

import asyncio

import pytest

from roost_common.loops import endless


async def cancelled_by_a_library() -> None:
    """What waits for a future that somebody cancels, and is not cancelled itself."""
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def test_a_task_that_nobody_cancelled_does_not_vanish() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(cancelled_by_a_library())  # this is what task groups do
    with pytest.raises(ExceptionGroup) as ended:
        async with asyncio.TaskGroup() as group:
            group.create_task(endless(cancelled_by_a_library))
    assert "by nobody" in str(ended.value.exceptions[0])


async def test_a_task_that_is_cancelled_ends() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(endless(forever))
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()


async def test_a_task_that_simply_ends_is_an_error() -> None:
    async def short() -> None:
        return

    with pytest.raises(RuntimeError, match="has ended"):
        await endless(short)
