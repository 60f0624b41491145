"""Requests of this process that wait for a desktop, and are called when it may be their turn.

They wait here instead of asking the database each for itself: one query for all of them, at once
when this process learns that something moved, and twice a second for what other copies learn.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Final
from uuid import UUID

from roost_broker import metrics
from roost_common.loops import Loop

LOOK_S: Final = 0.5
RECHECK_S: Final = 3.0
"""Each looks again for itself after about this time: there may be nothing to wait for any more."""

CountFree = Callable[[Collection[UUID]], Awaitable[dict[UUID, int]]]


class WaitingRoom:
    """Who waits, by pool and place."""

    def __init__(self, count_free: CountFree) -> None:
        self._count_free = count_free
        self._waiting: dict[UUID, list[tuple[int, asyncio.Event]]] = {}
        self._closed = asyncio.Event()
        self._loop = Loop("waiting-room", self._look, LOOK_S)

    @property
    def closed(self) -> bool:
        """Whether this process is about to stop: nobody should wait any longer."""
        return self._closed.is_set()

    @property
    def occupied(self) -> int:
        """How many wait."""
        return sum(len(entries) for entries in self._waiting.values())

    def wake(self) -> None:
        """Something moved."""
        if self._waiting:
            self._loop.wake()

    def close(self) -> None:
        """Send everybody out."""
        self._closed.set()
        for entries in self._waiting.values():
            for _, called in entries:
                called.set()

    async def wait(self, pool_id: UUID, number: int, timeout_s: float) -> None:
        """Until it may be this launch's turn, or the time is over, or it is time to look again."""
        if self.closed:
            return
        called = asyncio.Event()
        entry = (number, called)
        self._waiting.setdefault(pool_id, []).append(entry)
        metrics.LAUNCHES_HELD.inc()
        recheck_s = RECHECK_S * random.uniform(0.8, 1.2)  # noqa: S311 - spreads the load
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(timeout_s, recheck_s)):
                    await called.wait()
        finally:
            metrics.LAUNCHES_HELD.dec()
            entries = self._waiting[pool_id]
            entries.remove(entry)
            if not entries:
                del self._waiting[pool_id]

    async def run(self) -> None:
        """Look for free desktops, for ever."""
        await self._loop.run()

    async def _look(self) -> None:
        if not self._waiting:
            return
        free = await self._count_free(list(self._waiting))
        for pool_id, count in free.items():
            entries = sorted(self._waiting.get(pool_id, []), key=lambda entry: entry[0])
            for _, called in entries[:count]:
                called.set()
