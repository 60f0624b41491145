"""What a live domain's XML tells: Roost's mark, the SPICE ports, the size of the guest. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from lxml import etree

from roost_common.contracts.desktop import SpiceAddress
from roost_host_agent.hypervisor import metadata
from roost_host_agent.hypervisor.driver import Mark

# libvirtd is trusted, and still its text needs no entities, no network and no DTD.
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """They change only with an event: a start, a stop, a new mark."""

    mark: Mark
    vcpus: int
    port: int | None
    tls_port: int | None

    def spice(self, address: str) -> SpiceAddress | None:
        """Where clients reach the screen, on a node with that address; None with no port open."""
        if self.port is None and self.tls_port is None:
            return None
        return SpiceAddress(host=address, port=self.port, tls_port=self.tls_port)


def parse(xml: str) -> etree._Element:
    """A domain's XML as an element."""
    return etree.fromstring(xml, _PARSER)


def from_xml(xml: str) -> DomainFacts | None:
    """The facts; None for a domain that is not Roost's."""
    domain = parse(xml)
    mark = metadata.from_domain(domain)
    if mark is None:
        return None
    graphics = domain.find("devices/graphics[@type='spice']")
    vcpu = domain.find("vcpu")
    return DomainFacts(
        mark=mark,
        vcpus=int(vcpu.text or 1) if vcpu is not None else 1,
        port=_port(graphics, "port"),
        tls_port=_port(graphics, "tlsPort"),
    )


def _port(graphics: etree._Element | None, name: str) -> int | None:
    value = None if graphics is None else graphics.get(name)
    # -1 stands for "not yet" or "not at all".
    return int(value) if value is not None and int(value) > 0 else None
