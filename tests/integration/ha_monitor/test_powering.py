"""Hosts switched off and on because somebody wants it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from tests.integration.ha_monitor.conftest import eventually

from roost_common.contracts.host import (
    HostPower,
    HostPoweredOff,
    HostPoweredOn,
    HostPowerRefused,
    SetHostPower,
)
from roost_common.contracts.incident import IncidentOpened
from roost_common.security import Role

pytestmark = pytest.mark.integration


async def order(site: Any, power: HostPower, number: int, agent_id: Any = None) -> None:
    await site.bus.publish(SetHostPower(node="kvm1", power=power, order=number, agent_id=agent_id))


async def test_a_host_is_switched_off_and_woken_and_nobody_is_called(site: Any) -> None:
    node = site.node("kvm1")
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        node.live()
        await site.heard("kvm1", "up")
        path = "/api/v1/ha/fencing/kvm1"
        assert (await admin.put(path, json=site.agents.device("1"))).status_code == 200
        await order(site, HostPower.OFF, 1, node.agent_id)
        await eventually(lambda: site.agents.power("1") == "off", "the power is cut")
        await node.die()
        await eventually(lambda: site.listener.of(HostPoweredOff), "it is off")
        assert site.listener.names("kvm1") == ["host.up", "host.powered-off"]
        # Repeated, the order is answered again and not carried out again.
        await order(site, HostPower.OFF, 1, node.agent_id)
        await eventually(lambda: len(site.listener.of(HostPoweredOff)) == 2, "answered again")
        one, two = site.listener.of(HostPoweredOff)
        assert one == two
        assert site.agents.switched("1") == [":off"]
        shown = (await admin.get("/api/v1/ha/hosts/kvm1")).json()
        assert shown["health"] == "off"

        await order(site, HostPower.ON, 2)
        await eventually(lambda: site.listener.of(HostPoweredOn), "it is on")
        # Older than the last one: dropped.
        await order(site, HostPower.OFF, 1, node.agent_id)
        node.reboot()
        await eventually(lambda: "host.up" in site.listener.names("kvm1")[1:], "it is up")
        names = ["host.up", "host.powered-off", "host.powered-on", "host.recovered", "host.up"]
        healths = [each for each in site.listener.names("kvm1") if each in names]
        assert sorted(set(healths)) == sorted(set(names))
    assert site.agents.switched("1") == [":off", ":on"]
    assert not site.listener.of(IncidentOpened)
    assert not site.listener.alerts("kvm1")


async def test_what_cannot_or_must_not_be_switched_is_refused(site: Any) -> None:
    node = site.node("kvm1")

    async def refused(number: int, code: str) -> None:
        def codes() -> list[tuple[int, str]]:
            return [(m.order, m.problem.code) for m in site.listener.of(HostPowerRefused)]

        await eventually(lambda: (number, code) in codes(), f"{code}; {codes()}")

    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        await order(site, HostPower.ON, 1)
        await refused(1, "host.unknown")
        node.live()
        await site.heard("kvm1", "up")
        await order(site, HostPower.OFF, 2)
        await refused(2, "fencing.no-device")
        path = "/api/v1/ha/fencing/kvm1"
        assert (await admin.put(path, json=site.agents.device("1"))).status_code == 200
        await order(site, HostPower.OFF, 3, uuid4())
        await refused(3, "host.other-run")
        await order(site, HostPower.ON, 4)
        await refused(4, "host.not-off")
        await admin.post("/api/v1/ha/disarm")
        await order(site, HostPower.OFF, 5)
        await refused(5, "ha.disarmed")
        await admin.post("/api/v1/ha/arm")
        site.agents.behave("", "lies")
        await order(site, HostPower.OFF, 6, node.agent_id)
        await refused(6, "host.not-switched")
        site.agents.behave("", "works")
        await node.die()
        await site.heard("kvm1", "up", "suspected")
    assert not site.listener.of(HostPoweredOff)
