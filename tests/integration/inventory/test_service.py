"""The whole service on a real bus and database, with a node and imaging on that bus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import httpx
import pytest
from tests.buses import connected
from tests.conftest import free_port
from tests.integration.inventory.conftest import bearer, jwks
from tests.polling import eventually
from tests.unit.inventory.stage import SMALL, TEMPLATE, FakeImaging, FakeNode

from roost_common import topology
from roost_common.bus import Bus, QuerySubscription, Subscription
from roost_common.clock import SystemClock
from roost_common.contracts.base import Body, Delivery, Message, Query
from roost_common.contracts.desktop import (
    CreateDesktop,
    DeleteDesktop,
    DesktopChanged,
    DesktopCreated,
    DesktopDeleted,
    DesktopFact,
    DesktopReimaged,
    DesktopStarted,
    DesktopStartRefused,
    DesktopStopped,
    EnsureDesktop,
    Power,
    ReimageDesktop,
    SetDesktopPower,
    StopReason,
)
from roost_common.contracts.disk import EnsureDisk
from roost_common.contracts.display import Done, RebootDesktop
from roost_common.security import Role
from roost_common.service import running
from roost_inventory.bootstrap import build
from roost_inventory.migrations import MIGRATIONS
from roost_inventory.settings import Settings

pytestmark = pytest.mark.integration

REPORT_S = 0.05
"""How often the node reports."""
SPOKEN = (
    DesktopCreated,
    DesktopStarted,
    DesktopStopped,
    DesktopChanged,
    DesktopReimaged,
    DesktopStartRefused,
    DesktopDeleted,
)


@dataclass
class Outside:
    """All but inventory: a node's agent, imaging, and somebody who listens."""

    node: FakeNode
    bus: Bus
    imaging: FakeImaging = field(default_factory=FakeImaging)
    heard: list[DesktopFact] = field(default_factory=list)
    asked: list[Query] = field(default_factory=list)

    def subscribe(self) -> None:
        """Everybody's queues, on one connection."""
        for queue, handler in [
            (topology.node_queue(self.node.name, EnsureDesktop), self._on_node),
            (topology.service_queue("imaging", EnsureDisk), self._on_disk),
            (topology.service_queue("audience", *SPOKEN), self._on_event),
        ]:
            self.bus.subscribe(Subscription(queue, handler, 4))
        queries = topology.query_queue(self.node.name)
        self.bus.subscribe(QuerySubscription(queries, self._on_query))

    async def _on_node(self, delivery: Delivery) -> None:
        assert isinstance(delivery.message, EnsureDesktop)
        if (seen := self.node.take(delivery.message)) is not None:
            await self.bus.publish(seen)

    async def _on_disk(self, delivery: Delivery) -> None:
        assert isinstance(delivery.message, EnsureDisk)
        answer = self.imaging.take(delivery.message)
        if answer is not None:
            await self.bus.publish(answer)

    async def _on_event(self, delivery: Delivery) -> None:
        assert isinstance(delivery.message, DesktopFact)
        self.heard.append(delivery.message)

    async def _on_query(self, query: Query) -> Body:
        self.asked.append(query)
        return Done()

    def last(self, desktop: UUID) -> str:
        """State of a desktop by its newest event."""
        views = [event.desktop for event in self.heard if event.desktop.id == desktop]
        return max(views, key=lambda view: view.revision).state.value if views else ""


@pytest.fixture
def live_settings(settings: Settings, amqp_url: str) -> Settings:
    """Settings with a real bus and a port to listen on."""
    return Settings(
        **{
            **settings.model_dump(),
            "amqp_url": amqp_url,
            "listen": f"127.0.0.1:{free_port()}",
            "reconcile_interval_s": 0.2,
        }
    )


@pytest.fixture
async def outside(amqp_url: str) -> AsyncIterator[Outside]:
    """Everybody else, listening."""
    outside = Outside(FakeNode("n1", SystemClock()), Bus(amqp_url, "outside"))
    outside.subscribe()
    async with connected(outside.bus):
        yield outside


@asynccontextmanager
async def inventory(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The service, and a client that is an administrator."""
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(build(settings, keys=jwks))
        await stack.enter_async_context(running(parts, settings))
        await parts.bus.wait_connected()
        client = httpx.AsyncClient(
            base_url=f"http://{settings.listen}",
            headers=bearer("root", Role.ADMIN),
            trust_env=False,
        )
        yield await stack.enter_async_context(client)


def create(number: int) -> CreateDesktop:
    return CreateDesktop(
        desktop_id=UUID(int=number), desktop_name=f"d{number}", template=TEMPLATE, spec=SMALL
    )


async def test_models_and_migrations_agree(database_url: str) -> None:
    await MIGRATIONS.check(database_url)


async def test_a_desktops_life_over_the_real_bus(live_settings: Settings, outside: Outside) -> None:
    desktop = UUID(int=1)

    async def becomes(state: str) -> None:
        async def reached() -> bool:
            await outside.bus.publish(outside.node.report())
            return outside.last(desktop) == state

        await eventually(
            reached, lambda: f"{state}, not {outside.last(desktop)}", 30, pause=REPORT_S
        )

    async with inventory(live_settings) as http:
        ready = await eventually(lambda: http.get("/readyz"), "ready")
        assert ready.status_code == 200
        await outside.bus.publish(create(1))
        await becomes("running")
        found = (await http.get("/api/v1/desktops/d1")).json()
        assert (found["state"], found["host"]) == ("running", "n1")
        assert (await http.get("/api/v1/hosts/n1")).json()["desktops"] == 1
        assert (await http.post("/api/v1/desktops/d1/reboot")).status_code == 202
        assert outside.asked == [RebootDesktop(desktop_id=desktop)]

        await outside.bus.publish(ReimageDesktop(desktop_id=desktop, disk_generation=2))
        await eventually(
            lambda: any(isinstance(event, DesktopReimaged) for event in outside.heard),
            "its disk is renewed",
            30,
        )
        await becomes("running")
        await outside.bus.publish(outside.node.stop(desktop, StopReason.GUEST_SHUTDOWN))
        await becomes("stopped")
        await outside.bus.publish(SetDesktopPower(desktop_id=desktop, power=Power.ON))
        await becomes("running")
        await outside.bus.publish(DeleteDesktop(desktop_id=desktop))
        await becomes("deleted")
        metrics = (await http.get("/metrics")).text
        assert "roost_inventory_placements_total" in metrics
    assert outside.node.domains == {}
    assert outside.imaging.reached[desktop][1] is False
    revisions = [event.desktop.revision for event in outside.heard]
    assert sorted(revisions) == list(range(1, len(revisions) + 1)), "one event for each revision"
    boots = {e.desktop.boot_id for e in outside.heard if isinstance(e, DesktopStarted)}
    assert len(boots) == 3


async def test_what_was_ordered_while_it_was_away_is_done_when_it_is_back(
    live_settings: Settings, outside: Outside
) -> None:
    async with inventory(live_settings):

        async def enrolled() -> bool:
            await outside.bus.publish(outside.node.report())
            await outside.bus.publish(create(1))
            return outside.last(UUID(int=1)) == "running"

        await eventually(enrolled, "the first runs", 30, pause=REPORT_S)
    orders: list[Message] = [create(number) for number in range(2, 8)]
    orders.append(DeleteDesktop(desktop_id=UUID(int=1)))
    # Before its creation, on purpose: it comes again until there is something to delete.
    orders.insert(0, DeleteDesktop(desktop_id=UUID(int=7)))
    for message in orders:
        await outside.bus.publish(message)
    async with inventory(live_settings):

        def done() -> bool:
            states = [outside.last(UUID(int=number)) for number in range(1, 8)]
            return states == ["deleted", *["running"] * 5, "deleted"]

        await eventually(done, "all of it is done", 60)
    assert len(outside.node.domains) == 5
