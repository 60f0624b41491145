"""A user's day: ask for a desktop, see its screen, move to another client, log off."""

from __future__ import annotations

import configparser
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest
from tests.e2e.site import (
    Api,
    Lab,
    NewPool,
    NewScreen,
    NewUser,
    pool_for_a_while,
    users_for_a_while,
    wait_until,
)

from roost_lab.handshake import Screen, SpiceError, open_screen


def vv_of(text: str) -> configparser.SectionProxy:
    """The keys of a ``.vv`` file."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return parser["virt-viewer"]


def session_of(user: Api) -> dict[str, object]:
    """The user's one open session."""
    [session] = [s for s in user.items("/sessions") if s["state"] != "ended"]
    return session


def connections(viewer: subprocess.Popen[str]) -> list[int]:
    """The ports to which a viewer is connected now; none when it has ended."""
    if viewer.poll() is not None:
        return []
    found = psutil.Process(viewer.pid).net_connections("tcp")
    return [one.raddr.port for one in found if one.status == psutil.CONN_ESTABLISHED]


def opened(ready: dict[str, Any]) -> Screen:
    """What a screen says when its ticket opens it."""
    spice = ready["spice"]
    return open_screen(
        spice["host"], spice["tls_port"], spice["password"], spice["ca"], spice["host_subject"]
    )


def refused(ready: dict[str, Any]) -> bool:
    """Whether a ticket opens its screen no more, for the reason that it is too old."""
    try:
        opened(ready)
    except SpiceError as error:
        return "outdated ticket" in str(error)
    return False


@pytest.fixture(scope="module")
def at_work(lab: Lab, admin: Api) -> Iterator[tuple[Api, str]]:
    """A user with a desktop, for tests that change nothing about it; and the pool."""
    log_on = partial(Api, lab.url)
    with (
        users_for_a_while(admin, log_on) as new_user,
        pool_for_a_while(lab, admin, [user := new_user()], spare=0, pending_timeout_s=3600) as pool,
    ):
        user.launch(pool)
        yield user, pool


def test_the_vv_file_says_what_a_viewer_needs(at_work: tuple[Api, str]) -> None:
    ann, pool = at_work
    keys = vv_of(ann.vv(pool))
    assert keys["type"] == "spice"
    assert keys["tls-port"]
    assert keys["ca"].startswith("-----BEGIN CERTIFICATE-----\\n")
    assert keys["host-subject"]
    assert keys["delete-this-file"] == "1"
    assert keys["release-cursor"]
    assert keys["secure-attention"]
    assert keys["x-roost-session"] == session_of(ann)["id"]


def test_a_desktops_own_page_tells_what_the_guest_says(
    admin: Api, at_work: tuple[Api, str]
) -> None:
    ann, pool = at_work
    ready = ann.launch(pool)
    path = f"/desktops/{ready['desktop']['id']}"
    guest = wait_until(
        lambda: (admin.get(path).get("guest") or {}).get("os"), "the guest agent answered", 90
    )
    assert guest
    told = admin.get(path)["guest"]
    assert told["hostname"] == ready["desktop"]["name"]
    assert told["applications"]


@pytest.fixture(scope="module")
def tickets(at_work: tuple[Api, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two of the same user's, one after the other. The later one is used up by time alone."""
    ann, pool = at_work
    return ann.launch(pool), ann.launch(pool)


def test_a_ticket_is_good_until_the_next_one(
    lab: Lab, admin: Api, tickets: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    first, second = tickets
    assert first["desktop"] == second["desktop"]
    assert first["session_id"] == second["session_id"]
    assert refused(first)
    offered = opened(second).channels
    assert offered["usbredir"] == 4
    assert {"display", "inputs", "cursor", "playback", "record"} <= offered.keys()
    key = second["desktop"]["id"]
    definition = lab.on_node(
        admin.get(f"/desktops/{key}")["host"], "virsh", "dumpxml", "--security-info", key
    )
    graphics = ElementTree.fromstring(definition).find(".//graphics[@type='spice']")
    assert graphics is not None
    ends = datetime.fromisoformat(f"{graphics.attrib['passwdValidTo']}+00:00")
    # The node counts from when it was asked, up to five seconds later, and in whole seconds.
    told = datetime.fromisoformat(second["expires_at"])
    assert told <= ends < told + timedelta(seconds=7)


def test_launch_see_take_over_log_off_and_a_clean_disk(
    admin: Api, new_user: NewUser, new_pool: NewPool, new_screen: NewScreen
) -> None:
    ann, bob = new_user(), new_user()
    with new_pool([ann, bob], max=1, spare=1) as pool:
        office, home = new_screen(), new_screen()

        vv = ann.vv(pool)
        name = str(session_of(ann)["desktop"]["name"])  # type: ignore[index]
        assert session_of(ann)["state"] == "pending"
        viewer = office.view(vv)
        office.shows("ROOST DESKTOP", f"host {name}", "disk clean")
        wait_until(lambda: session_of(ann)["state"] == "active", "the session is active", 20)
        office.mark("private")

        # The same user from another client: the same screen, and the first client is cut off.
        assert connections(viewer)
        again = home.view(ann.vv(pool))
        home.shows(f"host {name}", "mark private")
        wait_until(lambda: not connections(viewer), "the first is cut off", 30)
        assert connections(again)
        assert session_of(ann)["state"] == "active"

        again.terminate()
        wait_until(
            lambda: session_of(ann)["state"] == "disconnected", "the session is disconnected", 20
        )

        ann.log_off(str(session_of(ann)["id"]))
        assert [s for s in ann.items("/sessions") if s["state"] != "ended"] == []
        home.view(bob.vv(pool))
        assert session_of(bob)["desktop"]["name"] == name, "the same desktop"  # type: ignore[index]
        text = home.shows("ROOST DESKTOP", "disk clean", within=120)
        assert "private" not in text
        owners = {s["user"] for s in admin.items("/sessions", state="active")}
        assert ann.user not in owners


def test_a_ticket_is_good_only_for_its_seconds(
    at_work: tuple[Api, str], tickets: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    """After what takes longer than they do."""
    _, second = tickets
    wait_until(lambda: refused(second), "its seconds are over", 120)
    ann, _ = at_work
    assert session_of(ann)["id"] == second["session_id"], "it was not locked for another reason"


def test_a_guest_that_is_shut_down_from_inside_ends_its_session(
    new_user: NewUser, new_pool: NewPool, new_screen: NewScreen
) -> None:
    ann = new_user()
    with new_pool([ann], max=1) as pool:
        screen = new_screen()
        screen.view(ann.vv(pool))
        screen.shows("disk clean")
        session = session_of(ann)
        screen.type("poweroff")
        wait_until(
            lambda: ann.get(f"/sessions/{session['id']}")["state"] == "ended",
            "the session ended with its guest",
            60,
        )
        # The pool makes the desktop ready again by itself, on a disk of its template.
        fresh = ann.launch(pool)
        assert fresh["session_id"] != session["id"]
