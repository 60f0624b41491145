"""Desktops that are moved while they run, on a real database, with nodes that act by contract."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID, uuid4

import httpx
import pytest
from tests.integration.inventory.conftest import bearer
from tests.integration.inventory.site import Site
from tests.unit.inventory.stage import SMALL

from roost_common.contracts.desktop import DesktopState, Power, SetDesktopPower
from roost_common.contracts.host import FencedBy, FenceScope, HostDesktopsLost, HostFenced
from roost_common.contracts.migration import (
    CancelMigration,
    DesktopMigrated,
    MigrateDesktop,
    MigrationProgress,
)
from roost_inventory.migration_plan import LAST_WORD
from roost_inventory.model.migration import MigrationState
from roost_inventory.repository import Hosts

pytestmark = pytest.mark.integration

NewCopy = Callable[..., Site]


async def running(site: Site, *hosts: str) -> UUID:
    """A desktop that runs on the first of these hosts, which is known before the others."""
    await site.add_node(hosts[0])
    desktop = await site.create()
    await site.settle()
    for name in hosts[1:]:
        await site.add_node(name)
    assert (await site.row(desktop)).host == hosts[0]
    return desktop


async def begun(site: Site, http: httpx.AsyncClient, *hosts: str) -> tuple[UUID, str]:
    """One on its way from the first host to the second; and where to ask for it."""
    desktop = await running(site, *hosts)
    answer = await http.post(f"/api/v1/desktops/{desktop}/migrate", json={"host": hosts[1]})
    assert answer.status_code == 202, answer.text
    await site.settle()
    assert desktop in site.movers.moves
    return desktop, answer.headers["Location"]


def fenced(name: str, site: Site, incident: UUID) -> HostFenced:
    """Whatever ran on this node runs no more."""
    return HostFenced(
        node=name,
        incident_id=incident,
        by=FencedBy.DEVICE,
        scope=FenceScope.ALL,
        agent_id=site.nodes[name].agent_id,
        at=site.clock.now(),
    )


async def used(site: Site) -> dict[str, tuple[int, int]]:
    """Room in use by host."""
    async with site.unit() as transaction:
        return await Hosts(transaction.session).use()


async def test_a_desktop_is_moved(http: httpx.AsyncClient, site: Site) -> None:
    desktop = await running(site, "n1", "n2")
    boot = (await site.row(desktop)).boot_id
    answer = await http.post(f"/api/v1/desktops/{desktop}/migrate")
    assert answer.status_code == 202
    said = answer.json()
    assert (said["state"], said["from"], said["to"], said["percent"]) == ("queued", "n1", "n2", 0)
    where = answer.headers["Location"]
    assert where == f"/api/v1/migrations/{said['id']}"
    room = (SMALL.vcpus, SMALL.memory_mib)
    assert await used(site) == {"n1": room, "n2": room}

    await site.settle()
    assert (await http.get(where)).json()["state"] == "running"
    seen = (await http.get(f"/api/v1/desktops/{desktop}")).json()
    assert (seen["state"], seen["host"], seen["migrating_to"]) == ("running", "n1", "n2")
    for percent in (40.0, 55.5):
        await site.tell(
            MigrationProgress(
                migration_id=UUID(said["id"]), desktop_id=desktop, node="n1", percent=percent
            )
        )
    assert (await http.get(where)).json()["percent"] == 55.5

    await site.arrive(desktop)
    done = (await http.get(where)).json()
    assert (done["state"], done["percent"], done["problem"]) == ("done", 100.0, None)
    row = await site.row(desktop)
    assert (row.host, row.boot_id, row.migrating_to) == ("n2", boot, None)
    [event] = await site.spoken(DesktopMigrated)
    assert (event.from_host, event.desktop.host, event.migration_id) == (
        "n1",
        "n2",
        UUID(said["id"]),
    )
    assert event.desktop.spice is not None
    assert event.desktop.spice.host == "n2"
    assert event.desktop.revision == row.revision
    assert await used(site) == {"n2": room}
    assert "stopped" not in await site.names_said(desktop)

    # What comes late, or twice, changes nothing; and it stops like any other.
    await site.tell(
        MigrationProgress(
            migration_id=UUID(said["id"]), desktop_id=desktop, node="n1", percent=60.0
        )
    )
    await site.tell(site.nodes["n1"].event(desktop))
    await site.report_all()
    assert (await http.get(where)).json()["percent"] == 100.0
    assert (await site.row(desktop)).revision == row.revision
    await site.tell(SetDesktopPower(desktop_id=desktop, power=Power.OFF))
    await site.settle()
    node = site.nodes["n2"]
    await site.tell(node.shut_down(desktop))
    await site.settle()
    assert (await site.row(desktop)).state is DesktopState.STOPPED


async def test_what_cannot_be_moved(http: httpx.AsyncClient, site: Site) -> None:
    desktop = await running(site, "n1")
    path = f"/api/v1/desktops/{desktop}/migrate"

    async def refusal(host: str | None) -> tuple[int, str]:
        answer = await http.post(path, json={} if host is None else {"host": host})
        return answer.status_code, answer.json()["code"]

    assert await refusal(None) == (409, "placement.no-host")
    assert await refusal("n1") == (409, "migration.same-host")
    assert await refusal("nowhere") == (422, "host.unknown")
    await site.add_node("small", memory_mib=512)
    assert await refusal("small") == (409, "host.unusable")
    await http.post("/api/v1/hosts/small/approve")
    assert await refusal("small") == (409, "placement.no-capacity")
    assert await refusal(None) == (409, "placement.no-capacity")
    await site.add_node("n2")
    ann = await http.post(path, headers=bearer("ann"))
    assert ann.status_code in (403, 404)
    assert (await http.post(path)).status_code == 202
    assert await refusal("n2") == (409, "migration.under-way")
    await site.tell(SetDesktopPower(desktop_id=desktop, power=Power.OFF))
    off = await site.create(2, power=Power.OFF)
    await site.settle()
    late = await http.post(f"/api/v1/desktops/{off}/migrate")
    assert (late.status_code, late.json()["code"]) == (409, "desktop.not-running")
    assert (await http.get("/api/v1/migrations")).json()["total"] == 1


async def test_its_host_refuses(http: httpx.AsyncClient, site: Site) -> None:
    desktop, where = await begun(site, http, "n1", "n2")
    before = await site.row(desktop)
    for messages in site.movers.fail(desktop).values():
        for message in messages:
            await site.tell(message)
    await site.settle()
    assert (await http.get(where)).json()["state"] == "running", "the target is asked, too"
    site.clock.advance(1)
    await site.report_all()
    over = (await http.get(where)).json()
    assert (over["state"], over["problem"]["code"]) == ("failed", "desktop.migration-failed")
    row = await site.row(desktop)
    assert (row.host, row.boot_id, row.problem) == ("n1", before.boot_id, None)
    assert set(await used(site)) == {"n1"}
    assert await site.spoken(DesktopMigrated) == []
    listed = (await http.get("/api/v1/migrations", params={"desktop": "d1", "host": "n2"})).json()
    assert [one["state"] for one in listed["items"]] == ["failed"]
    assert (await http.get("/api/v1/migrations", params={"state": "done"})).json()["total"] == 0


async def test_it_is_cancelled(http: httpx.AsyncClient, site: Site) -> None:
    desktop, where = await begun(site, http, "n1", "n2")
    assert (await http.delete(where)).status_code == 202
    assert (await http.delete(where)).status_code == 202, "once more changes nothing"
    await site.settle()
    assert len(await site.spoken(CancelMigration)) == 1
    site.clock.advance(1)
    await site.report_all()
    assert (await http.get(where)).json()["state"] == "cancelled"
    assert (await site.row(desktop)).host == "n1"
    again = await http.delete(where)
    assert (again.status_code, again.json()["state"]) == (202, "cancelled")
    assert (await http.delete(f"/api/v1/migrations/{uuid4()}")).status_code == 404


async def test_its_source_dies_in_the_middle(http: httpx.AsyncClient, site: Site) -> None:
    desktop, where = await begun(site, http, "n1", "n2", "n3")
    incident = uuid4()
    event = fenced("n1", site, incident)
    site.nodes["n1"].lose_power()
    await site.tell(event)
    await site.settle()
    [first] = await site.spoken(HostDesktopsLost)
    [doubtful] = first.desktops
    assert (doubtful.desktop_id, doubtful.restart) == (desktop, True), "the incident waits for it"
    assert doubtful.revision == (await site.row(desktop)).revision
    assert (await site.row(desktop)).host == "n1"
    site.clock.advance(LAST_WORD.seconds + 1)
    await site.report_all("n2", "n3")
    row = await site.row(desktop)
    assert (row.state, row.host in ("n2", "n3")) == (DesktopState.RUNNING, True)
    told = (await site.spoken(HostDesktopsLost))[-1]
    [lost] = told.desktops
    assert (told.node, told.incident_id) == ("n1", incident)
    assert (lost.desktop_id, lost.restart) == (desktop, True)
    stopped, restarted = (await site.names_said(desktop))[-2:]
    assert (stopped, restarted) == ("stopped", "restarted")
    [gone] = [
        message
        for message, _ in site.said
        if message.name == "desktop.stopped.v1" and message.subject == str(desktop)
    ]
    assert gone.desktop.revision == lost.revision  # type: ignore[attr-defined]
    assert (await http.get(where)).json()["problem"]["code"] == "migration.desktop-lost"


async def test_its_source_dies_when_it_has_arrived(http: httpx.AsyncClient, site: Site) -> None:
    desktop, where = await begun(site, http, "n1", "n2")
    boot = (await site.row(desktop)).boot_id
    event = fenced("n1", site, uuid4())
    for message in site.movers.finish(desktop)["n2"]:
        await site.tell(message)
    site.nodes["n1"].lose_power()
    await site.settle()
    assert (await site.row(desktop)).host == "n1", "the source has not said that it is gone"
    await site.tell(event)
    await site.settle()
    row = await site.row(desktop)
    assert (row.host, row.boot_id, row.state) == ("n2", boot, DesktopState.RUNNING)
    assert (await http.get(where)).json()["state"] == "done"
    [message] = await site.spoken(HostDesktopsLost)
    assert row.revision > message.desktops[0].revision, "it is seen to run, and was not lost"


async def test_its_target_dies_in_the_middle(http: httpx.AsyncClient, site: Site) -> None:
    desktop, where = await begun(site, http, "n1", "n2")
    boot = (await site.row(desktop)).boot_id
    event = fenced("n2", site, uuid4())
    site.nodes["n2"].lose_power()
    site.movers.forget_the_dead()
    await site.tell(event)
    await site.settle()
    site.clock.advance(1)
    await site.report_all("n1")
    row = await site.row(desktop)
    assert (row.host, row.boot_id, row.state) == ("n1", boot, DesktopState.RUNNING)
    assert (await http.get(where)).json()["state"] == "failed"
    assert set(await used(site)) == {"n1"}
    assert "stopped" not in await site.names_said(desktop)


async def test_a_target_whose_agent_starts_anew_is_told_nothing(
    http: httpx.AsyncClient, site: Site
) -> None:
    desktop, _ = await begun(site, http, "n1", "n2")
    site.nodes["n1"].restart_agent()
    site.nodes["n2"].restart_agent()
    await site.report_all()
    assert desktop in site.movers.moves, "libvirt goes on without the agents"
    await site.arrive(desktop)
    assert (await site.row(desktop)).host == "n2"


async def test_two_loops_tell_it_once_and_end_it_once(
    http: httpx.AsyncClient, site: Site, new_copy: NewCopy
) -> None:
    other = new_copy()
    desktop = await running(site, "n1", "n2")
    await http.post(f"/api/v1/desktops/{desktop}/migrate")
    await asyncio.gather(*(copy.reconciler.step() for copy in (site, other, site, other)))
    await site.settle()
    assert len(await site.spoken(MigrateDesktop)) == 1
    said = [one for messages in site.movers.finish(desktop).values() for one in messages]
    # Both copies hear everything, each of it twice and in another order.
    await asyncio.gather(
        *(site.tell(one) for one in said), *(other.tell(one) for one in reversed(said))
    )
    await asyncio.gather(*(copy.reconciler.step() for copy in (site, other, site, other)))
    await site.settle()
    assert len(await site.spoken(DesktopMigrated)) == 1
    assert (await site.row(desktop)).host == "n2"
    [migration] = await site.rows("migrations")
    assert migration["state"] is MigrationState.DONE


async def test_two_moves_never_share_the_last_gigabyte(http: httpx.AsyncClient, site: Site) -> None:
    await site.add_node("n1", memory_mib=2048)
    first, second = await site.create(1), await site.create(2)
    await site.settle()
    await site.add_node("n2", memory_mib=1024)
    answers = await asyncio.gather(
        *(http.post(f"/api/v1/desktops/{one}/migrate") for one in (first, second))
    )
    assert sorted(answer.status_code for answer in answers) == [202, 409]
    await site.create(3)
    await site.settle()
    assert (await site.row(UUID(int=3))).host is None, "the room on both hosts is taken"
