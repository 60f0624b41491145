"""The file that starts a viewer."""

from __future__ import annotations

from configparser import RawConfigParser
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from roost_broker.vv import CHANNELS, Screen, render

SCREEN = Screen(
    session_id=UUID("00000000-0000-0000-0000-00000000002a"),
    title="win-7 - Roost",
    host="node1.example",
    port=5900,
    tls_port=5901,
    password="s3cret",
    ca="-----BEGIN CERTIFICATE-----\nMII=\nAAA=\n-----END CERTIFICATE-----\n",
    host_subject="O=Roost,CN=node1",
)


def values(text: str) -> dict[str, str]:
    parser = RawConfigParser()
    parser.read_string(text)
    assert parser.sections() == ["virt-viewer"]
    return dict(parser["virt-viewer"])


def test_all_of_it() -> None:
    assert render(SCREEN) == (
        "[virt-viewer]\n"
        "type=spice\n"
        "host=node1.example\n"
        "port=5900\n"
        "tls-port=5901\n"
        "password=s3cret\n"
        "delete-this-file=1\n"
        "title=win-7 - Roost\n"
        "fullscreen=0\n"
        "toggle-fullscreen=shift+f11\n"
        "release-cursor=shift+f12\n"
        "secure-attention=ctrl+alt+end\n"
        "enable-usbredir=1\n"
        "enable-usb-autoshare=1\n"
        "usb-filter=0x03,-1,-1,-1,0|-1,-1,-1,-1,1\n"
        "secure-channels=main;display;inputs;cursor;playback;record;smartcard;usbredir\n"
        "ca=-----BEGIN CERTIFICATE-----\\nMII=\\nAAA=\\n-----END CERTIFICATE-----\\n\n"
        "host-subject=O=Roost,CN=node1\n"
        "x-roost-session=00000000-0000-0000-0000-00000000002a\n"
    )


def test_without_tls_nothing_is_said_of_it() -> None:
    found = values(render(replace(SCREEN, tls_port=None)))
    assert not {"tls-port", "secure-channels", "ca", "host-subject"} & set(found)
    assert found["port"] == "5900"


def test_with_tls_alone() -> None:
    found = values(render(replace(SCREEN, port=None)))
    assert "port" not in found
    assert found["secure-channels"] == CHANNELS


def test_a_thin_link_full_screen_no_usb_and_a_newer_viewer() -> None:
    found = values(
        render(
            replace(
                SCREEN,
                thin_link=True,
                fullscreen=True,
                usb=False,
                versions="linux:11.0",
                newer_version_url="https://viewer.example/",
            )
        )
    )
    assert found["color-depth"] == "16"
    assert found["disable-effects"] == "all"
    assert found["fullscreen"] == "1"
    assert found["enable-usbredir"] == "0"
    assert "usb-filter" not in found
    assert found["versions"] == "linux:11.0"
    assert found["newer-version-url"] == "https://viewer.example/"


@pytest.mark.parametrize("field", ["title", "host", "password", "host_subject", "versions"])
def test_no_value_starts_another_line(field: str) -> None:
    evil: dict[str, Any] = {field: "a\nproxy=http://evil\r\n[ovirt]\x00"}
    text = render(replace(SCREEN, **evil))
    assert sum(line.startswith(("proxy", "[ovirt")) for line in text.splitlines()) == 0
    assert "proxy" not in values(text)
