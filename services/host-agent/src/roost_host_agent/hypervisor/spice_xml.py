"""The SPICE half of a domain: screen, sound, USB redirection, the client's agent channel. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from lxml import etree
from lxml.builder import E

from roost_common.contracts.spec import (
    USB_REDIRECTION_CHANNELS,
    DesktopSpec,
    DisplayPolicy,
    Link,
)
from roost_host_agent.hypervisor.guest_profile import GuestProfile, qxl_memory
from roost_host_agent.hypervisor.host_profile import HostProfile, SpiceTls

LOCKED_UNTIL: Final = "1970-01-01T00:00:01"
"""Expiry of the password in a definition: no client ever gets in with it."""

_DEFAULT_MODE: Final = {
    # With autoport, libvirt opens the plain port unless all channels are secure, and the TLS port
    # unless none is.
    SpiceTls.OFF: "insecure",
    SpiceTls.BOTH: "any",
    SpiceTls.REQUIRED: "secure",
}


@dataclass(frozen=True, slots=True)
class _Compression:
    """libvirt's values for one kind of link; formatdomain.html, "Graphical framebuffers"."""

    image: str
    jpeg: str
    zlib: str
    playback: str
    streaming: str


_COMPRESSION: Final = {
    # The server chooses per image, and lossy only for clients it measured to be slow.
    Link.AUTO: _Compression("auto_glz", "auto", "auto", "on", "filter"),
    # Bandwidth is cheap, the host's processor is not: the fastest codec, sound unharmed.
    Link.LAN: _Compression("lz", "never", "never", "off", "filter"),
    # The other way round.
    Link.WAN: _Compression("auto_glz", "always", "always", "on", "all"),
}


def devices(
    spec: DesktopSpec, guest: GuestProfile, host: HostProfile, locked_password: str
) -> list[etree._Element]:
    """Every device that SPICE needs, in the order libvirt prints them."""
    found = [
        E.channel(E.target(type="virtio", name="com.redhat.spice.0"), type="spicevmc"),
        _graphics(spec.display, host, locked_password),
        *_sound(spec.display, guest),
        *_video(spec.monitors, guest),
    ]
    if spec.display.usb:
        found.extend(
            E.redirdev(bus="usb", type="spicevmc") for _ in range(USB_REDIRECTION_CHANNELS)
        )
    return found


def spice_time(at: datetime) -> str:
    """A time as libvirt reads it in ``passwdValidTo``: UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _graphics(display: DisplayPolicy, host: HostProfile, locked_password: str) -> etree._Element:
    values = _COMPRESSION[display.link]
    return E.graphics(
        E.listen(type="address", address=host.spice_listen),
        E.image(compression=values.image),
        E.jpeg(compression=values.jpeg),
        E.zlib(compression=values.zlib),
        E.playback(compression=values.playback),
        E.streaming(mode=values.streaming),
        E.clipboard(copypaste=_yes(display.clipboard)),
        # The client draws the pointer: no round trip between the hand and the eye.
        E.mouse(mode="client"),
        E.filetransfer(enable=_yes(display.file_transfer)),
        type="spice",
        autoport="yes",
        defaultMode=_DEFAULT_MODE[host.spice_tls],
        passwd=locked_password,
        passwdValidTo=LOCKED_UNTIL,
    )


def _sound(display: DisplayPolicy, guest: GuestProfile) -> list[etree._Element]:
    if not display.sound:
        return [E.audio(id="1", type="none")]
    sound = E.sound(model=guest.sound_model)
    if guest.sound_model == "ich9":
        # HDA needs a codec; the duplex one has a microphone as well.
        sound.append(E.codec(type="duplex"))
    return [sound, E.audio(id="1", type="spice")]


def _video(monitors: int, guest: GuestProfile) -> list[etree._Element]:
    devices, heads = (monitors, 1) if guest.qxl_per_head else (1, monitors)
    memory = qxl_memory(heads, per_head=guest.qxl_per_head)
    found = []
    for number in range(devices):
        model = E.model(
            type="qxl",
            ram=str(memory.ram),
            vram=str(memory.vram),
            vgamem=str(memory.vgamem),
            heads=str(heads),
        )
        if number == 0:
            model.set("primary", "yes")
        found.append(E.video(model))
    return found


def _yes(value: bool) -> str:
    return "yes" if value else "no"
