"""A running domain's SPICE server: its password, and who is connected.

All functions block and run in the connection's threads.
"""

from __future__ import annotations

import json
import math
import secrets
from datetime import UTC, datetime
from typing import Final

import libvirt
import libvirt_qemu
from lxml import etree

from roost_common.contracts.desktop import SpiceClient
from roost_common.contracts.display import MAX_PASSWORD_LENGTH
from roost_common.errors import Conflict
from roost_host_agent.hypervisor import domain_facts
from roost_host_agent.hypervisor.spice_xml import LOCKED_UNTIL, spice_time

MAIN_CHANNEL: Final = 1
"""SPICE_CHANNEL_MAIN in spice-protocol's spice/enums.h: one per client."""
_PASSWORD_BYTES: Final = 24


def new_password() -> str:
    """A password nobody can guess, within SPICE's limit."""
    return secrets.token_urlsafe(_PASSWORD_BYTES)[:MAX_PASSWORD_LENGTH]


def set_password(domain: libvirt.virDomain, password: str, valid_until: float | None) -> None:
    """Set the password and cut off who is connected.

    ``valid_until`` is Unix time; None sets one that has never been valid. libvirt reads the time
    as UTC to the second; it is rounded up.
    """
    graphics = _graphics(domain)
    until = LOCKED_UNTIL if valid_until is None else _spice_time(valid_until)
    graphics.set("passwd", password)
    graphics.set("passwdValidTo", until)
    graphics.set("connected", "disconnect")
    _update(domain, graphics)


def expire_by(domain: libvirt.virDomain, latest: float) -> None:
    """Have the present password end no later than this, and leave who is connected alone."""
    graphics = _graphics(domain)
    until = _spice_time(latest)
    # Times in this form sort as they follow each other.
    if graphics.get("passwdValidTo", "") > until:
        graphics.set("passwdValidTo", until)
        graphics.set("connected", "keep")
        _update(domain, graphics)


def _graphics(domain: libvirt.virDomain) -> etree._Element:
    """With its secrets."""
    graphics = domain_facts.parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)).find(
        "devices/graphics[@type='spice']"
    )
    if graphics is None:
        raise Conflict("desktop.no-spice", "The desktop has no SPICE screen.")
    return graphics


def _update(domain: libvirt.virDomain, graphics: etree._Element) -> None:
    domain.updateDeviceFlags(
        etree.tostring(graphics, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE
    )


def _spice_time(at: float) -> str:
    """Unix time as libvirt reads it: UTC, to the second."""
    return spice_time(datetime.fromtimestamp(math.ceil(at), UTC))


def clients(domain: libvirt.virDomain) -> tuple[SpiceClient, ...]:
    """Who is connected now, by QEMU's own account; libvirt itself has no call for it.

    Source: QMP ``query-spice``.
    """
    reply = libvirt_qemu.qemuMonitorCommand(domain, '{"execute":"query-spice"}', 0)
    channels = json.loads(reply).get("return", {}).get("channels", [])
    found = {
        channel["connection-id"]: SpiceClient(
            connection_id=channel["connection-id"], address=channel["host"]
        )
        for channel in channels
        if channel["channel-type"] == MAIN_CHANNEL
    }
    return tuple(found[key] for key in sorted(found))
