"""A desktop's host fails, or the desktop moves: the session goes on."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.integration.broker.test_sessions import opened
from tests.polling import eventually

from roost_common.contracts.desktop import (
    DesktopChanged,
    DesktopRestarted,
    DesktopState,
    DesktopStopped,
    DesktopView,
    ReimageDesktop,
    SpiceAddress,
    StopReason,
)
from roost_common.contracts.migration import DesktopMigrated
from roost_common.contracts.session import SessionDisconnected, SessionEnded

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("cheap_hashes")]


def lost(view: DesktopView) -> DesktopStopped:
    """Its host was fenced, and it is to run again."""
    gone = view.model_copy(
        update={
            "revision": view.revision + 1,
            "state": DesktopState.STARTING,
            "host": None,
            "boot_id": None,
            "spice": None,
            "restarting": True,
        }
    )
    return DesktopStopped(desktop=gone, reason=StopReason.HOST_FAILED)


def back(site: Any, view: DesktopView) -> DesktopRestarted:
    """It runs again, in another run."""
    runs = view.model_copy(
        update={
            "revision": view.revision + 1,
            "state": DesktopState.RUNNING,
            "host": "n1",
            "boot_id": uuid4(),
            "spice": SpiceAddress(host="10.9.8.6", port=5900, tls_port=5901),
            "restarting": False,
        }
    )
    site.inventory.views[runs.id] = runs
    return DesktopRestarted(desktop=runs)


async def knows(site: Any, view: DesktopView) -> None:
    async def known() -> bool:
        found = await site.sql(f"select revision from pool_desktops where id = '{view.id}'")
        return bool(found >= view.revision)

    await eventually(known, "the desktop's news is known")


async def test_the_session_waits_for_its_desktop_and_goes_on(ready_site: Any) -> None:
    site = ready_site
    session_id, desktop_id, boot_id = await opened(site, site.ann)
    await site.inventory.seen(boot_id, connected=True)
    await site.becomes(session_id, "active")
    stopped = lost(site.inventory.views[desktop_id])
    await site.inventory.say(stopped)
    await site.becomes(session_id, "disconnected")

    answer = await site.launch(site.ann, pool="win")
    assert answer.status_code == 202, answer.text
    assert answer.json()["state"] == "starting"
    launch = answer.headers["location"]

    restarted = back(site, stopped.desktop)
    await site.inventory.say(restarted)
    await knows(site, restarted.desktop)
    ready = await site.http.get(launch, headers=site.ann)
    assert ready.status_code == 200, ready.text
    assert ready.json()["session_id"] == session_id
    assert ready.json()["desktop"]["id"] == str(desktop_id)
    assert site.inventory.opened[-1].boot_id == restarted.desktop.boot_id
    await site.inventory.seen(restarted.desktop.boot_id, connected=True)
    await site.becomes(session_id, "active")
    assert len(site.inventory.of(SessionDisconnected)) == 1
    assert not site.inventory.of(SessionEnded)
    assert not site.inventory.of(ReimageDesktop)


async def test_only_the_last_word_of_a_restart_is_heard(ready_site: Any) -> None:
    site = ready_site
    session_id, desktop_id, _ = await opened(site, site.ann)
    restarted = back(site, lost(site.inventory.views[desktop_id]).desktop)
    later = restarted.desktop.model_copy(
        update={"revision": restarted.desktop.revision + 5, "migrating_to": "n2"}
    )
    await site.inventory.say(DesktopChanged(desktop=later))
    await knows(site, later)
    assert (await site.session(session_id))["state"] == "pending"
    assert not site.inventory.of(ReimageDesktop)


@pytest.mark.parametrize("seed", range(4))
async def test_twice_and_in_any_order(ready_site: Any, seed: int) -> None:
    site = ready_site
    session_id, desktop_id, _ = await opened(site, site.ann)
    stopped = lost(site.inventory.views[desktop_id])
    placed = DesktopChanged(
        desktop=stopped.desktop.model_copy(
            update={"revision": stopped.desktop.revision + 1, "host": "n1"}
        )
    )
    restarted = back(site, placed.desktop)
    # Whoever is busy hears first of what came last: it must say enough by itself.
    busy = DesktopChanged(
        desktop=restarted.desktop.model_copy(
            update={"revision": restarted.desktop.revision + 1, "migrating_to": "n2"}
        )
    )
    await site.inventory.twice(site, [stopped, placed, restarted, busy], seed)
    await knows(site, busy.desktop)
    assert (await site.session(session_id))["state"] == "pending"
    run = await site.sql(f"select boot_id from sessions where id = '{session_id}'")
    assert run == restarted.desktop.boot_id


async def test_who_is_switched_off_instead_loses_the_session(ready_site: Any) -> None:
    site = ready_site
    session_id, desktop_id, _ = await opened(site, site.ann)
    stopped = lost(site.inventory.views[desktop_id])
    await site.inventory.say(stopped)
    off = stopped.desktop.model_copy(
        update={
            "revision": stopped.desktop.revision + 1,
            "restarting": False,
            "state": DesktopState.STOPPED,
        }
    )
    await site.inventory.say(DesktopChanged(desktop=off))
    assert (await site.becomes(session_id, "ended"))["end_reason"] == "desktop-stopped"


async def test_a_node_that_has_just_handed_it_over_does_not_end_the_session(
    ready_site: Any,
) -> None:
    site = ready_site
    session_id, desktop_id, boot_id = await opened(site, site.ann)
    moving = await site.inventory.change(desktop_id, migrating_to="n2")
    await knows(site, moving)
    site.inventory.not_running.add(boot_id)
    answer = await site.launch(site.ann, pool="win")
    assert answer.status_code == 503, answer.text
    assert answer.headers["retry-after"]
    assert (await site.session(session_id))["state"] == "pending"

    site.inventory.not_running.clear()
    view = moving.model_copy(update={"revision": moving.revision + 1, "migrating_to": None})
    site.inventory.views[desktop_id] = view
    await site.inventory.say(
        DesktopMigrated(desktop=view, migration_id=UUID(int=1), from_host="n2")
    )
    await knows(site, view)
    again = await site.launch(site.ann, pool="win")
    assert again.json()["session_id"] == session_id
    assert not site.inventory.of(SessionEnded)
