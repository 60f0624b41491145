"""Loops that make things right: run often, run at once when woken, survive what passes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from roost_common import log, metrics
from roost_common.errors import RoostError

logger = log.get_logger(__name__)


class Loop:
    """Calls ``step`` every ``interval_s`` seconds, and at once after `wake`.

    A retryable `RoostError` is logged once, and once when it is over; any other error ends the
    process, whose supervisor starts it anew. A step that returns True has more to do and is
    called again at once.
    """

    def __init__(
        self, name: str, step: Callable[[], Awaitable[bool | None]], interval_s: float
    ) -> None:
        self.name = name
        self._step = step
        self._interval_s = interval_s
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Do not wait for the next turn."""
        self._woken.set()

    async def run(self) -> None:
        """Ends only by cancellation or by an unexpected error."""
        failing = False
        while True:
            self._woken.clear()
            more: bool | None = False
            try:
                more = await self._step()
            except RoostError as error:
                if not error.retryable:
                    raise
                metrics.LOOP_FAILURES.labels(self.name).inc()
                if not failing:
                    logger.warning("loop.failing", loop=self.name, code=error.code)
                failing = True
                await asyncio.sleep(min(self._interval_s, 1.0))
                continue
            if failing:
                logger.info("loop.recovered", loop=self.name)
                failing = False
            if not more:
                await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._interval_s):
                await self._woken.wait()
        except TimeoutError:
            return


async def endless(task: Callable[[], Awaitable[None]]) -> None:
    """``task``, which ends only by cancellation of this one. Raises RuntimeError otherwise.

    A task group takes a task that ends as cancelled for one that somebody wanted to end, and goes
    on without it. Where a library's own cancellation comes through, nobody did.
    """
    try:
        await task()
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
        raise RuntimeError("a task that never ends was cancelled by nobody") from None
    raise RuntimeError("a task that never ends has ended")
