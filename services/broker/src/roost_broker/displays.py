"""The screens of running desktops, opened and closed by the agents of their nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, Protocol, TypeVar
from uuid import UUID

from roost_broker import metrics
from roost_broker.launch import Place
from roost_common import log
from roost_common.clock import Clock
from roost_common.contracts.base import Body, Query
from roost_common.contracts.display import CloseDisplay, DisplayTicket, Done, OpenDisplay
from roost_common.errors import RoostError, Unavailable

logger = log.get_logger(__name__)

B = TypeVar("B", bound=Body)

NOT_RUNNING: Final = "desktop.not-running"
RETRY_AFTER_S: Final = 2.0
CLOSE_DEADLINE_S: Final = 3.0
CLOSED_AT_ONCE: Final = 8
CLOSES_KEPT: Final = 1000


class Asks(Protocol):
    """The part of the bus that is needed here."""

    async def request(self, query: Query, node: str, answer: type[B], *, deadline_s: float) -> B:
        """Ask a node's agent."""
        ...


Reopened = Callable[[UUID, datetime], Awaitable[bool]]
"""Whether somebody has asked for a ticket for this run since then, and may still come with it."""


class Displays:
    """Tickets for screens, and the end of them."""

    def __init__(
        self, bus: Asks, clock: Clock, reopened: Reopened, *, valid_s: int, deadline_s: float
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._reopened = reopened
        self._valid_s = valid_s
        self._deadline_s = deadline_s
        self._to_close: asyncio.Queue[tuple[Place, datetime]] = asyncio.Queue(CLOSES_KEPT)

    async def open(self, place: Place) -> DisplayTicket:
        """A fresh password; whoever was connected is cut off.

        Raises `Unavailable` when the agent does not answer, and its own error with the code
        ``desktop.not-running`` when that run is over.
        """
        query = OpenDisplay(
            desktop_id=place.desktop_id, boot_id=place.boot_id, valid_s=self._valid_s
        )
        with metrics.TICKET_SECONDS.time():
            try:
                return await self._bus.request(
                    query, place.host, DisplayTicket, deadline_s=self._deadline_s
                )
            except Unavailable as error:
                raise Unavailable(
                    error.code, error.text, retry_after_s=RETRY_AFTER_S, **error.fields
                ) from error

    def close_later(self, place: Place) -> None:
        """Cut off whoever is connected, soon and if possible, unless the screen is opened anew."""
        try:
            self._to_close.put_nowait((place, self._clock.now()))
        except asyncio.QueueFull:
            logger.warning("display.close-dropped", desktop=place.name)

    async def run(self) -> None:
        """Close what is to be closed, for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CLOSED_AT_ONCE):
                group.create_task(self._closer())

    async def _closer(self) -> None:
        while True:
            place, ordered_at = await self._to_close.get()
            if not await self._stands(place, ordered_at):
                continue
            query = CloseDisplay(desktop_id=place.desktop_id, boot_id=place.boot_id)
            try:
                await self._bus.request(query, place.host, Done, deadline_s=CLOSE_DEADLINE_S)
            except RoostError as error:
                logger.info("display.not-closed", desktop=place.name, code=error.code)

    async def _stands(self, place: Place, ordered_at: datetime) -> bool:
        """Whether nobody has asked for the screen since: orders wait behind nodes that are mute.

        A later ticket has cut off whoever was to be cut off, and its owner must not be.
        """
        try:
            return not await self._reopened(place.boot_id, ordered_at)
        except RoostError:
            return True  # who is cut off by mistake asks again; who was to be, stays
