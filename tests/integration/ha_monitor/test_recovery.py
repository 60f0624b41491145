"""After the fence: what became of every desktop, from inventory's word alone."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from tests.integration.ha_monitor.conftest import eventually

from roost_common.contracts.base import Message, Problem
from roost_common.contracts.desktop import (
    DesktopChanged,
    DesktopDeleted,
    DesktopRestarted,
    DesktopState,
    DesktopStopped,
    DesktopView,
    Power,
    StopReason,
)
from roost_common.contracts.host import HostDesktopsLost, HostFenced, LostDesktop
from roost_common.contracts.incident import IncidentResolved, Resolution
from roost_common.contracts.spec import DesktopSpec, TemplateRef
from roost_common.db import Database
from roost_common.security import Role
from roost_ha_monitor.repository import Incidents

pytestmark = pytest.mark.integration

TEMPLATE = TemplateRef(id=uuid4(), name="tiny", version=1)


def view(desktop_id: UUID, revision: int, state: DesktopState, **fields: Any) -> DesktopView:
    return DesktopView(
        id=desktop_id,
        name=f"d{desktop_id.int % 1000}",
        revision=revision,
        generation=1,
        state=state,
        power=fields.pop("power", Power.ON),
        template=TEMPLATE,
        spec=DesktopSpec(),
        disk_generation=1,
        **fields,
    )


def lost(desktop_id: UUID, revision: int, *, restart: bool = True) -> LostDesktop:
    return LostDesktop(
        desktop_id=desktop_id,
        desktop_name=f"d{desktop_id.int % 1000}",
        revision=revision,
        restart=restart,
        priority=50,
    )


async def tell(site: Any, messages: list[Message], seed: int) -> None:
    """Every message twice, with its id, in an order made from ``seed``."""
    twice = [(message, site.bus.envelope(message)) for message in messages] * 2
    random.Random(seed).shuffle(twice)
    for message, envelope in twice:
        await site.bus.publish(message, envelope)


@asynccontextmanager
async def session_of(site: Any) -> AsyncIterator[AsyncSession]:
    """For what the service's repositories say."""
    database = Database(site.settings().database_url.get_secret_value(), "ha_monitor")
    try:
        async with database.sessions() as session:
            yield session
    finally:
        await database.close()


async def fenced(site: Any, admin: Any, node: Any) -> UUID:
    """A host that died and was switched off, with another that could take its desktops."""
    site.node("kvm9").live()
    await site.heard("kvm9", "up")
    node.live()
    await site.heard(node.name, "up")
    answer = await admin.put(f"/api/v1/ha/fencing/{node.name}", json=site.agents.device("1"))
    assert answer.status_code == 200
    await node.die()
    await eventually(lambda: site.listener.of(HostFenced), "it is fenced")
    incident_id: UUID = site.listener.of(HostFenced)[-1].incident_id
    return incident_id


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_an_incident_ends_with_its_last_desktop(site: Any, seed: int) -> None:
    back, stopped_again, left = uuid4(), uuid4(), uuid4()
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        incident_id = await fenced(site, admin, site.node("kvm1"))
        running, stopped = DesktopState.RUNNING, DesktopState.STOPPED
        told: list[Message] = [
            HostDesktopsLost(
                node="kvm1",
                incident_id=incident_id,
                kept=0,
                desktops=(lost(back, 7), lost(stopped_again, 4), lost(left, 2, restart=False)),
            ),
            # What was before the host failed says nothing.
            DesktopChanged(desktop=view(back, 6, running)),
            DesktopStopped(desktop=view(back, 7, stopped), reason=StopReason.HOST_FAILED),
            DesktopChanged(desktop=view(back, 8, DesktopState.STARTING, restarting=True)),
            DesktopRestarted(desktop=view(back, 9, running)),
            DesktopRestarted(desktop=view(stopped_again, 6, running)),
            DesktopStopped(
                desktop=view(stopped_again, 7, stopped, power=Power.OFF),
                reason=StopReason.GUEST_SHUTDOWN,
            ),
        ]
        await tell(site, told, seed)
        await eventually(lambda: site.listener.of(IncidentResolved), "it is over")
        (resolved,) = site.listener.of(IncidentResolved)
        assert (resolved.resolution, resolved.restarted, resolved.given_up) == (
            Resolution.RECOVERED,
            2,
            0,
        )
        assert resolved.fenced_at is not None
        assert resolved.first_back_at is not None
        assert resolved.all_back_at is not None
        assert resolved.noticed_at <= resolved.fenced_at
        assert resolved.first_back_at <= resolved.all_back_at
        shown = (await admin.get(f"/api/v1/ha/incidents/{incident_id}")).json()
        fates = {desktop["id"]: desktop["fate"] for desktop in shown["desktops"]}
        assert fates == {str(back): "back", str(stopped_again): "back", str(left): "left"}
        assert shown["detail"] == "2 desktops run again, 1 are not to be restarted."


async def test_a_host_without_desktops_is_over_at_once(site: Any) -> None:
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        incident_id = await fenced(site, admin, site.node("kvm1"))
        shown = (await admin.get(f"/api/v1/ha/incidents/{incident_id}")).json()
        assert shown["state"] == "recovering"
        await tell(site, [HostDesktopsLost(node="kvm1", incident_id=incident_id, kept=0)], 1)
        await eventually(lambda: site.listener.of(IncidentResolved), "it is over")
        (resolved,) = site.listener.of(IncidentResolved)
        assert (resolved.resolution, resolved.all_back_at) == (Resolution.RECOVERED, None)
        page = await admin.get("/api/v1/ha/incidents", params={"open": True})
        assert page.json()["total"] == 0


async def test_desktops_that_are_given_up_are_told_of_until_they_run(site: Any) -> None:
    back, given_up, deleted = uuid4(), uuid4(), uuid4()
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        incident_id = await fenced(site, admin, site.node("kvm1"))
        problem = Problem(code="desktop.given-up", detail="It failed ten times.")
        await tell(
            site,
            [
                HostDesktopsLost(
                    node="kvm1",
                    incident_id=incident_id,
                    kept=0,
                    desktops=(lost(back, 3), lost(given_up, 3), lost(deleted, 3)),
                ),
                DesktopRestarted(desktop=view(back, 5, DesktopState.RUNNING)),
                DesktopChanged(desktop=view(given_up, 9, DesktopState.STOPPED, problem=problem)),
                DesktopDeleted(desktop=view(deleted, 4, DesktopState.DELETED)),
            ],
            4,
        )
        await eventually(lambda: site.listener.of(IncidentResolved), "it is over")
        (resolved,) = site.listener.of(IncidentResolved)
        assert (resolved.resolution, resolved.restarted, resolved.given_up) == (
            Resolution.PARTLY,
            1,
            2,
        )
        kind = "incident.desktops-given-up"
        raised = [("alert.raised", kind)]
        await eventually(lambda: site.listener.alerts("kvm1", kind) == raised, "raised")
        shown = (await admin.get(f"/api/v1/ha/incidents/{incident_id}")).json()
        assert shown["resolution"] == "partly"
        reasons = {desktop["id"]: desktop["reason"] for desktop in shown["desktops"]}
        assert reasons[str(given_up)] == "It failed ten times."
        assert reasons[str(deleted)] == "It was deleted."

        assert [each["alert"] for each in shown["alerts"]] == ["host.down", kind]
        # What was out before or came long after is another story.
        for begins, ends in ((-9, -8), (8, 9)):
            await site.sql(
                "insert into alerts (id, alert, object, severity, message, raised_at, cleared_at)"
                " values ($1, 'host.agent-silent', 'kvm1', 'error', '',"
                " now() + interval '1 minute' * $2, now() + interval '1 minute' * $3)",
                uuid4(),
                begins,
                ends,
            )
        shown = (await admin.get(f"/api/v1/ha/incidents/{incident_id}")).json()
        assert [each["alert"] for each in shown["alerts"]] == ["host.down", kind]

        # A copy that led in between has cleared it.
        await site.sql("update alerts set cleared_at = now() where alert = $1", kind)
        raised *= 2
        await eventually(lambda: site.listener.alerts("kvm1", kind) == raised, "raised again")

        await tell(site, [DesktopRestarted(desktop=view(given_up, 12, DesktopState.RUNNING))], 5)
        cleared = [*raised, ("alert.cleared", kind)]
        await eventually(lambda: site.listener.alerts("kvm1", kind) == cleared, "cleared")

        # Given up months later for another reason, it is no longer the host's failure.
        stopped = view(given_up, 15, DesktopState.STOPPED, problem=problem)
        await tell(site, [DesktopChanged(desktop=stopped)], 6)
        question = "select 1 from desktops where id = $1 and revision = 15"
        await eventually(lambda: site.sql(question, given_up), "that is known")
        async with session_of(site) as session:
            assert await Incidents(session).given_up() == {}


async def test_a_view_that_comes_late_changes_nothing(site: Any) -> None:
    late = uuid4()

    async def known() -> tuple[int, str, int] | None:
        rows = await site.sql(
            "select revision, state, running_revision from desktops where id = $1", late
        )
        return tuple(rows[0].values()) if rows else None

    async with site.copy():
        await tell(site, [DesktopChanged(desktop=view(late, 9, DesktopState.STOPPED))], 1)

        async def newest() -> bool:
            return await known() == (9, "stopped", 0)

        await eventually(newest, "the newest view")
        # It ran before; that is kept, and nothing else of the older view.
        await tell(site, [DesktopRestarted(desktop=view(late, 8, DesktopState.RUNNING))], 1)

        async def ran() -> bool:
            return await known() == (9, "stopped", 8)

        await eventually(ran, "the older view")
