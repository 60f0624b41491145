"""The launcher's call, from credentials to a connection."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from tests.polling import eventually

from roost_common.contracts.desktop import DesktopState, ReimageDesktop
from roost_common.contracts.session import SessionEnded, SessionRequested

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("cheap_hashes")]


async def test_a_running_desktop_is_opened_at_once(ready_site: Any) -> None:
    site = ready_site
    answer = await site.launch(site.ann, pool="win", client={"name": "tc-1", "monitors": 2})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert body["state"] == "ready"
    assert body["desktop"]["name"] == "win-1"
    assert body["protocol"] == "spice"
    assert body["reason"]
    assert body["spice"] == {
        "host": "10.9.8.7",
        "port": 5900,
        "tls_port": 5901,
        "password": "secret-1",
        "ca": "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n",
        "host_subject": "CN=n1",
    }
    assert body["html5_url"] is None
    session = await site.session(body["session_id"])
    assert session["state"] == "pending"
    assert session["user"] == "ann"
    assert session["client"]["name"] == "tc-1"
    (event,) = await eventually(lambda: site.inventory.of(SessionRequested), "it is told")
    assert event.user == "ann"
    assert event.pool == "win"
    await site.settled(free=1, assigned=1, total=2)  # the spare is there again


async def test_the_same_user_gets_the_same_desktop_with_a_new_password(ready_site: Any) -> None:
    site = ready_site
    first = (await site.launch(site.ann, pool="win")).json()
    second = (await site.launch(site.ann, pool="win")).json()
    assert second["desktop"] == first["desktop"]
    assert second["session_id"] == first["session_id"]
    assert second["spice"]["password"] != first["spice"]["password"]
    again = await site.call("GET", f"/launch/{second['launch_id']}", headers=site.ann)
    assert again.status_code == 200
    assert again.json()["desktop"] == first["desktop"]
    assert again.json()["spice"]["password"] not in (
        first["spice"]["password"],
        second["spice"]["password"],
    )


async def test_basic_authorization_and_no_body(ready_site: Any) -> None:
    site = ready_site
    text = base64.b64encode(b"ann:staple staple").decode()
    answer = await site.http.post("/api/v1/launch", headers={"Authorization": f"Basic {text}"})
    assert answer.status_code == 200, answer.text
    wrong = base64.b64encode(b"ann:staple stable").decode()
    answer = await site.http.post("/api/v1/launch", headers={"Authorization": f"Basic {wrong}"})
    assert answer.status_code == 401
    assert "WWW-Authenticate" in answer.headers


async def test_a_viewer_file(ready_site: Any) -> None:
    site = ready_site
    answer = await site.http.post(
        "/api/v1/launch",
        headers={**site.ann, "Accept": "application/x-virt-viewer"},
        json={"pool": "win", "client": {"monitors": 4, "link": "wan"}},
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/x-virt-viewer")
    lines = answer.text.splitlines()
    assert lines[0] == "[virt-viewer]"
    assert "password=secret-1" in lines
    assert "fullscreen=1" in lines
    assert "color-depth=16" in lines
    assert "ca=-----BEGIN CERTIFICATE-----\\nMII=\\n-----END CERTIFICATE-----\\n" in lines


async def test_two_users_at_once_get_two_desktops(site: Any) -> None:
    await site.template()
    users = [await site.user(f"u{number}") for number in range(8)]
    await site.pool(users=tuple(f"u{n}" for n in range(8)), max=8, spare=8, min=8)
    await site.settled(free=8)
    answers = await asyncio.gather(*(site.launch(who, pool="win") for who in users))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len({answer.json()["desktop"]["id"] for answer in answers}) == 8


async def test_one_user_at_once_gets_one_desktop(new_site: Any) -> None:
    site = await new_site()
    copy = await new_site(admin_password_file=None)
    await site.template()
    ann = await site.user("ann")
    await site.pool(users=("ann",), spare=3)
    await site.settled(free=3)
    answers = await asyncio.gather(*(where.launch(ann, pool="win") for where in (site, copy) * 4))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["session_id"] for answer in answers}) == 1
    await site.settled(assigned=1)


async def test_another_desktop_up_to_the_pools_cap(site: Any) -> None:
    await site.template()
    ann = await site.user("ann")
    await site.pool(users=("ann",), spare=3, max_per_user=2)
    await site.settled(free=3)
    first = (await site.launch(ann, pool="win")).json()
    second = (await site.launch(ann, pool="win", new=True)).json()
    assert first["desktop"] != second["desktop"]
    third = await site.launch(ann, pool="win", new=True)
    assert third.status_code == 409
    assert third.json()["code"] == "pool.max-per-user"
    named = await site.launch(ann, desktop=first["desktop"]["name"])
    assert named.json()["session_id"] == first["session_id"]


async def test_who_may_not(ready_site: Any) -> None:
    site = ready_site
    eve = await site.user("eve")
    answer = await site.launch(eve, pool="win")
    assert (answer.status_code, answer.json()["code"]) == (403, "pool.not-entitled")
    answer = await site.launch(eve)
    assert (answer.status_code, answer.json()["code"]) == (403, "pool.not-entitled")
    answer = await site.launch(site.ann, pool="none")
    assert (answer.status_code, answer.json()["code"]) == (404, "pool.unknown")
    answer = await site.launch(site.ann, desktop="win-1")
    assert (answer.status_code, answer.json()["code"]) == (404, "desktop.unknown")
    answer = await site.launch({}, pool="win")
    assert answer.status_code == 401
    mine = (await site.launch(site.ann, pool="win")).json()
    others = await site.call("GET", f"/launch/{mine['launch_id']}", headers=site.bob)
    assert others.status_code == 404
    assert (await site.call("GET", f"/launch/{uuid4()}", headers=site.ann)).status_code == 404


async def test_a_disabled_users_token_opens_nothing(ready_site: Any) -> None:
    site = ready_site
    await site.call("PATCH", "/users/ann", json={"disabled": True})
    assert (await site.launch(site.ann, pool="win")).status_code == 401
    assert (await site.call("GET", "/auth/me", headers=site.ann)).status_code == 401
    assert await site.sql("select count(*) from sessions") == 0


async def test_protocols(ready_site: Any) -> None:
    site = ready_site
    answer = await site.launch(site.ann, pool="win", protocols=["rdp", "vnc"])
    assert (answer.status_code, answer.json()["code"]) == (409, "protocol.none-in-common")
    assert answer.json()["offered"] == ["spice"]
    answer = await site.launch(site.ann, pool="win", protocols=["html5", "spice"])
    assert answer.status_code == 200
    assert "html5" in answer.json()["reason"]
    answer = await site.launch(site.ann, pool="win", protocols=["SPICE"])
    assert (answer.status_code, answer.json()["protocol"]) == (200, "spice"), answer.text
    # The longest reason there can be.
    names = [f"{number}".rjust(32, "x") for number in range(7)]
    answer = await site.launch(site.bob, pool="win", protocols=[*names, "spice"], wait=30)
    assert (answer.status_code, answer.json()["protocol"]) == (200, "spice"), answer.text
    assert all(name in answer.json()["reason"] for name in names)


async def test_a_choice_must_be_made(ready_site: Any) -> None:
    site = ready_site
    await site.pool("lin", users=("ann",))
    answer = await site.launch(site.ann)
    assert (answer.status_code, answer.json()["code"]) == (409, "launch.choose")
    assert answer.json()["names"] == ["lin", "win"]


async def test_places_in_the_queue(site: Any) -> None:
    await site.template()
    users = [await site.user(f"u{number}") for number in range(4)]
    site.inventory.holding = True
    await site.pool(users=("u0", "u1", "u2", "u3"), max=3, spare=1)
    await site.settled(starting=1)
    first = await site.launch(users[0], pool="win")
    assert first.status_code == 202
    assert first.json()["position"] == 1
    assert first.json()["state"] == "starting"
    assert first.json()["retry_after_ms"] >= 100
    assert first.headers["Retry-After"]
    second = await site.launch(users[1], pool="win")
    third = await site.launch(users[2], pool="win")
    assert [second.json()["position"], third.json()["position"]] == [2, 3]
    fourth = await site.launch(users[3], pool="win")
    assert (fourth.status_code, fourth.json()["code"]) == (503, "pool.exhausted")
    assert fourth.headers["Retry-After"]
    # Asking again keeps the place.
    repeated = await site.launch(users[1], pool="win")
    assert repeated.json()["launch_id"] == second.json()["launch_id"]
    assert repeated.json()["position"] == 2
    await site.settled(starting=3)
    # One desktop arrives: it is the first's, however fast the second asks.
    await site.inventory.run(next(iter(site.inventory.views)))
    await site.settled(free=1)
    path = f"/launch/{second.json()['launch_id']}"
    assert (await site.call("GET", path, headers=users[1])).status_code == 202
    path = f"/launch/{first.json()['launch_id']}"
    assert (await site.call("GET", path, headers=users[0])).status_code == 200
    path = f"/launch/{second.json()['launch_id']}"
    moved = await site.call("GET", path, headers=users[1])
    assert (moved.status_code, moved.json()["position"]) == (202, 1)


async def test_who_went_away_does_not_hold_up_the_others(site: Any) -> None:
    async def asked_before(launch_id: str, seconds: int) -> None:
        statement = sa.text(
            f"update launches set polled_at = polled_at - interval '{seconds} s'"
            f" where id = '{launch_id}'"
        )
        async with site.broker.unit_of_work() as transaction:
            await transaction.session.execute(statement)

    await site.template()
    ann, bob = await site.user("ann"), await site.user("bob")
    site.inventory.holding = True
    await site.pool(users=("ann", "bob"), max=2, spare=1)
    first = (await site.launch(ann, pool="win")).json()["launch_id"]
    second = (await site.launch(bob, pool="win")).json()["launch_id"]
    await asked_before(first, 31)
    passed = await site.call("GET", f"/launch/{second}", headers=bob)
    assert passed.json()["position"] == 1
    # Who comes back soon has the old place still; later it is gone.
    again = await site.call("GET", f"/launch/{first}", headers=ann)
    assert (again.status_code, again.json()["position"]) == (202, 1)
    behind = await site.call("GET", f"/launch/{second}", headers=bob)
    assert behind.json()["position"] == 2
    await asked_before(first, 121)
    gone = await site.call("GET", f"/launch/{first}", headers=ann)
    assert (gone.status_code, gone.json()["code"]) == (404, "launch.unknown")
    anew = (await site.launch(ann, pool="win")).json()
    assert anew["launch_id"] != first
    assert anew["position"] == 2
    # The key of a launch that was given up leads to a new one.
    await asked_before(second, 121)
    headers = {**bob, "Idempotency-Key": "k"}
    made = await site.http.post("/api/v1/launch", headers=headers, json={"pool": "win"})
    await asked_before(made.json()["launch_id"], 121)
    repeated = await site.http.post("/api/v1/launch", headers=headers, json={"pool": "win"})
    assert repeated.status_code == 202, repeated.text


@pytest.fixture
async def ann_waits(site: Any) -> Any:
    """`ann` of ``site`` is the only user of a pool whose only desktop does not come."""
    await site.template()
    ann = await site.user("ann")
    site.inventory.holding = True
    await site.pool(users=("ann",), max=1, spare=1)
    return ann


async def test_a_client_that_joins_a_launch_that_waits_gets_the_screen_as_it_wants_it(
    site: Any, ann_waits: Any
) -> None:
    first = await site.launch(ann_waits, pool="win", client={"name": "office"})
    at_home = {"name": "home", "fullscreen": True, "monitors": 2}
    again = await site.launch(ann_waits, pool="win", client=at_home)
    assert first.json()["launch_id"] == again.json()["launch_id"]
    await site.inventory.resume()

    async def opened() -> str | None:
        answer = await site.http.get(
            f"/api/v1/launch/{first.json()['launch_id']}",
            headers={**ann_waits, "Accept": "application/x-virt-viewer"},
        )
        return answer.text if answer.status_code == 200 else None

    assert "fullscreen=1" in (await eventually(opened, "it has its desktop")).splitlines()


class SlowClock:
    """Every look at it takes ``step_s``."""

    def __init__(self, step_s: int) -> None:
        self._step = timedelta(seconds=step_s)
        self._passed = timedelta()

    def now(self) -> datetime:
        self._passed += self._step
        return datetime.now(UTC) + self._passed


async def test_who_asks_in_the_last_moment_has_the_place_still(
    site: Any, ann_waits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two minutes without a database everybody comes back at once, and that takes a while."""
    first = (await site.launch(ann_waits, pool="win")).json()["launch_id"]
    monkeypatch.setattr(site.broker.launching._decision, "_clock", SlowClock(100))
    again = await site.launch(ann_waits, pool="win")
    assert (again.status_code, again.json()["launch_id"]) == (202, first)


async def test_who_waits_in_a_request_has_the_place_however_long_that_takes(
    site: Any, ann_waits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.broker.launching._decision, "_clock", SlowClock(200))
    waiting = asyncio.create_task(site.launch(ann_waits, wait=60, pool="win"))
    await eventually(partial(site.sql, "select count(*) from launches"), "it has its place")
    await site.inventory.resume()
    answer = await waiting
    assert answer.status_code == 200, answer.text


async def test_who_is_put_back_has_the_place_however_long_that_takes(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.template()
    ann = await site.user("ann")
    await site.pool(users=("ann",), spare=1)
    await site.settled(free=1)
    [only] = [v for v in site.inventory.views.values() if v.state is DesktopState.RUNNING]
    site.inventory.not_running.add(only.boot_id)
    site.inventory.holding = True
    monkeypatch.setattr(site.broker.launching._decision, "_clock", SlowClock(200))
    answer = await site.launch(ann, pool="win")
    assert (answer.status_code, answer.json()["state"]) == (202, "starting")


async def test_a_storm_is_served_in_order(site: Any) -> None:
    """More users than desktops at once: those in front get one, and nobody gets two."""
    await site.template()
    names = [f"u{number}" for number in range(12)]
    users = [await site.user(name) for name in names]
    await site.pool(users=tuple(names), max=8, spare=1)
    await site.settled(free=1)
    answers = await asyncio.gather(*(site.launch(who, wait=30, pool="win") for who in users))
    ready = [answer for answer in answers if answer.status_code == 200]
    others = {answer.json()["code"] for answer in answers if answer.status_code != 200}
    assert len(ready) == 8
    assert len({answer.json()["desktop"]["id"] for answer in ready}) == 8
    assert others == {"pool.exhausted"}
    await site.settled(total=8, assigned=8)


async def test_waiting_ends_when_the_desktop_is_there(site: Any) -> None:
    await site.template()
    ann = await site.user("ann")
    site.inventory.holding = True
    await site.pool(users=("ann",))
    await site.settled(starting=1)
    waiting = asyncio.create_task(site.launch(ann, wait=30, pool="win"))
    await site.settled(starting=2)  # one more for the one who waits
    await site.inventory.resume()
    answer = await waiting
    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == "wait=30"


async def test_waiting_has_an_end(site: Any) -> None:
    await site.template()
    ann = await site.user("ann")
    site.inventory.holding = True
    await site.pool(users=("ann",))
    answer = await site.launch(ann, wait=1, pool="win")
    assert answer.status_code == 202
    vv = await site.http.get(
        f"/api/v1/launch/{answer.json()['launch_id']}",
        headers={**ann, "Accept": "application/x-virt-viewer"},
    )
    assert vv.status_code == 202
    assert vv.json()["position"] == 1


async def test_everything_in_use(ready_site: Any) -> None:
    site = ready_site
    await site.call("PATCH", "/pools/win", json={"max": 1})
    assert (await site.launch(site.ann, pool="win")).status_code == 200
    answer = await site.launch(site.bob, pool="win")
    assert (answer.status_code, answer.json()["code"]) == (503, "pool.exhausted")
    assert await site.sql("select count(*) from launches where state = 'queued'") == 0


async def test_what_is_wrong_is_said_and_goes_away(site: Any) -> None:
    from roost_common.contracts.base import Problem

    await site.template()
    ann = await site.user("ann")
    site.inventory.problem = Problem(code="placement.no-capacity", detail="No room on any host.")
    await site.pool(users=("ann",))
    await site.settled(troubled=1)
    answer = await site.launch(ann, wait=5, pool="win")
    assert (answer.status_code, answer.json()["code"]) == (503, "placement.no-capacity")
    assert answer.json()["detail"] == "No room on any host."
    shown = (await site.call("GET", "/pools/win")).json()
    assert shown["problem"]["code"] == "placement.no-capacity"
    assert shown["desktops"]["total"] == 1  # more of them would not fit either
    await site.inventory.resume()
    await site.settled(free=1)
    assert (await site.launch(ann, pool="win")).status_code == 200
    assert (await site.call("GET", "/pools/win")).json()["problem"] is None


async def test_an_agent_that_does_not_answer(ready_site: Any) -> None:
    site = ready_site
    (desktop_id,) = site.inventory.views
    await site.inventory.change(desktop_id, host="n2")

    async def is_on(host: str) -> bool:
        found = await site.sql(f"select host from pool_desktops where id = '{desktop_id}'")
        return bool(found == host)

    await eventually(lambda: is_on("n2"), "it is known to be on the other")
    answer = await site.launch(site.ann, pool="win")
    assert (answer.status_code, answer.json()["code"]) == (503, "host.unreachable")
    assert answer.headers["Retry-After"]
    assert await site.sql("select count(*) from sessions where state = 'pending'") == 1
    await site.inventory.change(desktop_id, host="n1")
    await eventually(lambda: is_on("n1"), "it is known to be back")
    answer = await site.launch(site.ann, pool="win")
    assert answer.status_code == 200
    assert answer.json()["desktop"]["id"] == str(desktop_id)


async def test_a_run_the_node_does_not_know(site: Any) -> None:
    await site.template()
    ann = await site.user("ann")
    await site.pool(users=("ann",), spare=2)
    await site.settled(free=2)
    first, second = (
        view for view in site.inventory.views.values() if view.state is DesktopState.RUNNING
    )
    site.inventory.not_running.add(first.boot_id)
    site.inventory.not_running.add(second.boot_id)
    answer = await site.launch(ann, pool="win")
    assert (answer.status_code, answer.json()["code"]) == (503, "desktop.not-running")
    await eventually(
        lambda: site.inventory.of(ReimageDesktop) and site.inventory.of(SessionEnded),
        "it is reset",
    )
    await site.settled(free=3, assigned=0)  # one more: the launch has kept its place
    assert (await site.launch(ann, wait=10, pool="win")).status_code == 200


async def test_an_idempotency_key(ready_site: Any) -> None:
    site = ready_site
    headers = {**site.ann, "Idempotency-Key": "k1"}
    first = await site.http.post("/api/v1/launch", headers=headers, json={"pool": "win"})
    second = await site.http.post("/api/v1/launch", headers=headers, json={"pool": "win"})
    assert first.json()["launch_id"] == second.json()["launch_id"]
    other = await site.http.post("/api/v1/launch", headers=headers, json={"new": True})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency.key-reused")


async def test_a_key_leads_to_the_launch_that_waited_already(site: Any) -> None:
    await site.template()
    ann = await site.user("ann")
    site.inventory.holding = True
    await site.pool(users=("ann",), max=3, spare=1, max_per_user=3)

    async def launch(key: str) -> Any:
        headers = {**ann, "Idempotency-Key": key}
        wish = {"pool": "win", "new": True}
        return await site.http.post("/api/v1/launch", headers=headers, json=wish)

    first = (await launch("k1")).json()["launch_id"]
    assert (await launch("k2")).json()["launch_id"] == first
    await site.inventory.resume()
    await site.settled(free=1)
    ready = await launch("k1")
    assert (ready.status_code, ready.json()["launch_id"]) == (200, first)
    # Its answer was lost: the same request means the same desktop, not one more.
    repeated = await launch("k2")
    assert (repeated.status_code, repeated.json()["launch_id"]) == (200, first)
    assert repeated.json()["desktop"] == ready.json()["desktop"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"[]", 422),
        (b'{"pool": "win", "poool": 1}', 422),
        (b'{"pool": "win", "desktop": "x"}', 422),
        (b'{"pool": ""}', 422),
        (b'{"pool": 7}', 422),
        (b'{"pool": "a\\u0000b"}', 422),
        (b'{"client": {"monitors": 9}}', 422),
        (b'{"protocols": "spice"}', 422),
        (b'{"protocols": [' + b'"x",' * 8 + b'"spice"]}', 422),
        (b'{"protocols": ["' + b"x" * 33 + b'", "spice"]}', 422),
        (b'{"protocols": ["a b", "spice"]}', 422),
        (b'{"protocols": ["", "spice"]}', 422),
        (b'{"pool": "' + b"x" * (1 << 20) + b'"}', 413),
    ],
)
async def test_bad_bodies_change_nothing(ready_site: Any, content: bytes, status: int) -> None:
    site = ready_site
    answer = await site.http.post(
        "/api/v1/launch",
        headers={**site.ann, "Content-Type": "application/json"},
        content=content,
    )
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert await site.sql("select count(*) from sessions") == 0
    assert await site.sql("select count(*) from launches") == 0
