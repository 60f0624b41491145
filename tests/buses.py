"""A bus that runs, and somebody who listens on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from roost_common.bus import Bus, QuerySubscription, Subscription
from roost_common.contracts.base import Delivery


@asynccontextmanager
async def connected(bus: Bus, *parts: Subscription | QuerySubscription) -> AsyncIterator[Bus]:
    """It is connected, and takes what ``parts`` want, as long as the block."""
    for part in parts:
        bus.subscribe(part)
    task = asyncio.create_task(bus.run())
    try:
        await bus.wait_connected()
        yield bus
    finally:
        await bus.drain()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Recorder:
    """Keeps what it is handed; raises what it is told to, once each."""

    def __init__(self, *errors: Exception) -> None:
        self.seen: list[Delivery] = []
        self.errors = list(errors)

    async def __call__(self, delivery: Delivery) -> None:
        self.seen.append(delivery)
        if self.errors:
            raise self.errors.pop(0)
