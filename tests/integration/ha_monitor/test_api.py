"""The HTTP interface on a running copy."""

from __future__ import annotations

import socket
from typing import Any
from uuid import uuid4

import pytest
from tests.integration.ha_monitor.conftest import eventually

from roost_common.security import Role

pytestmark = pytest.mark.integration


async def test_only_administrators_may_look(site: Any) -> None:
    async with site.copy() as parts:
        async with site.client(parts, Role.USER) as user:
            for path in ("hosts", "hosts/kvm1", "alerts", "leader"):
                answer = await user.get(f"/api/v1/ha/{path}")
                assert (answer.status_code, answer.json()["code"]) == (403, "auth.admin-only")
        async with site.client(parts) as nobody:
            nobody.headers.pop("Authorization")
            assert (await nobody.get("/api/v1/ha/hosts")).status_code == 401


async def test_hosts_are_listed_page_by_page_and_shown(site: Any) -> None:
    nodes = [site.node(f"kvm{number}") for number in range(3)]
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        for node in nodes:
            node.live()
        for node in nodes:
            await site.heard(node.name, "up")
        first = (await admin.get("/api/v1/ha/hosts", params={"limit": 2})).json()
        assert [item["node"] for item in first["items"]] == ["kvm0", "kvm1"]
        assert first["total"] == 3
        rest = (await admin.get("/api/v1/ha/hosts", params={"cursor": first["next"]})).json()
        assert [item["node"] for item in rest["items"]] == ["kvm2"]
        assert rest["next"] is None

        one = (await admin.get("/api/v1/ha/hosts/kvm1")).json()
        assert (one["health"], one["sequence"], one["libvirt"]) == ("up", 1, True)
        assert one["last_beat_at"] is not None
        missing = await admin.get("/api/v1/ha/hosts/nobody")
        assert (missing.status_code, missing.json()["code"]) == (404, "host.unknown")
        odd = await admin.get("/api/v1/ha/hosts", params={"cursor": "bm90IG91cnM"})
        assert odd.status_code == 422


async def test_the_leader_is_named_by_every_copy(site: Any) -> None:
    async with site.copy() as one, site.copy() as two:

        async def led() -> bool:
            return await site.holder() is not None

        await eventually(led, "somebody leads")
        async with site.client(one, Role.ADMIN) as a, site.client(two, Role.ADMIN) as b:
            answers = [(await asked.get("/api/v1/ha/leader")).json() for asked in (a, b)]
        assert answers[0]["holder"] == answers[1]["holder"] == str(await site.holder())
        assert {answer["answered_by"] for answer in answers} >= {answers[0]["holder"]}
        assert answers[0]["answered_by"] != answers[1]["answered_by"]
        assert answers[0]["term"] == 1


async def test_an_alert_is_acknowledged_by_the_first_and_only_while_it_lasts(site: Any) -> None:
    node = site.node("kvm1")
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        node.live()
        await site.heard("kvm1", "up")
        await node.die()
        await site.heard("kvm1", "up", "suspected", "down")
        unfenced = ("alert.raised", "host.unfenced")
        await eventually(
            lambda: unfenced in site.listener.alerts("kvm1", "host.unfenced"), "a person is called"
        )
        page = (await admin.get("/api/v1/ha/alerts", params={"open": True})).json()
        assert page["total"] == 2
        alert = page["items"][1]
        assert (alert["alert"], alert["object"]) == ("host.down", "kvm1")
        assert alert["severity"] == "alert"
        assert alert["acknowledged_at"] is None

        path = f"/api/v1/ha/alerts/{alert['id']}/acknowledge"
        first = (await admin.post(path)).json()
        assert first["acknowledged_by"] == "root"
        assert (await admin.post(path)).json() == first

        node.live()
        await site.heard("kvm1", "up", "suspected", "down", "recovered")
        await eventually(lambda: len(site.listener.alerts("kvm1")) == 2, "cleared")
        over = await admin.post(path)
        assert (over.status_code, over.json()["code"]) == (409, "alert.cleared")
        cleared = [unfenced, ("alert.cleared", "host.unfenced")]
        await eventually(
            lambda: site.listener.alerts("kvm1", "host.unfenced") == cleared, "nobody is called"
        )
        assert (await admin.get("/api/v1/ha/alerts", params={"open": True})).json()["total"] == 0
        assert (await admin.get("/api/v1/ha/alerts")).json()["total"] == 2
        missing = await admin.post(f"/api/v1/ha/alerts/{uuid4()}/acknowledge")
        assert (missing.status_code, missing.json()["code"]) == (404, "alert.unknown")


async def test_a_host_is_removed_when_it_is_silent_and_comes_back_with_its_sequence(
    site: Any,
) -> None:
    node = site.node("kvm1")
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        node.live()
        await site.heard("kvm1", "up")
        refused = await admin.delete("/api/v1/ha/hosts/kvm1")
        assert (refused.status_code, refused.json()["code"]) == (409, "ha.host-beats")

        await node.die()
        await site.heard("kvm1", "up", "suspected", "down")
        early = await admin.delete("/api/v1/ha/hosts/kvm1")
        assert (early.status_code, early.json()["code"]) == (409, "ha.incident-open")
        (incident,) = (await admin.get("/api/v1/ha/incidents")).json()["items"]
        confirmed = await admin.post(f"/api/v1/ha/incidents/{incident['id']}/confirm")
        assert confirmed.status_code == 200
        assert (await admin.delete("/api/v1/ha/hosts/kvm1")).status_code == 204
        assert (await admin.get("/api/v1/ha/hosts")).json()["total"] == 0
        assert (await admin.get("/api/v1/ha/hosts/kvm1")).status_code == 404
        assert (await admin.delete("/api/v1/ha/hosts/kvm1")).status_code == 404
        await eventually(lambda: len(site.listener.alerts("kvm1")) == 2, "its alert is cleared")

        node.live()
        await site.heard("kvm1", "up", "suspected", "down", "up")
        assert [fact.sequence for fact in site.listener.health("kvm1")] == [1, 2, 3, 5]


async def test_a_host_that_was_removed_while_it_was_suspected_is_no_alert(site: Any) -> None:
    gone, silent, alive = (site.node(f"kvm{number}") for number in range(3))
    with socket.socket() as machine:
        machine.bind(("127.0.0.1", 0))
        machine.listen()
        gone.address = silent.address = "127.0.0.1"
        site.extra = {"probe_ports": (machine.getsockname()[1],), "agent_silent_after_s": 5.0}
        async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
            for node in (gone, silent, alive):
                node.live()
            for node in (gone, silent, alive):
                await site.heard(node.name, "up")
            await gone.die()
            # The second time because it answers elsewhere: nothing more is said of its health.
            await site.heard("kvm0", "up", "suspected", "suspected")
            assert (await admin.delete("/api/v1/ha/hosts/kvm0")).status_code == 204
            # Silent for as long after the other one: when its alert comes, that one's would have.
            await silent.die()
            want = [("alert.raised", "host.agent-silent")]
            await eventually(lambda: site.listener.alerts("kvm1") == want, "a person is told")
    assert [row["object"] for row in await site.sql("select object from alerts")] == ["kvm1"]
    assert site.listener.names("kvm0") == ["host.up", "host.suspected", "host.suspected"]


async def test_alerts_are_paged_newest_first(site: Any) -> None:
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        for number in range(5):
            await site.sql(
                "insert into alerts (id, alert, object, severity, message, raised_at)"
                " values ($1, 'host.down', $2, 'alert', 'gone', now() + $3 * interval '1 minute')",
                uuid4(),
                f"old{number}",
                number,
            )
        seen: list[str] = []
        cursor = None
        while True:
            query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
            page = (await admin.get("/api/v1/ha/alerts", params=query)).json()
            seen += [item["object"] for item in page["items"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert seen == ["old4", "old3", "old2", "old1", "old0"]
