"""When screens are closed, and when no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
from tests.polling import eventually

from roost_broker.displays import Displays
from roost_broker.launch import Place
from roost_common.contracts.base import Query
from roost_common.contracts.desktop import SpiceAddress
from roost_common.contracts.display import CloseDisplay, DisplayTicket, Done, OpenDisplay
from roost_common.errors import Unavailable
from roost_common.testing.bus import FakeBus


class Node(FakeBus):
    """A node that opens and closes what it is asked to, and remembers what it closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed: list[UUID] = []
        self.answers = {OpenDisplay: self._open, CloseDisplay: self._close}

    async def _open(self, query: Query, node: str) -> DisplayTicket:
        assert isinstance(query, OpenDisplay)
        return DisplayTicket(
            boot_id=query.boot_id,
            spice=SpiceAddress(host=node, port=5900, tls_port=5901),
            password="secret",
            valid_s=query.valid_s,
            ca="",
            host_subject="",
        )

    async def _close(self, query: Query, _node: str) -> Done:
        assert isinstance(query, CloseDisplay)
        self.closed.append(query.boot_id)
        return Done()


@asynccontextmanager
async def running(displays: Displays) -> AsyncIterator[None]:
    task = asyncio.create_task(displays.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def displays(node: Node) -> Displays:
    return Displays(node, valid_s=30, deadline_s=1)


def place(name: str) -> Place:
    return Place(uuid4(), name, "n1", uuid4())


async def test_who_comes_with_a_later_ticket_is_not_cut_off(displays: Displays, node: Node) -> None:
    """The order to close may wait behind nodes that do not answer; the ticket does not."""
    opened_again, other = place("d1"), place("d2")
    displays.close_later(opened_again)
    await displays.open(opened_again)
    displays.close_later(other)
    async with running(displays):
        await eventually(lambda: node.closed == [other.boot_id], "the other one is closed")
        displays.close_later(opened_again)
        await eventually(
            lambda: node.closed == [other.boot_id, opened_again.boot_id],
            "what is closed after the ticket is",
        )


async def test_what_cannot_be_opened_is_closed_still(displays: Displays, node: Node) -> None:
    left = place("d1")
    displays.close_later(left)
    node.connected = False
    with pytest.raises(Unavailable):
        await displays.open(left)
    node.connected = True
    async with running(displays):
        await eventually(lambda: node.closed == [left.boot_id], "it is closed")
