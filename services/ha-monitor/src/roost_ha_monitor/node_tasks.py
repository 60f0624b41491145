"""What takes long and is done for one host at a time: switching it off, or on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from roost_common import log
from roost_common.errors import RoostError

logger = log.get_logger(__name__)

Work = Callable[[], Awaitable[None]]


class NodeTasks:
    """Runs one piece of work for each host, those of different hosts side by side."""

    def __init__(self) -> None:
        self._waiting: dict[str, Work] = {}
        self._running: set[str] = set()
        self._woken = asyncio.Event()

    def busy(self, node: str) -> bool:
        """Whether something is being done for this host."""
        return node in self._waiting or node in self._running

    def start(self, node: str, work: Work) -> bool:
        """Do it, unless something is being done for this host; returns whether it will be.

        Work that meets a retryable error ends; who started it looks again. Any other error ends
        the process.
        """
        if self.busy(node):
            return False
        self._waiting[node] = work
        self._woken.set()
        return True

    async def run(self) -> None:
        """Ends only by cancellation, and with it all that is being done."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._woken.clear()
                while self._waiting:
                    node, work = self._waiting.popitem()
                    self._running.add(node)
                    group.create_task(self._do(node, work))
                await self._woken.wait()

    async def _do(self, node: str, work: Work) -> None:
        try:
            await work()
        except RoostError as error:
            if not error.retryable:
                raise
            logger.warning("node-task.failed", node=node, code=error.code)
        finally:
            self._running.discard(node)
