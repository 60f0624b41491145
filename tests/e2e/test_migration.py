"""Desktops move between hosts while their users look at them; either host may die meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.site import Api, Lab, NewPool, NewScreen, NewUser, wait_until
from tests.e2e.stand import FAILED_S, WHOLE_S, Stand


@pytest.fixture
def stand(lab: Lab, admin: Api, new_user: NewUser, new_pool: NewPool) -> Iterator[Stand]:
    """One desktop, its user's."""
    ann = new_user()
    with new_pool([ann], min=1, max=1, spare=0, pending_timeout_s=3600) as pool:
        made = Stand(lab, admin, pool, [ann])
        wait_until(lambda: made.desktops() and made.is_whole(), "it runs", WHOLE_S)
        yield made
        made.mend()


def session_of(user: Api) -> dict[str, Any]:
    [session] = [one for one in user.items("/sessions") if one["state"] != "ended"]
    return session


def migrate(stand: Stand, desktop: str, **body: Any) -> str:
    """Order it; returns where its progress is to be asked for."""
    answer = stand.admin.call("POST", f"/desktops/{desktop}/migrate", 202, json=body)
    location: str = answer.headers["location"]
    return location.removeprefix("/api/v1")


def other(lab: Lab, *nodes: str) -> str:
    return next(node for node in lab.nodes if node not in nodes)


def test_a_user_keeps_the_screen_while_the_desktop_moves(
    stand: Stand, new_screen: NewScreen
) -> None:
    [ann] = stand.users
    screen = new_screen()
    viewer = screen.view(ann.vv(stand.pool))
    screen.shows("ROOST DESKTOP")
    wait_until(lambda: session_of(ann)["state"] == "active", "the session is active", 20)
    before = session_of(ann)
    [desktop] = stand.desktops().values()
    source, target = desktop["host"], other(stand.lab, desktop["host"])

    where = migrate(stand, desktop["id"], host=target)
    wait_until(lambda: stand.admin.get(where)["state"] == "done", "it has moved", WHOLE_S)
    [moved] = stand.desktops().values()
    assert (moved["host"], moved["boot_id"]) == (target, desktop["boot_id"])
    assert desktop["id"] not in stand.domains_on(source)

    screen.mark("moved")
    assert viewer.poll() is None, "the same viewer, without a new ticket"
    wait_until(lambda: session_of(ann)["state"] == "active", "the session goes on", 20)
    assert session_of(ann)["id"] == before["id"]
    screen.view(ann.vv(stand.pool))
    screen.shows("mark moved")


@pytest.mark.chaos
@pytest.mark.parametrize("dies", ["source", "target"])
def test_a_host_that_dies_meanwhile_leaves_one_desktop(stand: Stand, dies: str) -> None:
    [ann] = stand.users
    ann.launch(stand.pool)
    session = session_of(ann)
    [desktop] = stand.desktops().values()
    source, target = desktop["host"], other(stand.lab, desktop["host"])
    victim = source if dies == "source" else target
    known = len(stand.incidents(victim))
    # At 1 MiB/s its memory takes longer than it takes to see that it leaves, and to kill a host.
    stand.lab.on_node(source, "virsh", "migrate-setspeed", desktop["id"], "1")
    where = migrate(stand, desktop["id"], host=target)
    wait_until(lambda: stand.admin.get(where)["state"] == "running", "it is on its way", WHOLE_S)
    stand.lab.node(victim, "kill")
    assert stand.admin.get(where)["state"] == "running", "it was on its way when the host died"
    stand.incident(victim, known, state="resolved")
    ended = ("done", "failed", "cancelled")
    wait_until(lambda: stand.admin.get(where)["state"] in ended, "it is over", WHOLE_S)
    assert stand.admin.get(where)["state"] != "done", "it had not arrived"
    assert stand.none_runs_twice()
    wait_until(stand.each_runs_once, "it runs once", FAILED_S)
    [after] = stand.desktops().values()
    assert after["host"] != victim
    assert session_of(ann)["id"] == session["id"], "it is still the user's"


@pytest.mark.chaos
def test_a_host_is_emptied_for_maintenance_and_takes_desktops_again(stand: Stand) -> None:
    [desktop] = stand.desktops().values()
    source = desktop["host"]
    stand.admin.call("POST", f"/hosts/{source}/maintenance", 200, 202)
    try:
        host = wait_until(
            lambda: (
                found
                if (found := stand.admin.get(f"/hosts/{source}"))["state"] == "maintenance"
                else None
            ),
            "the host is empty",
            WHOLE_S,
        )
        assert host["desktops"] == 0
        [moved] = stand.desktops().values()
        assert moved["host"] != source
        assert moved["boot_id"] == desktop["boot_id"], "nobody noticed"
    finally:
        stand.admin.call("POST", f"/hosts/{source}/activate", 200, 202)
    wait_until(stand.is_whole, "it is in service again", WHOLE_S)
