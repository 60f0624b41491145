"""The real driver on libvirt's own mock hypervisor: real API, real events, no QEMU."""

from __future__ import annotations

from uuid import UUID, uuid4

import libvirt
import pytest
from tests.unit.host_agent.hypervisor_contract import HypervisorContract, wanted

from roost_common.contracts.desktop import EnsureDesktop, Power
from roost_common.errors import Conflict
from roost_host_agent.hypervisor.domain_xml import render
from roost_host_agent.hypervisor.host_profile import HostProfile, VirtType
from roost_host_agent.hypervisor.libvirt import LibvirtDriver

pytestmark = pytest.mark.integration

HOST = HostProfile(virt_type=VirtType.TEST, spice_listen="127.0.0.1")


class TestLibvirtMock(HypervisorContract):
    @pytest.fixture
    def driver(self) -> LibvirtDriver:
        return LibvirtDriver("test:///default", address="127.0.0.1", profile=HOST)

    async def test_domains_of_others_are_not_seen_and_not_touched(
        self, running: LibvirtDriver, started: tuple[EnsureDesktop, UUID]
    ) -> None:
        command, _ = started
        # The mock comes with a running domain called "test".
        (view,) = await running.domains()
        assert view.mark.desktop_id == command.desktop_id
        conn = libvirt.open("test:///default")
        foreign = conn.lookupByName("test")
        desktop_id = UUID(foreign.UUIDString())
        await running.remove(desktop_id, 1, None)
        assert foreign.isActive()
        with pytest.raises(Conflict) as refused:
            await running.start(wanted(desktop_id), uuid4())
        assert refused.value.code == "host.name-taken"
        conn.close()

    async def test_a_name_that_is_taken_is_refused(
        self, running: LibvirtDriver, started: tuple[EnsureDesktop, UUID]
    ) -> None:
        command, _ = started
        other = command.model_copy(update={"desktop_id": uuid4()})
        with pytest.raises(Conflict) as refused:
            await running.start(other, uuid4())
        assert refused.value.code == "host.name-taken"

    async def test_a_mark_that_somebody_broke_makes_a_domain_foreign(
        self, running: LibvirtDriver
    ) -> None:
        command = wanted(power=Power.ON)
        conn = libvirt.open("test:///default")
        xml = render(command, HOST, uuid4(), "x").replace('generation="1"', 'generation="soon"')
        domain = conn.defineXML(xml)
        assert command.desktop_id not in [v.mark.desktop_id for v in await running.domains()]
        domain.undefine()
        conn.close()
