"""Storage calls in threads with a deadline: a dead file server blocks its own lane, nobody else's.

A call to a hanging NFS server cannot be interrupted. Its thread is left behind (a daemon, so that
it never keeps the process from ending), and until it comes back every further call in that lane
fails at once instead of leaving another thread behind.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

from roost_common import log
from roost_common.errors import RoostError, Unavailable

logger = log.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

LANE_WIDTH: Final = 8
"""Calls at once to one storage."""


class Lane:
    """The calls to one storage."""

    def __init__(self, name: str, timeout_s: float) -> None:
        self.name = name
        self._timeout_s = timeout_s
        self._width = asyncio.Semaphore(LANE_WIDTH)
        self._stuck: set[asyncio.Future[Any]] = set()

    @property
    def stuck(self) -> int:
        """Calls given up that have not come back."""
        return len(self._stuck)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it in a thread; its errors are raised here.

        Raises `Unavailable` (``storage.unavailable``) when it takes too long, or at once while an
        earlier call hangs.
        """
        return await self._run(self._timeout_s, function, *args, **kwargs)

    async def run_long(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same without a deadline, for what reads whole files."""
        return await self._run(None, function, *args, **kwargs)

    async def _run(
        self, timeout_s: float | None, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        if self._stuck:
            raise self._silent()
        async with self._width:
            result = _in_thread(self.name, function, *args, **kwargs)
            result.add_done_callback(_seen)
            # wait, not wait_for: the thread cannot be cancelled, only left behind.
            done, _ = await asyncio.wait([result], timeout=timeout_s)
            if done:
                return result.result()
        self._stuck.add(result)
        result.add_done_callback(self._came_back)
        logger.warning("storage.hangs", lane=self.name, stuck=self.stuck)
        raise self._silent()

    def _came_back(self, result: asyncio.Future[Any]) -> None:
        self._stuck.discard(result)
        logger.info("storage.came-back", lane=self.name, stuck=self.stuck)

    def _silent(self) -> RoostError:
        return Unavailable(
            "storage.unavailable", "The storage does not answer.", retry_after_s=self._timeout_s
        )


def _seen(result: asyncio.Future[Any]) -> None:
    """Whoever asked may have gone; then the outcome is of no interest, and no unseen error."""
    if not result.cancelled():
        result.exception()


def _in_thread(
    name: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> asyncio.Future[T]:
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if result.cancelled():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]

    def call() -> None:
        value: T | None = None
        error: BaseException | None = None
        try:
            value = function(*args, **kwargs)
        except BaseException as raised:
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=call, name=f"lane-{name}", daemon=True).start()
    return result


class Lanes:
    """A lane per storage domain, and one for the import directory."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lanes: dict[object, Lane] = {}

    def of(self, key: object) -> Lane:
        """The lane of a storage domain's id, or of anything else that may hang by itself."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(str(key), self._timeout_s)
        return lane

    @property
    def imports(self) -> Lane:
        """The lane of the import directory."""
        return self.of("import")
