"""A domain's XML as the target of a migration gets it. Pure.

libvirt lets only the host's side of a definition differ (``VIR_MIGRATE_PARAM_DEST_XML``): here the
address on which SPICE listens, how long its ticket is good, and Roost's mark.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from ipaddress import ip_address
from typing import Final

from lxml import etree

from roost_host_agent.hypervisor import domain_facts, metadata
from roost_host_agent.hypervisor.driver import Mark
from roost_host_agent.hypervisor.spice_xml import spice_time

_MARK: Final = f"metadata/{{{metadata.NAMESPACE}}}desktop"


def for_target(
    xml: str, mark: Mark, generation: int, address: str, ticket_until: datetime | None = None
) -> str:
    """The XML for a node at ``address``.

    ``xml`` must have been read with its secrets, or the guest's screen would be open to everybody
    at the target. ``ticket_until`` is for a domain with connected clients: they log on at the
    target with the ticket they used here, whose time is mostly over by then, and SPICE's server
    looks at that time again.
    """
    domain = domain_facts.parse(xml)
    for element in domain.findall(_MARK):
        moved = replace(mark, generation=generation, migration=None)
        parent = element.getparent()
        assert parent is not None  # noqa: S101 - it was found below one
        parent.replace(element, metadata.to_element(moved))
    for graphics in domain.findall("devices/graphics[@type='spice']"):
        _listen_at(graphics, address)
        if ticket_until is not None and graphics.get("passwd"):
            graphics.set("passwdValidTo", spice_time(ticket_until))
    return etree.tostring(domain, encoding="unicode")


def bracketed(address: str) -> str:
    """An address as it stands in a URI (RFC 3986, 3.2.2)."""
    return f"[{address}]" if ":" in address else address


def _listen_at(graphics: etree._Element, address: str) -> None:
    """A wildcard stays one; any other address is the source's own."""
    for element, name in (
        (graphics, "listen"),
        *((one, "address") for one in graphics.findall("listen[@type='address']")),
    ):
        own = element.get(name)
        if own is not None and not _is_wildcard(own):
            element.set(name, address)


def _is_wildcard(address: str) -> bool:
    try:
        return ip_address(address).is_unspecified
    except ValueError:
        return False
