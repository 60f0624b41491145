"""Nodes' own leases: granted while they beat, counted on when they do not."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from tests.integration.ha_monitor.conftest import eventually

from roost_common.clock import SystemClock
from roost_common.contracts.host import (
    FencedBy,
    FenceScope,
    HostDesktopsLost,
    HostFenced,
    LeaseGranted,
    LostDesktop,
)
from roost_common.contracts.incident import IncidentOpened, IncidentResolved
from roost_common.security import Role

pytestmark = pytest.mark.integration

LEASE_S, MARGIN_S = 3.0, 1.0


def grants(site: Any, node: Any) -> list[LeaseGranted]:
    return [grant for grant in site.listener.of(LeaseGranted) if grant.agent_id == node.agent_id]


async def armed(site: Any, node: Any) -> None:
    """Wait until the node holds a grant that counts, and says so."""
    await eventually(lambda: any(grant.armed for grant in grants(site, node)), "an armed grant")
    node.obey(site.listener.heard)
    told = node.sequence
    await eventually(lambda: node.sequence > told + 2, "it says that it holds one")


async def ended(site: Any, node: Any) -> HostFenced:
    """It lives, holds a lease that counts, dies, and is fenced by that lease."""
    node.live()
    await site.heard(node.name, "up")
    await armed(site, node)
    await node.die()
    await eventually(lambda: site.listener.of(HostFenced), "it is fenced")
    (fact,) = site.listener.of(HostFenced)
    assert (fact.by, fact.scope) == (FencedBy.LEASE, FenceScope.RESTARTED)
    assert fact.agent_id == node.agent_id
    found: HostFenced = fact
    return found


@pytest.fixture
async def leased(site: Any) -> Any:
    """Makes nodes with a lease; the copies count with short ones."""
    site.extra = {"lease_margin_s": MARGIN_S}

    def make(name: str) -> Any:
        node = site.node(name)
        node.lease_s = LEASE_S
        return node

    # While nobody beats, no lease is counted on.
    site.node("kvm9").live()

    return make


@dataclass
class Fenced:
    """An incident whose host only its lease has fenced."""

    admin: httpx.AsyncClient
    node: Any
    id: UUID

    @property
    def path(self) -> str:
        return f"/api/v1/ha/incidents/{self.id}"

    async def shown(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.admin.get(self.path)).json()
        return found

    async def follows(self, count: int) -> None:
        """Return when it knows of so many desktops."""

        async def known() -> bool:
            return len((await self.shown())["desktops"]) == count

        await eventually(known, f"{count} desktops are followed")

    def answer(self, *names: str, kept: int | None, by: FencedBy | None = None) -> HostDesktopsLost:
        """What inventory says of it."""
        desktops = tuple(
            LostDesktop(
                desktop_id=uuid4(), desktop_name=name, revision=2, restart=True, priority=50
            )
            for name in names
        )
        return HostDesktopsLost(
            node="kvm1", incident_id=self.id, by=by, desktops=desktops, kept=kept
        )


@pytest.fixture
async def fenced(site: Any, leased: Any) -> AsyncIterator[Fenced]:
    node = leased("kvm1")
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        yield Fenced(admin, node, (await ended(site, node)).incident_id)


async def test_nodes_without_a_device_are_granted_a_lease_that_counts(
    site: Any, leased: Any
) -> None:
    bare, with_device, without_lease = leased("kvm1"), leased("kvm2"), site.node("kvm3")
    nodes = (bare, with_device, without_lease)
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        for node in nodes:
            node.live()
        for node in nodes:
            await site.heard(node.name, "up")
        path = "/api/v1/ha/fencing/kvm2"
        assert (await admin.put(path, json=site.agents.device("2"))).status_code == 200
        before = {node: len(grants(site, node)) for node in nodes}
        await eventually(
            lambda: all(len(grants(site, node)) >= before[node] + 3 for node in nodes), "granted"
        )
        assert grants(site, bare)[-1].armed
        assert not grants(site, with_device)[-1].armed
        assert not grants(site, without_lease)[-1].armed
        last = grants(site, bare)[-1]
        assert last.sequence <= bare.sequence
        rows = await site.sql(
            "select node, armed, agent_id from hosts where node <> 'kvm9' order by node"
        )
        assert [(row["node"], row["armed"]) for row in rows] == [
            ("kvm1", True),
            ("kvm2", False),
            ("kvm3", False),
        ]
        assert [row["agent_id"] for row in rows] == [node.agent_id for node in nodes]

        # Another directory of one node: none can rely on the others' files.
        without_lease.witness = uuid4()
        await eventually(lambda: not grants(site, bare)[-1].armed, "no grant counts")
        without_lease.witness = bare.witness
        await eventually(lambda: grants(site, bare)[-1].armed, "they count again")
        await admin.post("/api/v1/ha/disarm")
        await eventually(lambda: not grants(site, bare)[-1].armed, "disarmed")
        assert not (await site.sql("select 1 from hosts where armed"))

        await bare.die()
        had = len(grants(site, with_device))
        await site.heard("kvm1", "up", "suspected")
        silent = len(grants(site, bare))
        await eventually(lambda: len(grants(site, with_device)) >= had + 6, "others are granted")
        assert len(grants(site, bare)) == silent, "nobody is granted who does not beat"


async def test_a_dead_host_is_fenced_by_its_own_lease_and_not_before_its_end(
    site: Any, leased: Any
) -> None:
    node = leased("kvm1")
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        fact = await ended(site, node)
        assert fact.at - node.last.sent_at >= timedelta(seconds=LEASE_S + MARGIN_S)
        assert not site.listener.alerts("kvm1", "host.unfenced")
        assert (await admin.get("/api/v1/ha/incidents")).json()["items"][0]["fenced_by"] == "lease"


async def test_a_late_word_of_one_desktop_says_nothing_of_those_that_may_run_on(
    site: Any, fenced: Fenced
) -> None:
    await site.bus.publish(fenced.answer("one", kept=2))
    await site.bus.publish(fenced.answer("moved", kept=None))
    await fenced.follows(2)
    assert (await fenced.shown())["kept"] == 2


async def test_the_answer_to_a_lease_does_not_end_what_a_person_has_confirmed_since(
    site: Any, fenced: Fenced
) -> None:
    assert (await fenced.admin.post(f"{fenced.path}/confirm")).status_code == 200

    async def answered() -> bool:
        (row,) = await site.sql("select lost_known from incidents")
        return bool(row["lost_known"])

    await site.bus.publish(fenced.answer("one", kept=3, by=FencedBy.LEASE))
    await site.bus.publish(fenced.answer("moved", kept=None))
    await fenced.follows(2)
    assert (await fenced.shown())["kept"] == 0
    assert not await answered()
    await site.bus.publish(fenced.answer(kept=0, by=FencedBy.HUMAN))
    await eventually(answered, "the surer fence is answered")


async def test_what_a_lease_does_not_end_is_freed_by_a_person_who_is_sure(
    site: Any, fenced: Fenced
) -> None:
    """Those that are not restarted may run on where only the lease has spoken."""
    await site.bus.publish(fenced.answer(kept=2))
    await eventually(lambda: site.listener.of(IncidentResolved), "it is over")
    assert "2 more may still run there" in (await fenced.shown())["detail"]

    confirmed = await fenced.admin.post(f"{fenced.path}/confirm")
    assert confirmed.status_code == 200, confirmed.text
    assert confirmed.json()["state"] == "recovering"
    await eventually(lambda: len(site.listener.of(HostFenced)) == 2, "it is fenced for sure")
    surely = site.listener.of(HostFenced)[1]
    assert (surely.by, surely.scope) == (FencedBy.HUMAN, FenceScope.ALL)
    assert surely.agent_id == fenced.node.agent_id
    await site.bus.publish(fenced.answer(kept=0))
    await eventually(lambda: len(site.listener.of(IncidentResolved)) == 2, "over again")
    shown = await fenced.shown()
    assert (shown["state"], shown["confirmed_by"]) == ("resolved", "root")
    assert "may still run" not in shown["detail"]
    again = await fenced.admin.post(f"{fenced.path}/confirm")
    assert again.status_code == 200, "once more, to no effect"
    assert len(site.listener.of(HostFenced)) == 2


async def test_nobody_confirms_a_host_that_has_been_back_since_its_lease_ended(
    site: Any, fenced: Fenced
) -> None:
    path = f"{fenced.path}/confirm"
    fenced.node.reboot()
    await site.heard("kvm1", "up", "suspected", "down", "recovered")
    refused = await fenced.admin.post(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "host.beats")
    await fenced.node.die()
    await eventually(lambda: len(site.listener.of(IncidentOpened)) == 2, "it fails once more")
    refused = await fenced.admin.post(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "incident.over")


async def test_while_all_nodes_are_silent_nobodys_lease_is_counted_on(site: Any) -> None:
    """They see each other, and hold on: it is the managers that are cut off."""
    site.extra = {"lease_margin_s": MARGIN_S}
    nodes = [site.node(name) for name in ("kvm1", "kvm2")]
    async with site.copy():
        for node in nodes:
            node.lease_s = LEASE_S
            node.live()
        for node in nodes:
            await site.heard(node.name, "up")
        for node in nodes:
            await armed(site, node)
        for node in nodes:
            await node.die()
        await eventually(
            lambda: all(site.listener.alerts(node.name, "host.unfenced") for node in nodes),
            "a person is called for each",
        )
        over = SystemClock().monotonic() + LEASE_S + 3 * MARGIN_S
        await eventually(lambda: SystemClock().monotonic() > over, "any lease would have ended")
        assert not site.listener.of(HostFenced)
        # One of them is heard: now the other, if it lived, would be heard as well, or stop.
        back = SystemClock().now()
        nodes[0].live()
        await eventually(lambda: site.listener.of(HostFenced), "the other is fenced")
        (fact,) = site.listener.of(HostFenced)
        assert (fact.node, fact.by) == ("kvm2", FencedBy.LEASE)
        assert fact.at - back >= timedelta(seconds=LEASE_S + MARGIN_S)


async def test_a_host_whose_last_beat_held_no_grant_is_not_counted_on(
    site: Any, leased: Any
) -> None:
    node = leased("kvm1")
    async with site.copy():
        node.live()
        await site.heard("kvm1", "up")
        await armed(site, node)
        # Its agent was started again and has not been granted anything yet.
        await node.die()
        node.lease_armed = False
        node.agent_id = uuid4()
        node.sequence = 0
        await node.beat()
        await eventually(
            lambda: site.listener.alerts("kvm1", "host.unfenced"), "a person is called"
        )
    assert not site.listener.of(HostFenced)


async def test_a_machine_that_answers_is_fenced_once_its_lease_is_over(
    site: Any, leased: Any
) -> None:
    """The agent is frozen; the guard beside it has ended the desktops."""
    node = leased("kvm1")
    with socket.socket() as machine:
        machine.bind(("127.0.0.1", 0))
        machine.listen(128)
        node.address = "127.0.0.1"
        site.extra["probe_ports"] = (machine.getsockname()[1],)
        async with site.copy():
            node.live()
            await site.heard("kvm1", "up")
            await armed(site, node)
            await node.die()
            await site.heard("kvm1", "up", "suspected", "suspected", "down")
            await eventually(lambda: site.listener.of(HostFenced), "it is fenced")
    assert site.listener.of(HostFenced)[0].by is FencedBy.LEASE
