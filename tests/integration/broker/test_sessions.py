"""Sessions follow what nodes see, and end for a reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.polling import eventually

from roost_broker.repository.sessions import Sessions
from roost_common.contracts.desktop import (
    DesktopChanged,
    DesktopState,
    DesktopStopped,
    DomainObserved,
    ReimageDesktop,
    StopReason,
)
from roost_common.contracts.session import (
    EndReason,
    SessionConnected,
    SessionDisconnected,
    SessionEnded,
)
from roost_common.http import encode_cursor

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("cheap_hashes")]


async def opened(site: Any, who: dict[str, str]) -> tuple[str, UUID, UUID]:
    """Session, desktop and run of a new launch."""
    # The pool's loop may hold the one free desktop's row just now.
    answer = await site.launch(who, wait=30, pool="win")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    desktop_id = UUID(body["desktop"]["id"])
    return body["session_id"], desktop_id, site.inventory.views[desktop_id].boot_id


async def test_connected_disconnected_and_back(ready_site: Any) -> None:
    site = ready_site
    session_id, _desktop_id, boot_id = await opened(site, site.ann)
    await site.inventory.seen(boot_id, connected=True)
    active = await site.becomes(session_id, "active")
    assert active["connected_at"]
    await site.inventory.seen(boot_id, connected=False)
    gone = await site.becomes(session_id, "disconnected")
    assert gone["disconnected_at"]
    again = await site.launch(site.ann, pool="win")
    assert again.json()["session_id"] == session_id
    await site.inventory.report(site.inventory.observation(boot_id, connected=True))
    await site.becomes(session_id, "active")
    await eventually(lambda: len(site.inventory.of(SessionConnected)) == 2, "both are told")
    assert len(site.inventory.of(SessionDisconnected)) == 1
    assert site.inventory.of(SessionConnected)[0].client_address == "192.0.2.7"
    revisions = [
        event.revision
        for event in site.inventory.said
        if getattr(event, "session_id", None) == UUID(session_id)
    ]
    assert len(set(revisions)) == len(revisions)


async def test_a_report_alone_is_enough(ready_site: Any) -> None:
    site = ready_site
    session_id, _, boot_id = await opened(site, site.ann)
    await site.inventory.report(site.inventory.observation(boot_id, connected=True))
    await site.becomes(session_id, "active")
    await site.inventory.report(site.inventory.observation(boot_id, connected=False))
    await site.becomes(session_id, "disconnected")


async def test_an_older_observation_undoes_nothing(ready_site: Any) -> None:
    site = ready_site
    session_id, _, boot_id = await opened(site, site.ann)
    now = datetime.now(UTC)
    await site.inventory.seen(boot_id, connected=True, at=now)
    await site.becomes(session_id, "active")
    await site.inventory.seen(boot_id, connected=False, at=now - timedelta(seconds=1))
    await site.inventory.seen(uuid4(), connected=False, at=now + timedelta(seconds=1))
    await site.inventory.seen(boot_id, connected=False, at=now + timedelta(seconds=2))
    gone = await site.becomes(session_id, "disconnected")
    assert gone["connected_at"]
    await site.inventory.seen(boot_id, connected=True, at=now + timedelta(seconds=1))
    await site.inventory.seen(boot_id, connected=True, at=now + timedelta(seconds=3))
    await site.becomes(session_id, "active")
    assert await site.sql("select revision from sessions") == 4


async def test_a_node_whose_clock_was_set_back(ready_site: Any) -> None:
    site = ready_site
    session_id, _, boot_id = await opened(site, site.ann)
    await site.inventory.seen(boot_id, connected=True)
    await site.becomes(session_id, "active")
    earlier = site.inventory.agent_id
    late_event = site.inventory.observation(boot_id, connected=True, at=later(5))
    site.inventory.agent_id = uuid4()
    back = later(-3600)
    # Its first word is a report; what it says before is said by that one again.
    await site.inventory.seen(boot_id, connected=False, at=back)
    await site.inventory.report(
        site.inventory.observation(boot_id, connected=False, at=back), at=back
    )
    await site.becomes(session_id, "disconnected")
    await site.inventory.report(late_event, at=later(5), agent_id=earlier)
    event = DomainObserved(node="n1", agent_id=earlier, domain=late_event)
    await site.inventory.twice(site, [event], 1)
    assert (await site.session(session_id))["state"] == "disconnected", "a run that is over"
    await site.inventory.seen(boot_id, connected=True, at=back + timedelta(seconds=1))
    await site.becomes(session_id, "active")

    async def agent() -> bool:
        return bool(await site.sql("select agent_id from hosts") == site.inventory.agent_id)

    assert await agent()


def later(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


@pytest.mark.parametrize("seed", range(3))
async def test_observations_twice_in_any_order(ready_site: Any, seed: int) -> None:
    site = ready_site
    session_id, _, boot_id = await opened(site, site.ann)
    start = datetime.now(UTC)
    messages = [
        DomainObserved(
            node="n1",
            domain=site.inventory.observation(
                boot_id, connected=number % 2 == 0, at=start + timedelta(seconds=number)
            ),
        )
        for number in range(6)
    ]
    await site.inventory.twice(site, messages, seed)
    # The last one saw nobody; whoever was never seen before it may not have been active.
    session = await site.session(session_id)
    assert session["state"] in ("disconnected", "pending")


async def test_log_off_resets_the_desktop(ready_site: Any) -> None:
    site = ready_site
    await site.call("PATCH", "/pools/win", json={"min": 2})
    await site.settled(free=2)
    session_id, desktop_id, boot_id = await opened(site, site.ann)
    await site.inventory.seen(boot_id, connected=True)
    await site.becomes(session_id, "active")
    site.inventory.holding = True
    answer = await site.call("DELETE", f"/sessions/{session_id}", headers=site.ann)
    assert answer.status_code == 204
    ended = await site.session(session_id)
    assert (ended["state"], ended["end_reason"]) == ("ended", "logged-off")
    await eventually(
        lambda: site.inventory.of(ReimageDesktop) and site.inventory.closed, "it is reset"
    )
    (command,) = site.inventory.of(ReimageDesktop)
    assert (command.desktop_id, command.disk_generation) == (desktop_id, 2)
    assert site.inventory.closed[0].boot_id == boot_id
    # Not free before it runs anew; then it is, and nothing of the old session is left.
    row = f"select phase from pool_desktops where id = '{desktop_id}'"
    assert await site.sql(row) == "coming"
    await site.inventory.resume()

    async def free() -> bool:
        return bool(await site.sql(row) == "free")

    await eventually(free, "it is free")
    again = await site.call("DELETE", f"/sessions/{session_id}", headers=site.ann)
    assert again.status_code == 204
    assert len(site.inventory.of(ReimageDesktop)) == 1
    assert len(site.inventory.of(SessionEnded)) == 1


async def test_a_used_run_is_never_free_again(ready_site: Any) -> None:
    """Inventory's news of the run that was just used must not make it free."""
    site = ready_site
    await site.call("PATCH", "/pools/win", json={"min": 2})
    await site.settled(free=2)
    session_id, desktop_id, _boot_id = await opened(site, site.ann)
    site.inventory.holding = True
    used = site.inventory.views[desktop_id]
    await site.call("DELETE", f"/sessions/{session_id}", headers=site.ann)
    await site.inventory.say(
        DesktopChanged(
            desktop=used.model_copy(update={"revision": used.revision + 50, "disk_generation": 2})
        )
    )

    async def taken() -> bool:
        return bool(
            await site.sql(f"select revision from pool_desktops where id = '{desktop_id}'")
            == used.revision + 50
        )

    await eventually(taken, "the news is known")
    assert await site.sql(f"select phase from pool_desktops where id = '{desktop_id}'") == "coming"


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        (StopReason.GUEST_SHUTDOWN, EndReason.GUEST_SHUTDOWN),
        (StopReason.CRASHED, EndReason.DESKTOP_STOPPED),
    ],
)
async def test_the_guest_stops(ready_site: Any, stop: StopReason, reason: EndReason) -> None:
    site = ready_site
    session_id, desktop_id, _ = await opened(site, site.ann)
    view = site.inventory.views[desktop_id]
    stopped = view.model_copy(
        update={
            "revision": view.revision + 1,
            "state": DesktopState.STOPPED,
            "boot_id": None,
            "spice": None,
        }
    )
    site.inventory.views[desktop_id] = stopped
    await site.inventory.say(DesktopStopped(desktop=stopped, reason=stop))
    ended = await site.becomes(session_id, "ended")
    assert ended["end_reason"] == reason.value
    await eventually(lambda: site.inventory.of(ReimageDesktop), "it is reset")
    assert not site.inventory.closed  # nobody can look at what does not run


async def test_restarted_elsewhere_is_another_run(ready_site: Any) -> None:
    site = ready_site
    session_id, desktop_id, _ = await opened(site, site.ann)
    await site.inventory.change(desktop_id, state=DesktopState.UNKNOWN)

    async def silent() -> bool:
        return bool(await site.sql("select count(*) from pool_desktops where state = 'unknown'"))

    await eventually(silent, "it is known to be lost sight of")
    assert (await site.session(session_id))["state"] == "pending"
    await site.inventory.run(desktop_id)
    ended = await site.becomes(session_id, "ended")
    assert ended["end_reason"] == "desktop-stopped"


async def past(site: Any, since: str) -> None:
    """Until the second is over after which the only session is overdue."""

    async def over() -> bool:
        passed = await site.sql(f"select now() - {since} from sessions where state <> 'ended'")
        return bool(passed > timedelta(seconds=1))

    await eventually(over, "the second is over")


async def test_a_client_that_never_comes(ready_site: Any) -> None:
    site = ready_site
    await site.call("PATCH", "/pools/win", json={"pending_timeout_s": 1})
    session_id, _, boot_id = await opened(site, site.ann)
    await past(site, "ticket_at")
    async with site.broker.unit_of_work() as transaction:
        overdue = await Sessions(transaction.session).overdue(datetime.now(UTC), 10)
    assert overdue == [], "without word from the node nobody is thrown out"
    # The node's clock is an hour behind: that says nothing about who is late.
    at = datetime.now(UTC) - timedelta(hours=1)
    seen = site.inventory.observation(boot_id, connected=False, at=at)
    await site.inventory.report(seen, at=at, agent_id=uuid4())
    ended = await site.becomes(session_id, "ended")
    assert ended["end_reason"] == "never-connected"


async def test_disconnected_too_long(ready_site: Any) -> None:
    site = ready_site
    await site.call("PATCH", "/pools/win", json={"disconnect_timeout_s": 1})
    session_id, _, boot_id = await opened(site, site.ann)
    await site.inventory.seen(boot_id, connected=True)
    await site.becomes(session_id, "active")
    await site.inventory.seen(boot_id, connected=False)
    await site.becomes(session_id, "disconnected")
    await past(site, "disconnected_at")
    await site.inventory.report(
        site.inventory.observation(boot_id, connected=False), agent_id=uuid4()
    )
    ended = await site.becomes(session_id, "ended")
    assert ended["end_reason"] == "disconnected-too-long"


async def test_who_is_connected_is_not_thrown_out(ready_site: Any) -> None:
    site = ready_site
    await site.call("PATCH", "/pools/win", json={"pending_timeout_s": 1})
    session_id, _, boot_id = await opened(site, site.ann)
    await past(site, "ticket_at")
    # Its event was lost; the report that makes it overdue is the one that knows of the client.
    await site.inventory.report(
        site.inventory.observation(boot_id, connected=True), agent_id=uuid4()
    )
    await site.becomes(session_id, "active")


async def test_cut_off_but_not_ended(ready_site: Any) -> None:
    site = ready_site
    session_id, _, boot_id = await opened(site, site.ann)
    answer = await site.call("POST", f"/sessions/{session_id}/disconnect", headers=site.ann)
    assert answer.status_code == 202
    (query,) = await eventually(lambda: site.inventory.closed, "the client is cut off")
    assert query.boot_id == boot_id
    assert (await site.session(session_id))["state"] == "pending"


async def test_a_later_ticket_counts_while_its_session_is_open(ready_site: Any) -> None:
    site = ready_site
    before = datetime.now(UTC)
    session_id, _, boot_id = await opened(site, site.ann)

    async def later_than(at: datetime) -> bool:
        async with site.broker.unit_of_work() as transaction:
            return await Sessions(transaction.session).ticket_since(boot_id, at)

    assert await later_than(before)
    assert not await later_than(later(60))
    await site.call("DELETE", f"/sessions/{session_id}", headers=site.ann)
    assert not await later_than(before)


async def test_lists(ready_site: Any) -> None:
    site = ready_site
    mine, _, _ = await opened(site, site.ann)
    await site.settled(free=1)
    other, _, _ = await opened(site, site.bob)
    everything = (await site.call("GET", "/sessions")).json()
    assert [item["id"] for item in everything["items"]] == [other, mine]
    first = (await site.call("GET", "/sessions?limit=1")).json()
    assert (first["total"], first["items"][0]["id"]) == (2, other)
    second = (await site.call("GET", f"/sessions?limit=1&cursor={first['next']}")).json()
    assert (second["items"][0]["id"], second["next"]) == (mine, None)
    own = (await site.call("GET", "/sessions", headers=site.ann)).json()
    assert [item["id"] for item in own["items"]] == [mine]
    for query, count in (
        ("user=bob", 1),
        ("pool=win", 2),
        ("pool=lin", 0),
        ("state=ended", 0),
        ("state=pending&state=active", 2),
    ):
        assert (await site.call("GET", f"/sessions?{query}")).json()["total"] == count
    assert (await site.call("GET", "/sessions?state=nonsense")).status_code == 422
    assert (await site.call("GET", "/sessions?cursor=nonsense")).status_code == 422
    users = (await site.call("GET", "/users?limit=1")).json()
    for forged in (
        users["next"],
        encode_cursor(),
        encode_cursor("no time", other),
        encode_cursor("2026-01-01T00:00:00+00:00", "no id"),
        encode_cursor("2026-01-01T00:00:00+00:00", other, "more"),
    ):
        answer = await site.call("GET", f"/sessions?cursor={forged}")
        assert (answer.status_code, answer.json()["code"]) == (422, "request.cursor-invalid")
    assert (await site.call("GET", f"/sessions/{other}", headers=site.ann)).status_code == 404
    assert (await site.call("DELETE", f"/sessions/{other}", headers=site.ann)).status_code == 404
    assert (await site.session(other))["state"] == "pending"


async def test_my_desktops(ready_site: Any) -> None:
    site = ready_site
    await site.pool("lin", users=("ann",), spare=0)
    listed = (await site.call("GET", "/me/desktops", headers=site.ann)).json()
    assert [(item["name"], item["kind"]) for item in listed] == [("lin", "pool"), ("win", "pool")]
    assert [item["session"] for item in listed] == [None, None]
    assert listed[1]["state"] == "available"
    session_id, _, boot_id = await opened(site, site.ann)
    await site.inventory.seen(boot_id, connected=True)
    await site.becomes(session_id, "active")
    listed = (await site.call("GET", "/me/desktops", headers=site.ann)).json()
    assert listed[1]["state"] == "connected"
    assert listed[1]["session"]["id"] == session_id
    assert (await site.call("GET", "/me/desktops")).json() == []


async def test_the_database_refuses_to_give_a_desktop_twice(ready_site: Any) -> None:
    site = ready_site
    await opened(site, site.ann)
    import sqlalchemy as sa

    from roost_common.errors import Conflict

    copy = (
        "insert into sessions (id, user_id, user_name, pool_id, pool_name, desktop_id,"
        " desktop_name, boot_id, state, revision, client_name, client_address, created_at,"
        " ticket_at) select gen_random_uuid(), user_id, user_name, pool_id, pool_name,"
        " desktop_id, desktop_name, boot_id, 'active', 1, '', '', created_at, ticket_at"
        " from sessions"
    )
    with pytest.raises(Conflict):
        async with site.broker.unit_of_work() as transaction:
            await transaction.session.execute(sa.text(copy))
