"""Inventory's HTTP on the real application and database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from tests.integration.inventory.conftest import bearer
from tests.integration.inventory.site import Site
from tests.unit.inventory.stage import TEMPLATE

from roost_common.contracts.base import Body, Query
from roost_common.contracts.desktop import (
    DeleteDesktop,
    DesktopState,
    EnsureDesktop,
    GuestInfo,
    Power,
    ReimageDesktop,
    SetDesktopPower,
    StopMode,
)
from roost_common.contracts.display import Done, RebootDesktop
from roost_common.contracts.host import HostActivated, HostApproved, HostMaintenance
from roost_common.contracts.session import (
    EndReason,
    PoolChanged,
    SessionConnected,
    SessionDisconnected,
    SessionEnded,
    SessionRequested,
)
from roost_common.contracts.spec import OsFamily
from roost_common.contracts.template import TemplateDeleted
from roost_common.security import Role
from roost_common.testing.bus import FakeBus, delivery

pytestmark = pytest.mark.integration

REF = TEMPLATE.model_dump(mode="json")
ANN = bearer("ann", Role.USER)


def session(desktop: UUID, user: str = "ann", number: int = 1) -> dict[str, Any]:
    return {
        "session_id": UUID(int=number),
        "user": user,
        "desktop_id": desktop,
        "desktop_name": "d1",
    }


async def running(site: Site, number: int = 1) -> UUID:
    desktop = await site.create(number)
    await site.settle()
    return desktop


# --- hosts ------------------------------------------------------------------------------------


async def test_a_hosts_way_through_approval_and_maintenance(
    http: httpx.AsyncClient, site: Site
) -> None:
    await site.add_node("stranger")
    (host,) = (await http.get("/api/v1/hosts")).json()["items"]
    assert (host["name"], host["state"], host["desktops"]) == ("stranger", "pending_approval", 0)
    assert (host["cpus"], host["memory_mib"], host["address"]) == (8, 8192, "stranger.example")
    early = await http.post("/api/v1/hosts/stranger/maintenance")
    assert (early.status_code, early.json()["code"]) == (409, "host.not-approved")
    for action, state in [
        ("approve", "up"),
        ("approve", "up"),
        ("maintenance", "maintenance"),
        ("maintenance", "maintenance"),
        ("activate", "up"),
        ("activate", "up"),
    ]:
        answer = await http.post(f"/api/v1/hosts/{host['id']}/{action}")
        assert (answer.status_code, answer.json()["state"]) == (200, state)
    # Said again when it is ordered again, for whoever has missed it: the same decision.
    for event in (HostApproved, HostMaintenance, HostActivated):
        first, again = await site.spoken(event)
        assert first.decided_at == again.decided_at
    assert (await http.get("/api/v1/hosts/stranger")).json()["state"] == "up"
    missing = await http.get("/api/v1/hosts/nobody")
    assert (missing.status_code, missing.json()["code"]) == (404, "host.unknown")


async def test_a_host_that_cannot_be_emptied_keeps_its_desktops_and_takes_no_more(
    http: httpx.AsyncClient, site: Site
) -> None:
    await site.add_node("n1")
    await running(site, 1)
    await http.post("/api/v1/hosts/n1/maintenance")
    late = await running(site, 2)
    desktops = {d["name"]: d for d in (await http.get("/api/v1/desktops")).json()["items"]}
    assert desktops["d1"]["state"] == "running"
    assert desktops["d2"]["problem"]["code"] == "placement.no-host"
    host = (await http.get("/api/v1/hosts/n1")).json()
    assert host["state"] == "preparing_maintenance"
    assert {**host["evacuation"], "since": ""} == {
        "since": "",
        "left": 1,
        "moving": 0,
        "problem": None,
    }
    assert (host["desktops"], host["reserved"]) == (1, {"vcpus": 1, "memory_mib": 1024})
    await http.post("/api/v1/hosts/n1/activate")
    await site.settle()
    assert (await http.get(f"/api/v1/desktops/{late}")).json()["state"] == "running"


async def test_removing_a_host(http: httpx.AsyncClient, site: Site) -> None:
    node = await site.add_node("n1")
    desktop = await running(site)
    assert (await http.delete("/api/v1/hosts/n1")).json()["code"] == "host.has-desktops"
    await site.tell(DeleteDesktop(desktop_id=desktop))
    await site.settle()
    assert (await http.delete("/api/v1/hosts/n1")).json()["code"] == "host.in-service"
    await http.post("/api/v1/hosts/n1/maintenance")
    assert (await http.delete("/api/v1/hosts/n1")).status_code == 204
    assert (await http.get("/api/v1/hosts")).json()["total"] == 0
    await site.tell(node.report())
    assert (await http.get("/api/v1/hosts")).json()["total"] == 1


async def test_hosts_are_for_administrators(http: httpx.AsyncClient, site: Site) -> None:
    await site.add_node("n1")
    for method, path in [
        ("GET", "/api/v1/hosts"),
        ("GET", "/api/v1/hosts/n1"),
        ("POST", "/api/v1/hosts/n1/maintenance"),
        ("DELETE", "/api/v1/hosts/n1"),
    ]:
        assert (await http.request(method, path, headers=ANN)).status_code == 403
        anonymous = await http.request(method, path, headers={"Authorization": ""})
        assert anonymous.status_code == 401
    assert (await site.host("n1")).usable


# --- desktops ---------------------------------------------------------------------------------


async def test_a_desktop_from_order_to_deletion(http: httpx.AsyncClient, site: Site) -> None:
    await site.add_node("n1")
    wanted = {"name": "mine", "template": REF, "spec": {"vcpus": 2, "memory_mib": 512}}
    answer = await http.post("/api/v1/desktops", json=wanted)
    assert answer.status_code == 202
    made = answer.json()
    assert answer.headers["Location"] == f"/api/v1/desktops/{made['id']}"
    assert (made["state"], made["generation"], made["pool"]) == ("provisioning", 1, None)
    await site.settle()
    found = (await http.get("/api/v1/desktops/mine")).json()
    assert (found["state"], found["host"], found["spec"]["vcpus"]) == ("running", "n1", 2)
    assert found["template"]["name"] == "demo"
    for action, state in [("poweroff", "stopped"), ("start", "running"), ("reimage", "running")]:
        site.clock.advance(1)
        accepted = await http.post(f"/api/v1/desktops/mine/{action}")
        assert accepted.status_code == 202
        assert accepted.headers["Location"].endswith(made["id"])
        await site.settle()
        assert (await http.get("/api/v1/desktops/mine")).json()["state"] == state
    assert (await http.get("/api/v1/desktops/mine")).json()["disk_generation"] == 2
    gone = await http.delete("/api/v1/desktops/mine")
    assert (gone.status_code, gone.json()["state"]) == (202, "deleting")
    conflict = await http.post("/api/v1/desktops/mine/start")
    assert (conflict.status_code, conflict.json()["code"]) == (409, "desktop.deleting")
    await site.settle()
    assert (await http.get("/api/v1/desktops/mine")).status_code == 404


async def test_shutting_down_asks_the_guest_and_may_turn_into_a_power_off(
    http: httpx.AsyncClient, site: Site
) -> None:
    node = await site.add_node("n1")
    await running(site)
    site.clock.advance(1)
    await http.post("/api/v1/desktops/d1/shutdown", json={"grace_s": 7})
    await site.settle()
    assert (node.commands[-1].stop, node.commands[-1].grace_s) == (StopMode.SHUTDOWN, 7)
    assert (await http.get("/api/v1/desktops/d1")).json()["state"] == "stopping"
    site.clock.advance(1)
    await http.post("/api/v1/desktops/d1/poweroff")
    await site.settle()
    assert node.commands[-1].stop is StopMode.POWEROFF
    assert (await http.get("/api/v1/desktops/d1")).json()["state"] == "stopped"


async def test_an_order_given_here_is_not_outdated_by_a_clock_that_is_ahead(
    http: httpx.AsyncClient, site: Site
) -> None:
    await site.add_node("n1")
    desktop = await running(site)
    ahead = delivery(SetDesktopPower(desktop_id=desktop, power=Power.ON))
    time = site.clock.now() + timedelta(hours=1)
    envelope = ahead.envelope.model_copy(update={"time": time})
    await site.handlers.handle(ahead.model_copy(update={"envelope": envelope}))
    await http.post("/api/v1/desktops/d1/poweroff")
    assert (await site.row(desktop)).power is Power.OFF


async def test_creating_with_a_key_twice_makes_one(http: httpx.AsyncClient, site: Site) -> None:
    wanted = {"name": "mine", "template": REF}
    key = {"Idempotency-Key": "k1"}
    first = await http.post("/api/v1/desktops", json=wanted, headers=key)
    again = await http.post("/api/v1/desktops", json=wanted, headers=key)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    other = await http.post("/api/v1/desktops", json={**wanted, "name": "x"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency.key-reused")
    taken = await http.post("/api/v1/desktops", json=wanted)
    assert (taken.status_code, taken.json()["code"]) == (409, "desktop.name-taken")
    assert len(await site.rows("desktops")) == 1


async def test_a_key_is_its_senders_alone_whatever_their_name(
    http: httpx.AsyncClient, site: Site
) -> None:
    """A name can be given to somebody else; the id cannot."""
    answers = [
        await http.post(
            "/api/v1/desktops",
            json={"name": name, "template": REF},
            headers={**bearer("ops", Role.ADMIN), "Idempotency-Key": "k1"},
        )
        for name in ("first", "second")
    ]
    assert [one.status_code for one in answers] == [202, 202], answers[1].text
    assert len(await site.rows("desktops")) == 2


async def test_what_cannot_be_is_refused_with_its_reason(
    http: httpx.AsyncClient, site: Site
) -> None:
    await site.add_node("n1")
    huge = {"vcpus": 1, "memory_mib": 1 << 20}
    for body, code in [
        ({"name": "x", "template": "nobody"}, "template.unknown"),
        ({"name": "x", "template": REF | {"id": str(uuid4())}}, "template.unknown"),
        ({"name": "x", "template": REF | {"version": 2}}, "template.version-unknown"),
        ({"name": "x", "template": REF | {"version": 2**31}}, "request.invalid"),
        ({"name": "x", "template": REF, "spec": huge}, "placement.spec-beyond-hosts"),
        ({"name": "Not A Name", "template": REF}, "request.invalid"),
        ({"name": "x", "template": REF, "colour": "red"}, "request.invalid"),
    ]:
        answer = await http.post("/api/v1/desktops", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert await site.rows("desktops") == []


async def test_a_template_is_found_by_name_in_its_newest_version(
    http: httpx.AsyncClient, site: Site
) -> None:
    for version in (2, 3, 1, 3):
        await site.template(version)
    made = await http.post("/api/v1/desktops", json={"name": "x", "template": "demo"})
    assert made.json()["template"]["version"] == 3
    await site.tell(TemplateDeleted(template_id=TEMPLATE.id, template_name="demo"))
    await site.template(4)
    for template in ("demo", REF):
        gone = await http.post("/api/v1/desktops", json={"name": "y", "template": template})
        assert gone.json()["code"] == "template.unknown"


async def test_a_template_version_is_what_imaging_said_of_it(
    http: httpx.AsyncClient, site: Site
) -> None:
    await site.template(2, OsFamily.WINDOWS_11)
    said = REF | {"name": "a\x01b", "os": "linux"}
    true = REF | {"os": "windows-11"}
    made = await http.post("/api/v1/desktops", json={"name": "x", "template": said})
    assert (made.status_code, made.json()["template"]) == (202, true)
    again = await http.post("/api/v1/desktops/x/reimage", json={"template": said | {"version": 2}})
    assert (again.status_code, again.json()["template"]) == (202, true | {"version": 2})
    for wrong, code in [
        (REF | {"version": 3}, "template.version-unknown"),
        (REF | {"id": str(uuid4())}, "template.unknown"),
    ]:
        answer = await http.post("/api/v1/desktops/x/reimage", json={"template": wrong})
        assert (answer.status_code, answer.json()["code"]) == (422, code)
    left = (await http.get("/api/v1/desktops/x")).json()
    assert (left["disk_generation"], left["template"]["version"]) == (2, 2)


async def test_an_order_of_the_bus_may_come_before_its_templates_event(site: Site) -> None:
    await site.add_node("n1")
    desktop = await running(site)
    newer = TEMPLATE.model_copy(update={"version": 2})
    await site.tell(ReimageDesktop(desktop_id=desktop, disk_generation=2, template=newer))
    await site.settle()
    row = await site.row(desktop)
    assert (row.state, row.disk_ready, row.template) == (DesktopState.RUNNING, 2, newer)


async def test_pages_and_filters(http: httpx.AsyncClient, site: Site) -> None:
    await site.add_node("n1")
    pool = UUID(int=500)
    for revision, name in [(2, "office"), (1, "old-name")]:
        await site.tell(PoolChanged(pool_id=pool, pool_name=name, revision=revision))
    for number in range(1, 8):
        await site.create(number, pool_id=pool if number > 3 else None)
    await site.settle()

    async def names(**params: Any) -> list[str]:
        page = (await http.get("/api/v1/desktops", params=params)).json()
        assert page["total"] == len(page["items"])
        return [item["name"] for item in page["items"]]

    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await http.get("/api/v1/desktops", params={"limit": 3, **cursor})).json()
        assert page["total"] == 7
        seen += [item["name"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == [f"d{number}" for number in range(1, 8)]
    assert await names(pool="office") == ["d4", "d5", "d6", "d7"]
    assert await names(pool=str(pool), name="*7") == ["d7"]
    assert await names(pool="nobody") == []
    assert await names(name="d3") == ["d3"]
    assert await names(name="d_") == []
    assert len(await names(host="n1", state="running")) == 7
    assert await names(host="n2") == []
    assert await names(state=["stopped", "unknown"]) == []
    listed = (await http.get("/api/v1/desktops", params={"name": "d4"})).json()["items"][0]
    assert (listed["pool"], listed["pool_id"]) == ("office", str(pool))
    broken = await http.get("/api/v1/desktops", params={"cursor": "%%%"})
    assert broken.status_code == 422


async def test_new_hardware_applies_at_the_next_start(http: httpx.AsyncClient, site: Site) -> None:
    node = await site.add_node("n1")
    await running(site)
    changed = await http.patch("/api/v1/desktops/d1", json={"spec": {"memory_mib": 2048}})
    assert changed.status_code == 200
    assert changed.json()["spec"]["memory_mib"] == 2048
    assert changed.json()["spec"]["vcpus"] == 1
    await site.settle()
    assert [command.spec.memory_mib for command in node.commands] == [1024]
    beyond = await http.patch("/api/v1/desktops/d1", json={"spec": {"memory_mib": 1 << 20}})
    assert (beyond.status_code, beyond.json()["code"]) == (422, "placement.spec-beyond-hosts")
    for action in ("poweroff", "start"):
        site.clock.advance(1)
        await http.post(f"/api/v1/desktops/d1/{action}")
        await site.settle()
    on = [c for c in await site.spoken(EnsureDesktop) if c.disk is not None]
    assert [command.spec.memory_mib for command in on] == [1024, 2048]


async def test_reboot_asks_the_node(http: httpx.AsyncClient, site: Site, fake_bus: FakeBus) -> None:
    await site.add_node("n1")
    asked: list[tuple[Query, str]] = []

    async def answer(query: Query, node: str) -> Body:
        asked.append((query, node))
        return Done()

    desktop = await site.create()
    off = await http.post("/api/v1/desktops/d1/reboot")
    assert (off.status_code, off.json()["code"]) == (409, "desktop.not-running")
    await site.settle()
    silent = await http.post("/api/v1/desktops/d1/reboot")
    assert (silent.status_code, silent.json()["code"]) == (503, "host.unreachable")
    fake_bus.answers[RebootDesktop] = answer
    done = await http.post("/api/v1/desktops/d1/reboot", json={"force": True})
    assert done.status_code == 202
    assert asked == [(RebootDesktop(desktop_id=desktop, force=True), "n1")]


async def test_a_user_sees_only_desktops_of_their_sessions_and_changes_none(
    http: httpx.AsyncClient, site: Site
) -> None:
    await site.add_node("n1")
    desktop = await running(site, 1)
    other = await running(site, 2)
    requested = SessionRequested(**session(desktop), revision=1)
    await site.tell(requested)
    mine = (await http.get("/api/v1/desktops", headers=ANN)).json()
    assert ([item["name"] for item in mine["items"]], mine["total"]) == (["d1"], 1)
    assert (await http.get("/api/v1/desktops/d1")).json()["users"] == ["ann"]
    assert (await http.get("/api/v1/desktops/d1", headers=ANN)).status_code == 200
    assert (await http.get(f"/api/v1/desktops/{other}", headers=ANN)).status_code == 404
    for method, path, body in [
        ("POST", "/start", None),
        ("POST", "/shutdown", None),
        ("POST", "/poweroff", None),
        ("POST", "/reboot", None),
        ("POST", "/reimage", None),
        ("PATCH", "", {"spec": {"vcpus": 2}}),
        ("DELETE", "", None),
    ]:
        for name, status in [("d1", 403), ("d2", 404)]:
            answer = await http.request(
                method, f"/api/v1/desktops/{name}{path}", json=body, headers=ANN
            )
            assert answer.status_code == status, (method, path, name)
    wanted = {"name": "x", "template": REF}
    assert (await http.post("/api/v1/desktops", json=wanted, headers=ANN)).status_code == 403


@pytest.mark.parametrize("last_first", [False, True])
async def test_of_session_events_the_newest_revision_counts(
    http: httpx.AsyncClient, site: Site, last_first: bool
) -> None:
    desktop = await site.create()
    facts = session(desktop)
    events = [
        SessionRequested(**facts, revision=1),
        SessionConnected(**facts, revision=2),
        SessionDisconnected(**facts, revision=3),
        SessionEnded(**facts, revision=4, reason=EndReason.LOGGED_OFF),
    ]
    if last_first:
        events.reverse()
    for event in events * 2:
        await site.tell(event)
    assert (await http.get("/api/v1/desktops/d1")).json()["users"] == []
    await site.tell(SessionRequested(**session(desktop, "bob", 2), revision=1))
    assert (await http.get("/api/v1/desktops/d1")).json()["users"] == ["bob"]


async def test_a_desktop_shows_what_its_guest_tells_until_it_is_another(
    http: httpx.AsyncClient, site: Site
) -> None:
    node = await site.add_node("n1")
    desktop = await running(site)
    assert (await http.get("/api/v1/desktops/d1")).json()["guest"] is None
    event = node.event(desktop)
    guest = GuestInfo(os="Debian 12", hostname="d1", users=("ann",), applications=("bash",))
    told = event.domain.model_copy(update={"guest": guest})
    await site.tell(event.model_copy(update={"domain": told}))
    shown = (await http.get("/api/v1/desktops/d1")).json()["guest"]
    assert (shown["os"], shown["applications"]) == ("Debian 12", ["bash"])
    await http.post("/api/v1/desktops/d1/reimage")
    await site.settle()
    assert (await http.get("/api/v1/desktops/d1")).json()["guest"] is None


async def test_names_that_are_no_ids_and_ids_that_are_nobodys(http: httpx.AsyncClient) -> None:
    for key in ("nobody", str(uuid4()), "'; drop table desktops"):
        answer = await http.get(f"/api/v1/desktops/{key}")
        assert answer.status_code == 404, key
    assert (await http.get("/api/v1/desktops/%00")).json()["code"] == "desktop.unknown"


async def test_it_describes_itself(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    assert {"/api/v1/hosts/{key}/approve", "/api/v1/desktops/{key}/reimage"} <= paths.keys()
