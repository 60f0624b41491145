from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest
from tests.unit.host_agent.hypervisor_contract import HypervisorContract, wanted

from roost_common.contracts.desktop import DomainState, EnsureDesktop, StopReason
from roost_common.errors import Conflict, Outage
from roost_host_agent.hypervisor.fake import FakeHypervisor, Personality


class TestFakeHypervisor(HypervisorContract):
    @pytest.fixture
    def driver(self) -> FakeHypervisor:
        return FakeHypervisor()

    async def test_a_second_ticket_makes_the_first_worthless_and_cuts_off(
        self, running: FakeHypervisor, started: tuple[EnsureDesktop, UUID]
    ) -> None:
        command, boot_id = started
        first = await running.open_display(command.desktop_id, boot_id, 30)
        running.connect_client(command.desktop_id)
        second = await running.open_display(command.desktop_id, boot_id, 30)
        view = await self.view(running, command.desktop_id)
        assert first.password != second.password
        assert view is not None
        assert view.clients == ()
        assert second.password not in repr(second)


async def test_one_that_refuses() -> None:
    driver, command = FakeHypervisor(personality=Personality.REFUSES), wanted()
    with pytest.raises(Conflict) as refused:
        await driver.start(command, uuid4())
    assert refused.value.code == "desktop.start-failed"
    assert await driver.domains() == ()


async def test_one_whose_guests_die() -> None:
    driver, command = FakeHypervisor(personality=Personality.DIES), wanted()
    await driver.start(command, uuid4())
    (view,) = await driver.domains()
    assert (view.state, view.stop_reason) == (DomainState.SHUTOFF, StopReason.CRASHED)


async def test_one_that_never_starts() -> None:
    driver = FakeHypervisor(personality=Personality.NEVER)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(driver.start(wanted(), uuid4()), 0.05)


async def test_one_that_is_away() -> None:
    driver = FakeHypervisor()
    driver.away = True
    with pytest.raises(Outage):
        await driver.domains()
