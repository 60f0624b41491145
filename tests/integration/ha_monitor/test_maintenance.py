"""A host that people work on: its silence is expected until it is activated again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.integration.ha_monitor.conftest import eventually

from roost_common.clock import SystemClock
from roost_common.contracts.host import FencedBy, HostActivated, HostFenced, HostMaintenance
from roost_common.contracts.incident import IncidentResolved, Resolution
from roost_common.security import Role

pytestmark = pytest.mark.integration

ALARMS = ("host.down", "host.agent-silent", "host.libvirt-down", "host.unfenced")


@pytest.fixture
async def maintained(site: Any) -> Any:
    """A copy, and a host with a fence device that is in maintenance; another one is in service."""
    began = SystemClock().now()
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        node = site.node("kvm1")
        for each in (node, site.node("kvm9")):
            each.live()
        for name in ("kvm1", "kvm9"):
            await site.heard(name, "up")
        path = "/api/v1/ha/fencing/kvm1"
        assert (await admin.put(path, json=site.agents.device("1"))).status_code == 200
        await site.bus.publish(HostMaintenance(node="kvm1", decided_at=began))
        await maintenance(site, known=True)
        yield admin, node, began


async def maintenance(site: Any, *, known: bool) -> None:
    async def said() -> bool:
        rows = await site.sql("select maintained from hosts where node = 'kvm1'")
        return [row["maintained"] for row in rows] == [known]

    await eventually(said, f"maintenance: {known}")


async def waits(admin: Any) -> dict[str, Any]:
    """The host's incident, which leaves it alone."""

    async def found() -> dict[str, Any] | None:
        items = (await admin.get("/api/v1/ha/incidents")).json()["items"]
        told = [item for item in items if "maintenance" in item["detail"]]
        return told[0] if told else None

    found_one: dict[str, Any] = await eventually(found, "its incident says why it waits")
    return found_one


async def test_it_may_be_rebooted(site: Any, maintained: Any) -> None:
    admin, node, _ = maintained
    await node.die()
    await site.heard("kvm1", "up", "suspected", "down")
    await waits(admin)
    node.reboot()
    await eventually(lambda: site.listener.of(IncidentResolved), "it is over")
    (resolved,) = site.listener.of(IncidentResolved)
    assert resolved.resolution is Resolution.CAME_BACK
    assert site.agents.switched("1") == []
    assert site.listener.alerts("kvm1", *ALARMS) == []


async def test_once_it_is_activated_it_is_missed_and_fenced(site: Any, maintained: Any) -> None:
    admin, node, began = maintained
    await node.die()
    await site.heard("kvm1", "up", "suspected", "down")
    incident = await waits(admin)
    assert (incident["state"], site.agents.switched("1")) == ("fencing", [])

    later = began + timedelta(seconds=1)
    await site.bus.publish(HostActivated(node="kvm1", decided_at=later))
    # That it was in maintenance before is said once more, and too late.
    await site.bus.publish(HostMaintenance(node="kvm1", decided_at=began))
    await eventually(lambda: site.listener.of(HostFenced), "it is fenced")
    assert site.listener.of(HostFenced)[0].by is FencedBy.DEVICE
    down = [("alert.raised", "host.down")]
    await eventually(lambda: site.listener.alerts("kvm1", *ALARMS) == down, "its alert is raised")
    await maintenance(site, known=False)


async def test_no_further_device_is_used_once_it_is_in_maintenance(site: Any) -> None:
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        node = site.node("kvm1")
        for each in (node, site.node("kvm9")):
            each.live()
            await site.heard(each.name, "up")
        device, path = site.agents.device, "/api/v1/ha/fencing"
        both = [device("1", "a"), device("1", "b")]
        assert (await admin.put(f"{path}/kvm1", json=both)).status_code == 200
        site.agents.behave("a", "hangs")
        await node.die()
        await eventually(lambda: site.agents.switched("1"), "the first device is used")
        await site.bus.publish(HostMaintenance(node="kvm1", decided_at=SystemClock().now()))
        await maintenance(site, known=True)
        site.agents.behave("a", "fails")
        await waits(admin)
        assert set(site.agents.switched("1")) == {"a:off"}


async def test_its_alerts_end_when_maintenance_begins(site: Any) -> None:
    async with site.copy():
        node = site.node("kvm1")
        node.live()
        site.node("kvm9").live()
        await site.heard("kvm1", "up")
        await node.die()
        raised = [("alert.raised", "host.down")]
        await eventually(lambda: site.listener.alerts("kvm1", "host.down") == raised, "raised")
        await site.bus.publish(HostMaintenance(node="kvm1", decided_at=SystemClock().now()))
        cleared = [*raised, ("alert.cleared", "host.down")]
        await eventually(lambda: site.listener.alerts("kvm1", "host.down") == cleared, "cleared")


async def test_of_a_host_that_was_never_heard_it_is_known_before(site: Any) -> None:
    async with site.copy():
        await site.bus.publish(HostMaintenance(node="kvm1", decided_at=SystemClock().now()))
        await maintenance(site, known=True)
        site.node("kvm1").live()
        await site.heard("kvm1", "up")
        await maintenance(site, known=True)
