"""A host is emptied by the whole service over a real bus, with two nodes that move desktops."""

from __future__ import annotations

from functools import partial
from uuid import UUID

import pytest
from tests.buses import connected
from tests.conftest import free_port
from tests.integration.inventory.test_service import create, inventory
from tests.polling import eventually
from tests.unit.inventory.movers import Movers
from tests.unit.inventory.stage import FakeImaging, FakeNode

from roost_common import topology
from roost_common.bus import Bus, Subscription
from roost_common.clock import SystemClock
from roost_common.contracts.base import Delivery
from roost_common.contracts.desktop import EnsureDesktop
from roost_common.contracts.disk import EnsureDisk
from roost_common.contracts.host import HostMaintenance
from roost_common.contracts.migration import (
    CancelMigration,
    DesktopMigrated,
    MigrateDesktop,
    MigrationProgress,
)
from roost_inventory.settings import Settings

pytestmark = pytest.mark.integration

REPORT_S = 0.05
"""How often the nodes report."""


class Nodes:
    """Two nodes, imaging, and somebody who listens."""

    def __init__(self, bus: Bus) -> None:
        clock = SystemClock()
        self.bus = bus
        self.nodes = {name: FakeNode(name, clock) for name in ("n1", "n2")}
        self.movers = Movers(self.nodes)
        self.imaging = FakeImaging()
        self.heard: list[DesktopMigrated | HostMaintenance] = []
        for name in self.nodes:
            queue = topology.node_queue(name, EnsureDesktop, MigrateDesktop, CancelMigration)
            bus.subscribe(Subscription(queue, partial(self._on_node, name), 1))
        disks = topology.service_queue("imaging", EnsureDisk)
        bus.subscribe(Subscription(disks, self._on_disk, 4))
        audience = topology.service_queue("audience", DesktopMigrated, HostMaintenance)
        bus.subscribe(Subscription(audience, self._on_event, 4))

    async def _on_node(self, name: str, delivery: Delivery) -> None:
        for answer in self.movers.take(delivery.message, name):
            await self.bus.publish(answer)

    async def _on_disk(self, delivery: Delivery) -> None:
        assert isinstance(delivery.message, EnsureDisk)
        answer = self.imaging.take(delivery.message)
        if answer is not None:
            await self.bus.publish(answer)

    async def _on_event(self, delivery: Delivery) -> None:
        assert isinstance(delivery.message, DesktopMigrated | HostMaintenance)
        self.heard.append(delivery.message)

    async def report(self) -> None:
        """What both nodes say every few seconds."""
        for node in self.nodes.values():
            await self.bus.publish(node.report())


async def test_a_host_is_emptied_over_the_real_bus(settings: Settings, amqp_url: str) -> None:
    live = Settings(
        **{
            **settings.model_dump(),
            "amqp_url": amqp_url,
            "listen": f"127.0.0.1:{free_port()}",
            "reconcile_interval_s": 0.2,
        }
    )
    nodes = Nodes(Bus(amqp_url, "outside"))
    async with connected(nodes.bus), inventory(live) as http:

        async def run() -> bool:
            await nodes.report()
            for number in (1, 2, 3):
                await nodes.bus.publish(create(number))
            found = (await http.get("/api/v1/desktops")).json()["items"]
            return [one["state"] for one in found] == ["running"] * 3

        await eventually(run, "three run", 40, pause=REPORT_S)
        start = set(nodes.nodes["n1"].running())
        assert start
        answer = await http.post("/api/v1/hosts/n1/maintenance")
        assert answer.json()["state"] == "preparing_maintenance"
        told: set[float] = set()

        async def empty() -> bool:
            await nodes.report()
            for desktop, move in list(nodes.movers.moves.items()):
                where = f"/api/v1/migrations/{move.migration_id}"
                percent = (await http.get(where)).json()["percent"]
                told.add(percent)
                if percent < 50:
                    progress = MigrationProgress(
                        migration_id=move.migration_id, desktop_id=desktop, node="n1", percent=50
                    )
                    await nodes.bus.publish(progress)
                    continue
                for messages in nodes.movers.finish(desktop).values():
                    for message in messages:
                        await nodes.bus.publish(message)
            return bool((await http.get("/api/v1/hosts/n1")).json()["state"] == "maintenance")

        await eventually(empty, "n1 is in maintenance", 40, pause=REPORT_S)
        assert nodes.nodes["n2"].running() == {UUID(int=number) for number in (1, 2, 3)}
        assert 50.0 in told

        await eventually(
            lambda: len(nodes.heard) == len(start) + 1,
            lambda: f"each move once, and the maintenance: {nodes.heard}",
        )
        moved = {one.desktop.id for one in nodes.heard if isinstance(one, DesktopMigrated)}
        assert moved == start
