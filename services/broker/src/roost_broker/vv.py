"""The file that starts virt-viewer on a desktop. Pure.

Keys and values as in virt-viewer's ``man/remote-viewer.pod`` and ``src/virt-viewer-file.c``.
There is none for a ticket's expiry, which the SPICE server enforces, and none for the number of
monitors, which the viewer takes from its own monitor mapping when it is in full screen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

MEDIA_TYPE: Final = "application/x-virt-viewer"
CHANNELS: Final = "main;display;inputs;cursor;playback;record;smartcard;usbredir"
"""Every SPICE channel that virt-viewer knows."""
ANY_USB_BUT_INPUT: Final = "0x03,-1,-1,-1,0|-1,-1,-1,-1,1"
"""usbredir's filter syntax; 0x03 is the class of keyboards and mice (USB HID 1.11)."""


@dataclass(frozen=True)
class Screen:
    """What the file is made of."""

    session_id: UUID
    title: str
    host: str
    port: int | None
    tls_port: int | None
    password: str
    ca: str = ""
    host_subject: str = ""
    fullscreen: bool = False
    usb: bool = True
    usb_filter: str = ANY_USB_BUT_INPUT
    thin_link: bool = False
    versions: str = ""
    newer_version_url: str = ""


def render(screen: Screen) -> str:
    """The text of the file, one ``key=value`` a line."""
    values: dict[str, str | int | None] = {
        "type": "spice",
        "host": screen.host,
        "port": screen.port,
        "tls-port": screen.tls_port,
        "password": screen.password,
        "delete-this-file": 1,
        "title": screen.title,
        "fullscreen": int(screen.fullscreen),
        "toggle-fullscreen": "shift+f11",
        "release-cursor": "shift+f12",
        "secure-attention": "ctrl+alt+end",
        "enable-usbredir": int(screen.usb),
        "enable-usb-autoshare": int(screen.usb),
    }
    if screen.usb:
        values["usb-filter"] = screen.usb_filter
    if screen.tls_port is not None:
        # Without a TLS port these would leave the viewer no way to connect.
        values["secure-channels"] = CHANNELS
        values["ca"] = _one_line(screen.ca) or None
        values["host-subject"] = screen.host_subject or None
    if screen.thin_link:
        values["color-depth"] = 16
        values["disable-effects"] = "all"
    values["versions"] = screen.versions or None
    values["newer-version-url"] = screen.newer_version_url or None
    values["x-roost-session"] = str(screen.session_id)
    lines = [f"{key}={_plain(str(value))}" for key, value in values.items() if value is not None]
    return "\n".join(["[virt-viewer]", *lines, ""])


def _one_line(pem: str) -> str:
    r"""A PEM text with a literal ``\n`` for each line end, as GKeyFile reads it back."""
    return "".join(f"{line.strip()}\\n" for line in pem.splitlines() if line.strip())


def _plain(value: str) -> str:
    """A value cannot start another line, and with it another key."""
    return "".join(
        " " if character < " " or character == "\x7f" else character for character in value
    )
