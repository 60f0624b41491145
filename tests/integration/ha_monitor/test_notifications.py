"""Alerts told to real receivers: at least once, in order, and not twice."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from tests.conftest import free_port
from tests.integration.ha_monitor.conftest import eventually
from tests.integration.ha_monitor.receivers import (
    MailServer,
    Request,
    TrapReceiver,
    WebServer,
    certificate,
)

from roost_common.clock import SystemClock
from roost_common.contracts.alert import AlertFact, Severity
from roost_common.db import Database
from roost_common.outbox import UnitOfWork
from roost_common.security import Role
from roost_ha_monitor.alerts import Wanted
from roost_ha_monitor.bootstrap import build
from roost_ha_monitor.migrations import MIGRATIONS
from roost_ha_monitor.notifications import webhook
from roost_ha_monitor.notifications.announce import announce
from roost_ha_monitor.notifications.courier import Courier
from roost_ha_monitor.notifications.repository import Notifications
from roost_ha_monitor.notifications.senders import Senders
from roost_ha_monitor.notifications.webhook import SIGNATURE, signature
from roost_ha_monitor.repository import Alerts
from roost_ha_monitor.sealed import Sealer

pytestmark = pytest.mark.integration
MIB = "1.3.6.1.4.1.32473.1"
TRAP_OID = "1.3.6.1.6.3.1.1.4.1.0"


class Rig:
    """Ways to raise alerts, to run couriers, and to look."""

    def __init__(self, site: Any, admin: httpx.AsyncClient, unit: UnitOfWork, key: Path) -> None:
        self.site = site
        self.admin = admin
        self.unit = unit
        self.senders = Senders(Sealer.from_file(key), "docs/runbooks")

    async def raise_(
        self, about: str = "node-a", alert: str = "host.down", severity: Severity = Severity.ALERT
    ) -> UUID:
        async with self.unit() as transaction:
            wanted = Wanted(alert, about, severity, f"{about} is down.")
            raised = await Alerts(transaction.session).open(wanted, self.unit.clock.now())
            assert raised is not None
            await announce(transaction, raised.raised())
            return raised.id

    async def clear(self, about: str = "node-a", alert: str = "host.down") -> None:
        async with self.unit() as transaction:
            over = await Alerts(transaction.session).lock_open((alert, about))
            assert over is not None
            await announce(transaction, over.clear(self.unit.clock.now(), "It is over."))

    async def channel(self, target: dict[str, Any], **more: Any) -> dict[str, Any]:
        body = {"name": f"channel-{uuid4().hex[:8]}", "target": target} | more
        answer = await self.admin.post("/api/v1/ha/channels", json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def listed(self, **query: Any) -> list[dict[str, Any]]:
        """Oldest first."""
        answer = await self.admin.get("/api/v1/ha/notifications", params=query)
        assert answer.status_code == 200, answer.text
        return list(reversed(answer.json()["items"]))

    async def states(self) -> list[tuple[str, str]]:
        return [(each["about"], each["state"]) for each in await self.listed()]

    async def hurry(self) -> None:
        """What waits is due."""
        await self.site.sql("update notifications set next_at = now() where state = 'waiting'")

    @asynccontextmanager
    async def courier(self) -> AsyncIterator[Courier]:
        courier = Courier(self.unit, self.senders)
        task = asyncio.create_task(courier.run())
        try:
            yield courier
        finally:
            courier.stop()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def rig(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """The service's interface without its loops; couriers are the tests' own."""
    key = tmp_path / "keys"
    key.write_bytes(base64.b64encode(os.urandom(32)))
    monkeypatch.setenv("ROOST_HA_MONITOR_SECRET_KEY_FILE", str(key))

    async def keys() -> dict[str, Any]:
        return dict(site.signer.jwks())

    database = Database(site.database_url, "ha_monitor")
    async with (
        build(site.settings(), keys=keys) as parts,
        site.client(parts, Role.ADMIN) as admin,
    ):
        yield Rig(site, admin, UnitOfWork(database, "ha-monitor", SystemClock()), key)
    await database.close()


@pytest.fixture
async def web() -> AsyncIterator[WebServer]:
    async with WebServer().running() as server:
        yield server


async def test_migrations_lead_to_the_model(site: Any) -> None:
    await MIGRATIONS.check(site.database_url)


# --- each way --------------------------------------------------------------------------------


async def test_a_mail_is_tried_again_until_the_server_takes_it(rig: Rig) -> None:
    async with MailServer().running() as mail, rig.courier():
        mail.answer = "451 4.3.0 come back later"
        await rig.channel(
            {
                "kind": "email",
                "host": "127.0.0.1",
                "port": mail.port,
                "security": "none",
                "sender": "roost@example.org",
                "recipients": ["ops@example.org", "boss@example.org"],
            }
        )
        await rig.raise_()

        async def failed() -> bool:
            return (await rig.listed())[0]["attempts"] == 1 and bool(
                (await rig.listed())[0]["last_error"]
            )

        await eventually(failed, "the first try failed")
        waits = (await rig.listed())[0]
        assert waits["state"] == "waiting"
        assert "451 4.3.0 come back later" in waits["last_error"]
        assert waits["next_at"] > waits["created_at"]
        assert not mail.mails

        mail.answer = "250 OK"
        await rig.hurry()
        await eventually(lambda: mail.mails, "the mail is there")
        await rig.clear()
        await eventually(lambda: len(mail.mails) == 2, "the end is told")
        began, ended = mail.mails
        assert began["Subject"] == "[Roost] host.down node-a"
        assert ended["Subject"] == "[Roost] host.down node-a is over"
        assert ended["In-Reply-To"] == began["Message-ID"]
        assert "Runbook:   docs/runbooks/host.down.md" in began.get_content()
        assert mail.envelopes[0].rcpt_tos == ["ops@example.org", "boss@example.org"]

        async def both() -> bool:
            return await rig.states() == [("raised", "sent"), ("cleared", "sent")]

        await eventually(both, "both are recorded")
        assert [each["last_error"] for each in await rig.listed()] == [None, None]


async def test_mail_goes_over_tls_with_a_password_that_nobody_sees_again(
    rig: Rig, tmp_path: Path
) -> None:
    context, pem = certificate(tmp_path)
    async with MailServer().running(tls=context) as mail:
        target = {
            "kind": "email",
            "host": "localhost",
            "port": mail.port,
            "username": "roost",
            "password": "s3cr3t-password",
            "sender": "roost@example.org",
            "recipients": ["ops@example.org"],
            "ca": pem,
        }
        good = await rig.channel(target)
        assert "s3cr3t" not in str(good)
        assert good["secrets"] == ["password"]
        assert (await rig.admin.post(f"/api/v1/ha/channels/{good['id']}/test")).status_code == 204
        assert mail.mails[0]["Subject"].startswith("[Roost] test channel-")

        for change, why in (
            ({"password": "s3cr3t-wrong"}, "refuses the password (535)"),
            ({"ca": None}, "not trusted: CERTIFICATE_VERIFY_FAILED"),
        ):
            bad = await rig.channel(target | change)
            answer = await rig.admin.post(f"/api/v1/ha/channels/{bad['id']}/test")
            assert (answer.status_code, answer.json()["code"]) == (503, "notification.undelivered")
            assert why in answer.json()["detail"]
            assert "s3cr3t" not in answer.text
        assert len(mail.mails) == 1
        rows = await rig.site.sql("select target::text, secrets from channels")
        assert not any("s3cr3t" in row["target"] or b"s3cr3t" in row["secrets"] for row in rows)


async def test_a_webhook_gets_a_signed_cloud_event_the_same_at_every_try(
    rig: Rig, web: WebServer
) -> None:
    secret = "s3cr3t-of-sixteen"
    web.status = 500
    await rig.channel(web.target | {"secret": secret})
    alert = await rig.raise_()
    async with rig.courier():
        await eventually(lambda: web.requests, "the first try")

        async def failed() -> bool:
            return "500" in ((await rig.listed())[0]["last_error"] or "")

        await eventually(failed, "it is recorded")
        assert "s3cr3t" not in str(await rig.listed())
        web.status = 200
        await rig.hurry()

        async def sent() -> bool:
            return await rig.states() == [("raised", "sent")]

        await eventually(sent, "the second try")
    first, second = web.requests
    assert first.body == second.body
    assert first.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert first.headers[SIGNATURE.lower()] == signature(secret, first.body)
    assert first.event["data"]["alert_id"] == str(alert)
    assert (first.event["type"], first.path) == ("alert.raised.v1", "/in/s3cr3t-path")


async def test_a_webhook_that_sends_elsewhere_is_not_followed(rig: Rig, web: WebServer) -> None:
    async with WebServer().running() as elsewhere:
        web.status, web.location = 307, f"http://127.0.0.1:{elsewhere.port}/"
        channel = await rig.channel(web.target)
        answer = await rig.admin.post(f"/api/v1/ha/channels/{channel['id']}/test")
        assert answer.status_code == 503
        assert "redirects are not followed" in answer.json()["detail"]
        assert not elsewhere.requests


SNMP_V3 = {
    "kind": "snmp",
    "host": "127.0.0.1",
    "user": "roost",
    "auth_key": "s3cr3t-auth",
    "priv_key": "s3cr3t-priv",
}
SNMP_V2 = {"kind": "snmp", "host": "127.0.0.1", "version": "2c", "community": "public"}


@pytest.mark.parametrize(
    "target",
    [SNMP_V2, SNMP_V2 | {"inform": False}, SNMP_V3, SNMP_V3 | {"inform": False}],
    ids=["v2c-inform", "v2c-trap", "v3-inform", "v3-trap"],
)
async def test_snmp_tells_the_beginning_and_the_end(rig: Rig, target: dict[str, Any]) -> None:
    port = free_port()
    channel = await rig.channel(target | {"port": port})
    senders = [channel["snmp_engine_id"]] if channel["snmp_engine_id"] else []
    async with TrapReceiver(port).running(*senders) as receiver, rig.courier():
        alert = await rig.raise_()
        await eventually(lambda: receiver.heard, "the beginning")
        await rig.clear()
        await eventually(lambda: len(receiver.heard) == 2, "the end")
        began, ended = receiver.heard
        assert (began[TRAP_OID], ended[TRAP_OID]) == (f"{MIB}.0.1", f"{MIB}.0.2")
        assert began[f"{MIB}.1.1.0"] == ended[f"{MIB}.1.1.0"] == str(alert).encode()
        assert began[f"{MIB}.1.2.0"] == b"host.down"
        assert began[f"{MIB}.1.3.0"] == b"node-a"
        assert began[f"{MIB}.1.4.0"] == "4"


async def test_an_inform_that_nobody_confirms_is_sent_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roost_ha_monitor.notifications.snmp.RETRIES", 0)
    port = free_port()
    await rig.channel(SNMP_V3 | {"port": port})
    await rig.raise_()
    async with rig.courier():

        async def failed() -> bool:
            return "did not confirm" in ((await rig.listed())[0]["last_error"] or "")

        await eventually(failed, "nobody answers")
        async with TrapReceiver(port).running() as receiver:
            await rig.hurry()
            await eventually(lambda: receiver.heard, "it is there")

            async def sent() -> bool:
                return await rig.states() == [("raised", "sent")]

            await eventually(sent, "and confirmed")
    assert "s3cr3t" not in str(await rig.listed())


# --- once, in order, by whichever copy -----------------------------------------------------------


async def test_two_couriers_tell_everything_once(rig: Rig, web: WebServer) -> None:
    for _ in range(4):
        await rig.channel(web.target)
    for number in range(6):
        await rig.raise_(f"node-{number}")
    async with rig.courier(), rig.courier():

        async def all_sent() -> bool:
            return [state for _, state in await rig.states()] == ["sent"] * 24

        await eventually(all_sent, "everything is sent")
    told = [event["subject"] for event in web.events]
    assert sorted(told) == sorted(f"node-{number}" for number in range(6) for _ in range(4))


async def test_a_slow_channel_holds_up_no_other_and_keeps_its_order(
    rig: Rig, web: WebServer
) -> None:
    async with WebServer().running() as slow, rig.courier():
        slow.open.clear()
        await rig.channel(slow.target)
        await rig.channel(web.target)
        await rig.raise_()
        await eventually(lambda: slow.requests, "the slow one is at it")
        await rig.clear()
        for number in range(10):
            await rig.raise_(f"other-{number}")
        await eventually(lambda: len(web.requests) == 12, "the quick one has everything")
        assert slow.told() == [("alert.raised.v1", "node-a")]
        slow.open.set()
        await eventually(lambda: len(slow.requests) == 12, "the slow one too")
        about_a = [kind for kind, subject in slow.told() if subject == "node-a"]
        assert about_a == ["alert.raised.v1", "alert.cleared.v1"]


async def test_a_copy_killed_before_it_recorded_is_followed_by_another_try(
    rig: Rig, web: WebServer
) -> None:
    await rig.channel(web.target)
    web.open.clear()
    # It leads nobody: the detector would clear an alert of a host that it does not know.
    await rig.site.sql(
        "insert into leases (name, holder, term, expires_at) values ('detector', $1, 1, $2)",
        uuid4(),
        datetime.now(UTC) + timedelta(hours=1),
    )
    process = await rig.site.process()
    await rig.raise_()
    await eventually(lambda: web.requests, "the copy has sent it")
    process.send_signal(signal.SIGKILL)
    await process.wait()
    web.open.set()
    async with rig.courier() as courier:
        await courier.step()
        assert len(web.requests) == 1, "its claim still holds"
        await rig.site.sql("update notifications set claimed_until = now() - interval '1 second'")
        await eventually(lambda: len(web.requests) == 2, "it is sent again")

        async def sent() -> bool:
            return await rig.states() == [("raised", "sent")]

        await eventually(sent, "and recorded")
    first, second = web.events
    assert first["id"] == second["id"]


async def test_a_courier_that_is_stopped_ends_what_it_began(rig: Rig, web: WebServer) -> None:
    await rig.channel(web.target)
    web.open.clear()
    courier = Courier(rig.unit, rig.senders)
    task = asyncio.create_task(courier.run())
    await rig.raise_()
    await eventually(lambda: web.requests, "it is under way")
    courier.stop()
    task.cancel()
    web.open.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await rig.states() == [("raised", "sent")]


async def test_what_was_rolled_back_is_not_told(rig: Rig, web: WebServer) -> None:
    await rig.channel(web.target)
    with pytest.raises(RuntimeError):
        async with rig.unit() as transaction:
            wanted = Wanted("host.down", "node-a", Severity.ALERT, "down")
            raised = await Alerts(transaction.session).open(wanted, rig.unit.clock.now())
            assert raised is not None
            await announce(transaction, raised.raised())
            raise RuntimeError
    assert await rig.listed() == []


# --- what is not told ------------------------------------------------------------------------


async def test_what_is_over_before_anybody_was_told_is_told_to_nobody(
    rig: Rig, web: WebServer
) -> None:
    channel = await rig.channel({"kind": "webhook", "url": f"http://127.0.0.1:{free_port()}"})
    await rig.raise_()
    async with rig.courier():

        async def failed() -> bool:
            return "cannot be reached" in ((await rig.listed())[0]["last_error"] or "")

        await eventually(failed, "nobody is there")
        await rig.clear()

        async def dropped() -> bool:
            return await rig.states() == [("raised", "dropped"), ("cleared", "dropped")]

        await eventually(dropped, "both are dropped")
        moved = {"name": channel["name"], "target": web.target}
        path = f"/api/v1/ha/channels/{channel['id']}"
        assert (await rig.admin.put(path, json=moved)).status_code == 200
        await rig.raise_("node-b")
        await eventually(lambda: web.requests, "the next one")
    assert web.told() == [("alert.raised.v1", "node-b")]


async def test_the_end_is_told_where_the_beginning_may_have_arrived(
    rig: Rig, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.2)
    await rig.channel(web.target)
    web.open.clear()
    await rig.raise_()
    async with rig.courier():

        async def failed() -> bool:
            return "no answer" in ((await rig.listed())[0]["last_error"] or "")

        await eventually(failed, "no answer came")
        web.open.set()
        await rig.clear()

        async def told() -> bool:
            return await rig.states() == [("raised", "dropped"), ("cleared", "sent")]

        await eventually(told, "the end is told")
    assert [kind for kind, _ in web.told()] == ["alert.raised.v1", "alert.cleared.v1"]


async def test_a_channel_is_told_what_it_wants_and_the_end_of_that_alone(
    rig: Rig, web: WebServer
) -> None:
    hosts = web.target | {"url": web.target["url"] + "/hosts"}
    severe = web.target | {"url": web.target["url"] + "/severe"}
    late = web.target | {"url": web.target["url"] + "/late"}
    await rig.channel(hosts, alerts=["host.*"], min_severity="normal")
    await rig.channel(severe, min_severity="alert")
    await rig.raise_("kvm1", "host.libvirt-down", Severity.ERROR)
    await rig.raise_("store", "storage.full", Severity.ALERT)
    async with rig.courier():
        await eventually(lambda: len(web.requests) == 2, "the beginnings")
        await rig.channel(late)
        await rig.clear("kvm1", "host.libvirt-down")
        await rig.clear("store", "storage.full")
        await eventually(lambda: len(web.requests) == 4, "the ends")

        async def nothing_waits() -> bool:
            return await rig.listed(state="waiting") == []

        await eventually(nothing_waits, "nothing waits")

    def about(request: Request) -> tuple[str, str, str]:
        place = request.path.rpartition("/")[2]
        return place, request.event["subject"], request.event["type"].split(".")[1]

    assert sorted(map(about, web.requests)) == [
        ("hosts", "kvm1", "cleared"),
        ("hosts", "kvm1", "raised"),
        ("severe", "store", "cleared"),
        ("severe", "store", "raised"),
    ]


async def test_after_a_day_it_is_given_up_and_its_end_is_not_told(rig: Rig) -> None:
    await rig.channel({"kind": "webhook", "url": f"http://127.0.0.1:{free_port()}"})
    await rig.raise_()
    await rig.site.sql("update notifications set created_at = now() - interval '24 hours'")
    async with rig.courier():

        async def given_up() -> bool:
            return await rig.states() == [("raised", "given-up")]

        await eventually(given_up, "it is given up")
        await rig.clear()

        async def dropped() -> bool:
            return await rig.states() == [("raised", "given-up"), ("cleared", "dropped")]

        await eventually(dropped, "the end is told to nobody")
    assert (await rig.listed(state="given-up"))[0]["attempts"] == 1


async def test_reminders_come_until_somebody_acknowledges(rig: Rig, web: WebServer) -> None:
    await rig.channel(web.target, repeat_after_s=3600)
    alert = await rig.raise_()
    await rig.raise_("kvm1", "host.libvirt-down", Severity.ERROR)

    async def an_hour_passes() -> None:
        await rig.site.sql("update notifications set finished_at = finished_at - interval '1 hour'")

    async def nothing_waits() -> bool:
        return await rig.listed(state="waiting") == []

    async def told(times: int) -> None:
        await eventually(lambda: len(web.requests) == times, f"told {times} times")

    async with rig.courier() as one, rig.courier() as two:
        await told(2)
        await eventually(nothing_waits, "and recorded")
        for number in (1, 2):
            await an_hour_passes()
            await told(2 + number)
            await eventually(nothing_waits, "and recorded")
        reminders = web.events[2:]
        assert [event.get("reminder") for event in reminders] == [1, 2]
        assert {event["subject"] for event in reminders} == {"node-a"}
        answer = await rig.admin.post(f"/api/v1/ha/alerts/{alert}/acknowledge")
        assert answer.status_code == 200
        await an_hour_passes()
        await asyncio.gather(one.step(), two.step())
        assert await nothing_waits()
    assert len(web.requests) == 4


# --- the interface ---------------------------------------------------------------------------


async def test_a_channel_is_made_once_for_one_key(rig: Rig, web: WebServer) -> None:
    body, key = {"name": "hook", "target": web.target}, {"Idempotency-Key": "k"}
    made = await rig.admin.post("/api/v1/ha/channels", json=body, headers=key)
    again = await rig.admin.post("/api/v1/ha/channels", json=body, headers=key)
    assert (again.status_code, again.json()) == (201, made.json())
    other = await rig.admin.post("/api/v1/ha/channels", json={**body, "name": "other"}, headers=key)
    assert other.json()["code"] == "idempotency.key-reused"
    assert (await rig.admin.get("/api/v1/ha/channels")).json()["total"] == 1


async def test_channels_are_made_shown_changed_and_removed(rig: Rig, web: WebServer) -> None:
    body = {"name": "operators", "target": web.target | {"secret": "s3cr3t-of-sixteen"}}
    made = (await rig.admin.post("/api/v1/ha/channels", json=body)).json()
    assert (made["min_severity"], made["alerts"], made["repeat_after_s"]) == ("warning", ["*"], 0)
    assert made["secrets"] == ["secret", "url"]
    assert made["target"]["url"] == f"http://127.0.0.1:{web.port}/…"
    again = await rig.admin.post("/api/v1/ha/channels", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "channel.name-taken")

    path = f"/api/v1/ha/channels/{made['id']}"
    changed = body | {"alerts": ["host.*"], "repeat_after_s": 60}
    answer = await rig.admin.put(path, json=changed)
    assert answer.json() == made | {"alerts": ["host.*"], "repeat_after_s": 60}
    assert (await rig.admin.get(path)).json() == answer.json()
    assert (await rig.admin.get("/api/v1/ha/channels/operators")).json() == answer.json()
    listed = (await rig.admin.get("/api/v1/ha/channels")).json()
    assert (listed["items"], listed["total"]) == ([answer.json()], 1)

    await rig.raise_()
    assert len(await rig.listed()) == 1
    for channel, count in (("operators", 1), (made["id"], 1), ("others", 0)):
        told = await rig.admin.get("/api/v1/ha/notifications", params={"channel": channel})
        assert told.json()["total"] == count
    assert (await rig.admin.delete(path)).status_code == 204
    assert await rig.listed() == []
    for method in ("GET", "DELETE"):
        gone = await rig.admin.request(method, path)
        assert (gone.status_code, gone.json()["code"]) == (404, "channel.unknown")


async def test_a_wrong_channel_is_refused_without_repeating_its_secrets(rig: Rig) -> None:
    target = SNMP_V3 | {"auth_key": "s3cr3t"}
    answer = await rig.admin.post("/api/v1/ha/channels", json={"name": "nms", "target": target})
    assert answer.status_code == 422
    assert "s3cr3t" not in answer.text


async def test_only_administrators_see_channels(rig: Rig) -> None:
    nobody = httpx.AsyncClient(transport=rig.admin._transport, base_url="http://test")
    async with nobody:
        for path in ("channels", "notifications", f"channels/{uuid4()}"):
            assert (await nobody.get(f"/api/v1/ha/{path}")).status_code == 401


async def test_without_a_key_no_secret_is_taken(rig: Rig, web: WebServer) -> None:
    settings = rig.site.settings().model_copy(update={"secret_key_file": None})

    async def keys() -> dict[str, Any]:
        return dict(rig.site.signer.jwks())

    async with (
        build(settings, keys=keys) as parts,
        rig.site.client(parts, Role.ADMIN) as admin,
    ):
        answer = await admin.post(
            "/api/v1/ha/channels", json={"name": "hook", "target": web.target}
        )
        assert (answer.status_code, answer.json()["code"]) == (409, "secrets.no-key")


async def test_notifications_are_paged_newest_first(rig: Rig, web: WebServer) -> None:
    await rig.channel(web.target)
    for number in range(5):
        await rig.raise_(f"node-{number}")
    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await rig.admin.get("/api/v1/ha/notifications", params=query)).json()
        assert page["total"] == 5
        seen += [item["object"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [f"node-{number}" for number in (4, 3, 2, 1, 0)]


async def test_what_is_long_done_is_forgotten_but_not_what_lasts(rig: Rig, web: WebServer) -> None:
    await rig.channel(web.target)
    await rig.raise_("lasts")
    await rig.raise_("over")
    async with rig.courier():
        await eventually(lambda: len(web.requests) == 2, "told")
        await rig.clear("over")
        await eventually(lambda: len(web.requests) == 3, "told")

        async def all_sent() -> bool:
            return [state for _, state in await rig.states()] == ["sent"] * 3

        await eventually(all_sent, "recorded")
    async with rig.unit() as transaction:
        await Notifications(transaction.session).prune(rig.unit.clock.now())
    assert [each["object"] for each in await rig.listed()] == ["lasts"]


async def test_a_host_that_dies_is_told_and_so_is_its_return(rig: Rig, web: WebServer) -> None:
    await rig.channel(web.target, alerts=["host.down"])
    node = rig.site.node("kvm1")
    async with rig.site.copy():
        node.live()
        await rig.site.heard("kvm1", "up")
        await node.die()
        await eventually(lambda: web.requests, "its death is told")
        node.live()
        await eventually(lambda: len(web.requests) == 2, "its return is told")
    assert web.told() == [("alert.raised.v1", "kvm1"), ("alert.cleared.v1", "kvm1")]
    heard = {str(m.alert_id) for m in rig.site.listener.heard if isinstance(m, AlertFact)}
    assert {event["data"]["alert_id"] for event in web.events} <= heard
