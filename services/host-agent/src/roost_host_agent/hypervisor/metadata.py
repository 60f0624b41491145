"""Roost's mark in a domain's metadata, as an XML element and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from lxml import etree

from roost_host_agent.hypervisor.driver import Mark

NAMESPACE: Final = "urn:roost:desktop:1"
PREFIX: Final = "roost"
_TAG: Final = f"{{{NAMESPACE}}}desktop"


def to_element(mark: Mark) -> etree._Element:
    """``<roost:desktop generation=… boot-id=… …/>``."""
    element = etree.Element(_TAG, nsmap={PREFIX: NAMESPACE})
    element.set("name", mark.name)
    element.set("generation", str(mark.generation))
    element.set("boot-id", str(mark.boot_id))
    element.set("disk", mark.disk)
    if mark.stop_by is not None:
        element.set("stop-by", mark.stop_by.astimezone(UTC).isoformat())
    if mark.migration is not None:
        element.set("migration", str(mark.migration))
    if not mark.restart:
        element.set("restart", "no")
    return element


def to_xml(mark: Mark) -> str:
    """The same as text without a namespace: libvirt's ``setMetadata`` adds its own."""
    element = etree.Element("desktop")
    for key, value in to_element(mark).items():
        element.set(key, value)
    return etree.tostring(element, encoding="unicode")


def from_domain(domain: etree._Element) -> Mark | None:
    """The mark in a whole ``<domain>``; None for a domain that is not Roost's.

    An element that cannot be read is not Roost's either: whoever wrote it, this agent did not.
    """
    element = domain.find(f"metadata/{_TAG}")
    uuid = domain.findtext("uuid")
    if element is None or uuid is None:
        return None
    try:
        stop_by = element.get("stop-by")
        migration = element.get("migration")
        return Mark(
            desktop_id=UUID(uuid),
            name=element.attrib["name"],
            generation=int(element.attrib["generation"]),
            boot_id=UUID(element.attrib["boot-id"]),
            disk=element.attrib["disk"],
            stop_by=None if stop_by is None else datetime.fromisoformat(stop_by),
            migration=None if migration is None else UUID(migration),
            # A mark that says nothing is of a desktop that is restarted: most are.
            restart=element.get("restart") != "no",
        )
    except (KeyError, ValueError):
        return None
