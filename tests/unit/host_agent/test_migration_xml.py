"""What the target of a migration is given."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from lxml import etree
from tests.needs import lacking
from tests.unit.host_agent.hypervisor_contract import wanted

from roost_host_agent.hypervisor import domain_facts, domain_xml, metadata
from roost_host_agent.hypervisor.driver import Mark
from roost_host_agent.hypervisor.host_profile import HostProfile, SpiceTls, VirtType
from roost_host_agent.hypervisor.migration_xml import bracketed, for_target
from roost_host_agent.hypervisor.spice_xml import LOCKED_UNTIL

UNTIL = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def source(listen: str = "192.0.2.10") -> tuple[str, Mark]:
    host = HostProfile(virt_type=VirtType.QEMU, spice_listen=listen, spice_tls=SpiceTls.BOTH)
    xml = domain_xml.render(wanted(generation=3), host, uuid4(), "locked")
    mark = metadata.from_domain(domain_facts.parse(xml))
    assert mark is not None
    return xml, mark


def graphics(xml: str) -> etree._Element:
    (found,) = domain_facts.parse(xml).findall("devices/graphics")
    return found


def test_spice_listens_at_the_target() -> None:
    xml, mark = source()
    found = graphics(for_target(xml, mark, 4, "192.0.2.20"))
    assert [one.get("address") for one in found.findall("listen")] == ["192.0.2.20"]


def test_a_live_definition_names_the_address_twice() -> None:
    xml, mark = source()
    live = domain_facts.parse(xml)
    (before,) = live.findall("devices/graphics")
    before.set("listen", "192.0.2.10")
    after = graphics(for_target(etree.tostring(live, encoding="unicode"), mark, 4, "192.0.2.20"))
    assert after.get("listen") == "192.0.2.20"


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "::"])
def test_a_wildcard_stays(everywhere: str) -> None:
    xml, mark = source(everywhere)
    found = graphics(for_target(xml, mark, 4, "192.0.2.20"))
    assert [one.get("address") for one in found.findall("listen")] == [everywhere]


def test_the_mark_has_the_new_generation_and_the_same_run() -> None:
    xml, mark = source()
    marked = Mark(
        **{name: getattr(mark, name) for name in Mark.__slots__ if name != "migration"},
        migration=uuid4(),
    )
    moved = metadata.from_domain(domain_facts.parse(for_target(xml, marked, 9, "192.0.2.20")))
    assert moved is not None
    assert (moved.generation, moved.boot_id, moved.disk) == (9, mark.boot_id, mark.disk)
    # At the target nothing leaves.
    assert moved.migration is None


def test_the_ticket_lives_on_for_who_is_connected() -> None:
    xml, mark = source()
    found = graphics(for_target(xml, mark, 4, "192.0.2.20", UNTIL))
    assert (found.get("passwd"), found.get("passwdValidTo")) == ("locked", "2030-01-02T03:04:05")


def test_the_screen_stays_locked_for_everybody_else() -> None:
    xml, mark = source()
    found = graphics(for_target(xml, mark, 4, "192.0.2.20"))
    assert (found.get("passwd"), found.get("passwdValidTo")) == ("locked", LOCKED_UNTIL)


def test_nothing_else_changes() -> None:
    xml, mark = source()
    same = for_target(xml, mark, mark.generation, "192.0.2.10")
    assert etree.canonicalize(same, strip_text=True) == etree.canonicalize(xml, strip_text=True)


def test_it_is_a_valid_definition() -> None:
    schema = Path("/usr/share/libvirt/schemas/domain.rng")
    if not schema.exists():
        lacking("libvirt's schemas")
    xml, mark = source()
    etree.RelaxNG(etree.parse(schema)).assertValid(
        etree.fromstring(for_target(xml, mark, 4, "192.0.2.20", UNTIL))
    )


def test_an_address_in_a_uri() -> None:
    assert [bracketed(one) for one in ("192.0.2.1", "2001:db8::1")] == [
        "192.0.2.1",
        "[2001:db8::1]",
    ]
