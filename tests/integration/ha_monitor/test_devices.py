"""Fence devices over HTTP: set up, shown, tested, watched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.integration.ha_monitor.conftest import DEADLINE_S, eventually

from roost_common.security import Role

pytestmark = pytest.mark.integration

PATH = "/api/v1/ha/fencing/kvm1"
WAITING = """select pid from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'
    and query not like 'UPDATE hosts%'"""
"""Who waits for a lock, but for beats that are written down."""


async def test_a_device_is_set_up_shown_without_its_secrets_and_removed(site: Any) -> None:
    node = site.node("kvm1")
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        missing = await admin.put(PATH, json=site.agents.device("1"))
        assert (missing.status_code, missing.json()["code"]) == (404, "host.unknown")
        node.live()
        await site.heard("kvm1", "up")
        made = await admin.put(PATH, json=site.agents.device("1"))
        assert made.status_code == 200
        (device,) = made.json()["devices"]
        assert device["options"] == {"plug": "1", "way": "", "password": None}
        assert device["problem"] == ""
        assert device["changed_by"] == "root"
        assert (await admin.get(PATH)).json() == made.json()
        assert "secret-of-1" not in made.text
        rows = await site.sql("select options from fence_devices")
        assert b"secret-of-1" not in rows[0]["options"]

        tested = (await admin.post(f"{PATH}/test")).json()
        assert tested == [{"agent": "fence_fake", "power": "on", "problem": ""}]

        two = [site.agents.device("1", "a"), site.agents.device("1", "b")]
        assert len((await admin.put(PATH, json=two)).json()["devices"]) == 2
        assert (await admin.delete(PATH)).status_code == 204
        assert (await admin.get(PATH)).json()["devices"] == []
        assert (await admin.delete(PATH)).status_code == 204
    assert site.agents.switched("1") == [], "to set it up switches nothing"


async def test_what_does_not_work_is_not_taken(site: Any) -> None:
    node = site.node("kvm1")
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        node.live()
        await site.heard("kvm1", "up")

        async def refused(body: Any) -> tuple[int, str]:
            answer = await admin.put(PATH, json=body)
            assert "secret-of" not in answer.text
            return answer.status_code, answer.json()["code"]

        device = site.agents.device("1")
        options = device["options"]
        assert await refused(device | {"agent": "fence_other"}) == (422, "fencing.agent-unknown")
        assert await refused(device | {"agent": "../sh"}) == (422, "request.invalid")
        for odd in ({"no_such": "1"}, {"password_script": "/bin/x"}, {"plug": "1\naction=on"}):
            answer = await refused(device | {"options": options | odd})
            assert answer == (422, "fencing.options-invalid")
        assert (await refused([]))[0] == 422
        site.agents.behave("a", "denies")
        assert await refused(site.agents.device("1", "a")) == (409, "fencing.device-failed")
        (site.agents.directory / "power-9").write_text("off")
        assert await refused(site.agents.device("9")) == (409, "fencing.wrong-host")
        assert (await admin.get(PATH)).json()["devices"] == []
        async with site.client(parts, Role.USER) as user:
            for method, path in (("PUT", PATH), ("POST", f"{PATH}/fence"), ("GET", PATH)):
                assert (await user.request(method, path, json=device)).status_code == 403


async def test_without_a_key_no_device_is_taken(site: Any) -> None:
    node = site.node("kvm1")
    site.extra = {"secret_key_file": None}
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        node.live()
        await site.heard("kvm1", "up")
        answer = await admin.put(PATH, json=site.agents.device("1"))
        assert (answer.status_code, answer.json()["code"]) == (409, "secrets.no-key")


async def test_a_device_that_stops_working_is_an_alert(site: Any) -> None:
    node = site.node("kvm1")
    site.extra = {"fence_check_s": 0.5}
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        node.live()
        await site.heard("kvm1", "up")
        await admin.put(PATH, json=site.agents.device("1"))
        site.agents.behave("", "denies")
        kind = "host.fence-device-failed"
        raised = [("alert.raised", kind)]
        await eventually(lambda: site.listener.alerts("kvm1", kind) == raised, "raised")
        assert "could not log in" in (await admin.get(PATH)).json()["devices"][0]["problem"]
        site.agents.behave("", "works")
        cleared = [*raised, ("alert.cleared", kind)]
        await eventually(lambda: site.listener.alerts("kvm1", kind) == cleared, "cleared")


@pytest.fixture
async def asked(site: Any) -> AsyncIterator[tuple[httpx.AsyncClient, asyncio.Task[httpx.Response]]]:
    """An administrator, and a check that has begun of a device that stalls until it behaves
    otherwise."""
    node = site.node("kvm1")
    site.extra = {"fence_status_timeout_s": DEADLINE_S}
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        node.live()
        await site.heard("kvm1", "up")
        await admin.put(PATH, json=site.agents.device("1"))
        site.agents.behave("", "stalls")
        before = len(site.agents.asked("1"))
        asking = asyncio.create_task(admin.post(f"{PATH}/test"))
        await eventually(lambda: len(site.agents.asked("1")) > before, "it is asked")
        yield admin, asking


async def _fails(site: Any, asking: asyncio.Task[httpx.Response]) -> None:
    """The device that stalled says in the end that it does not work."""
    site.agents.behave("", "denies")
    (tested,) = (await asking).json()
    assert "could not log in" in tested["problem"]


async def test_a_device_that_was_removed_while_it_was_asked_is_no_alert(
    site: Any, asked: Any
) -> None:
    admin, asking = asked
    assert (await admin.delete(PATH)).status_code == 204
    await _fails(site, asking)
    assert await site.sql("select alert from alerts") == []


async def test_a_device_that_was_replaced_while_it_was_asked_is_no_alert(
    site: Any, asked: Any
) -> None:
    admin, asking = asked
    assert (await admin.put(PATH, json=site.agents.device("1", "b"))).status_code == 200
    await _fails(site, asking)
    assert (await admin.get(PATH)).json()["devices"][0]["problem"] == ""
    assert await site.sql("select alert from alerts") == []


async def test_a_check_does_not_overlook_a_removal_that_commits_as_it_ends(
    site: Any, asked: Any
) -> None:
    _, asking = asked
    async with site.connection() as other, other.transaction():
        # As far as a removal is before it commits.
        await other.execute("select 1 from hosts where node = 'kvm1' for update")
        await other.execute("delete from fence_devices where node = 'kvm1'")
        ending = asyncio.create_task(_fails(site, asking))

        async def waits() -> bool:
            return bool(await site.sql(WAITING))

        await eventually(waits, "the check waits for the removal")
    await ending
    assert await site.sql("select alert from alerts") == []
