"""A user's day: ask for a desktop, see its screen, move to another client, log off."""

from __future__ import annotations

import configparser
import socket
import ssl

from cryptography import x509
from cryptography.x509.oid import NameOID
from tests.e2e.site import Api, Lab, NewPool, NewScreen, NewUser, eventually


def vv_of(text: str) -> configparser.SectionProxy:
    """The keys of a ``.vv`` file."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return parser["virt-viewer"]


def session_of(user: Api) -> dict[str, object]:
    """The user's one open session."""
    [session] = [s for s in user.items("/sessions") if s["state"] != "ended"]
    return session


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
        eventually(lambda: session_of(ann)["state"] == "active", 20, "the session is active")
        office.type("mark private")
        office.shows("mark private")

        # The same user from another client: the same screen, and the first client is cut off.
        again = home.view(ann.vv(pool))
        home.shows(f"host {name}", "mark private")
        eventually(lambda: viewer.poll() is not None or _lost(office), 30, "the first is cut off")
        assert session_of(ann)["state"] == "active"

        again.terminate()
        eventually(
            lambda: session_of(ann)["state"] == "disconnected", 20, "the session is disconnected"
        )

        ann.log_off(str(session_of(ann)["id"]))
        assert [s for s in ann.items("/sessions") if s["state"] != "ended"] == []
        home.view(bob.vv(pool))
        text = home.shows("ROOST DESKTOP", "disk clean", within=120)
        assert "private" not in text
        owners = {s["user"] for s in admin.items("/sessions", state="active")}
        assert ann.user not in owners


def _lost(screen: object) -> bool:
    """Whether the viewer shows that its connection is over instead of the guest's screen."""
    text = screen.text()  # type: ignore[attr-defined]
    return "ROOST DESKTOP" not in text


def test_a_ticket_opens_once_and_only_for_its_seconds(
    lab: Lab, new_user: NewUser, new_pool: NewPool
) -> None:
    ann = new_user()
    with new_pool([ann]) as pool:
        first, second = ann.launch(pool), ann.launch(pool)
        assert first["desktop"] == second["desktop"]
        assert first["session_id"] == second["session_id"]
        assert first["spice"]["password"] != second["spice"]["password"]
        assert len(second["spice"]["password"]) <= 60
        spice = second["spice"]
        context = ssl.create_default_context(cadata=spice["ca"])
        context.check_hostname = False
        with (
            socket.create_connection((spice["host"], spice["tls_port"]), timeout=10) as raw,
            context.wrap_socket(raw) as secured,
        ):
            der = secured.getpeercert(binary_form=True)
        certificate = x509.load_der_x509_certificate(der or b"")
        [name] = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert f"CN={name.value!s}" in spice["host_subject"]


def test_the_vv_file_says_what_a_viewer_needs(new_user: NewUser, new_pool: NewPool) -> None:
    ann = new_user()
    with new_pool([ann]) as pool:
        keys = vv_of(ann.vv(pool))
        assert keys["type"] == "spice"
        assert keys["tls-port"]
        assert keys["ca"].startswith("-----BEGIN CERTIFICATE-----\\n")
        assert keys["host-subject"]
        assert keys["delete-this-file"] == "1"
        assert keys["release-cursor"]
        assert keys["secure-attention"]
        assert keys["x-roost-session"] == session_of(ann)["id"]


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
        eventually(
            lambda: ann.get(f"/sessions/{session['id']}")["state"] == "ended",
            60,
            "the session ended with its guest",
        )
        # The pool makes the desktop ready again by itself, on a disk of its template.
        fresh = ann.launch(pool)
        assert fresh["session_id"] != session["id"]


def test_a_desktops_own_page_tells_what_the_guest_says(
    admin: Api, new_user: NewUser, new_pool: NewPool
) -> None:
    ann = new_user()
    with new_pool([ann]) as pool:
        ready = ann.launch(pool)
        path = f"/desktops/{ready['desktop']['id']}"
        guest = eventually(
            lambda: (admin.get(path).get("guest") or {}).get("os"), 90, "the guest agent answered"
        )
        assert guest
        told = admin.get(path)["guest"]
        assert told["hostname"] == ready["desktop"]["name"]
        assert told["applications"]
