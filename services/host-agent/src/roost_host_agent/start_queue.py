"""How many desktops start at once on a node, and in which order the others wait."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from roost_host_agent import metrics


class StartQueue:
    """Places for starts. A free one goes to the command that came first of those that wait, not
    to the one whose desktop was looked at first."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._numbers = count()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def number(self) -> int:
        """To be drawn when the command comes."""
        return next(self._numbers)

    @asynccontextmanager
    async def turn(self, number: int) -> AsyncIterator[None]:
        """Wait for a place, and give it back."""
        if self._free > 0:
            self._free -= 1
        else:
            await self._wait(number)
        try:
            yield
        finally:
            self._give_back()

    async def _wait(self, number: int) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (number, mine))
        metrics.STARTS_WAITING.inc()
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._give_back()  # the place came together with the cancellation
            raise
        finally:
            metrics.STARTS_WAITING.dec()

    def _give_back(self) -> None:
        while self._waiting:
            _, first = heapq.heappop(self._waiting)
            if not first.done():
                first.set_result(None)
                return
        self._free += 1
