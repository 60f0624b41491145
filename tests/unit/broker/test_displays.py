"""When screens are closed, and when no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import pytest
from tests.polling import eventually

from roost_broker.displays import Displays
from roost_broker.launch import Place
from roost_common.contracts.base import Query
from roost_common.contracts.display import CloseDisplay, Done
from roost_common.errors import Unavailable
from roost_common.testing.bus import FakeBus
from roost_common.testing.clock import FakeClock


class Node(FakeBus):
    """A node that remembers which runs' screens it was to close."""

    def __init__(self) -> None:
        super().__init__()
        self.closed: list[UUID] = []
        self.answers = {CloseDisplay: self._close}

    async def _close(self, query: Query, _node: str) -> Done:
        assert isinstance(query, CloseDisplay)
        self.closed.append(query.boot_id)
        return Done()


class Tickets:
    """When a ticket was asked for, by run."""

    def __init__(self) -> None:
        self.last: dict[UUID, datetime] = {}
        self.known = True

    async def since(self, boot_id: UUID, since: datetime) -> bool:
        if not self.known:
            raise Unavailable("database.unavailable", "The database does not answer.")
        return boot_id in self.last and self.last[boot_id] > since


@dataclass
class Stage:
    clock: FakeClock
    node: Node
    tickets: Tickets
    displays: Displays

    def order(self, name: str) -> UUID:
        """That whoever looks at this desktop is cut off; the run."""
        place = Place(uuid4(), name, "n1", uuid4())
        self.displays.close_later(place)
        self.clock.advance(1)
        return place.boot_id

    @asynccontextmanager
    async def carried_out(self) -> AsyncIterator[None]:
        """What was ordered before, at last."""
        task = asyncio.create_task(self.displays.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def stage() -> Stage:
    clock, node, tickets = FakeClock(), Node(), Tickets()
    return Stage(
        clock, node, tickets, Displays(node, clock, tickets.since, valid_s=30, deadline_s=1)
    )


async def test_who_comes_with_a_later_ticket_is_not_cut_off(stage: Stage) -> None:
    """Orders wait behind nodes that do not answer; tickets do not, and other copies give them."""
    before, after = stage.order("ticket before"), stage.order("ticket after")
    stage.tickets.last = {before: FakeClock().now(), after: stage.clock.now()}
    last = stage.order("no ticket")
    async with stage.carried_out():
        await eventually(lambda: last in stage.node.closed, "the last order is carried out")
    assert set(stage.node.closed) == {before, last}


async def test_where_nobody_knows_of_tickets_the_screen_is_closed(stage: Stage) -> None:
    run = stage.order("d1")
    stage.tickets.known = False
    async with stage.carried_out():
        await eventually(lambda: stage.node.closed == [run], "it is closed")
