"""What every hypervisor driver must do; each driver's tests inherit this class."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from tests.polling import eventually

from roost_common.contracts.desktop import (
    DiskAttachment,
    DomainState,
    EnsureDesktop,
    Power,
    StopReason,
)
from roost_common.contracts.spec import DesktopSpec, HaPolicy, OsFamily, TemplateRef
from roost_common.errors import Conflict, Invalid, RoostError
from roost_host_agent.hypervisor.driver import DomainView, Hypervisor


def wanted(
    desktop_id: UUID | None = None,
    *,
    generation: int = 1,
    power: Power = Power.ON,
    disk: str | None = "/nowhere/disk.qcow2",
    os: OsFamily = OsFamily.LINUX,
    spec: DesktopSpec | None = None,
    **more: object,
) -> EnsureDesktop:
    """A desired state; everything not said is small and ordinary."""
    desktop_id = desktop_id or uuid4()
    return EnsureDesktop.model_validate(
        {
            "desktop_id": desktop_id,
            "desktop_name": f"d-{desktop_id.hex[:12]}",
            "generation": generation,
            "power": power,
            "spec": spec or DesktopSpec(vcpus=1, memory_mib=128),
            "template": TemplateRef(id=uuid4(), name="tiny", version=3, os=os),
            "disk": None if disk is None else DiskAttachment(path=disk, disk_id=desktop_id),
            **more,
        }
    )


class HypervisorContract:
    """Subclasses give a fixture ``driver`` (not yet running) and, if need be, ``disk``."""

    @pytest.fixture
    def disk(self) -> str:
        return "/nowhere/disk.qcow2"

    @pytest.fixture
    def changes(self) -> list[UUID]:
        return []

    @pytest.fixture
    async def running(self, driver: Hypervisor, changes: list[UUID]) -> AsyncIterator[Hypervisor]:
        task = asyncio.create_task(driver.run(changes.append))

        async def answers() -> bool:
            if task.done():
                task.result()
            with suppress(RoostError):
                await driver.node()
                return True
            return False

        await eventually(answers, "the hypervisor answers")
        yield driver
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    @pytest.fixture
    async def started(
        self, running: Hypervisor, disk: str
    ) -> AsyncIterator[tuple[EnsureDesktop, UUID]]:
        command, boot_id = wanted(disk=disk), uuid4()
        await running.start(command, boot_id)
        yield command, boot_id
        await running.remove(command.desktop_id, 99, None)

    async def view(self, driver: Hypervisor, desktop_id: UUID) -> DomainView | None:
        views = await driver.domains(desktop_id)
        assert len(views) <= 1
        return views[0] if views else None

    async def test_a_node_says_what_it_can_do(self, running: Hypervisor) -> None:
        node = await running.node()
        assert node.capabilities.cpus >= 1
        assert node.capabilities.memory_mib >= 1
        assert node.capabilities.max_vcpus >= 1

    async def test_a_started_domain_runs_and_carries_its_mark(
        self, running: Hypervisor, started: tuple[EnsureDesktop, UUID]
    ) -> None:
        command, boot_id = started
        view = await self.view(running, command.desktop_id)
        assert view is not None
        assert view.state is DomainState.RUNNING
        assert view.mark.boot_id == boot_id
        assert view.mark.generation == command.generation
        assert view.mark.name == command.desktop_name
        assert command.disk is not None
        assert view.mark.disk == command.disk.path
        assert view.mark.stop_by is None
        assert view.mark in [other.mark for other in await running.domains()]

    async def test_starting_again_leaves_the_run_alone(
        self, running: Hypervisor, started: tuple[EnsureDesktop, UUID]
    ) -> None:
        command, boot_id = started
        await running.start(command, uuid4())
        view = await self.view(running, command.desktop_id)
        assert view is not None
        assert view.mark.boot_id == boot_id

    async def test_a_newer_generation_is_noted_while_the_guest_goes_on(
        self, running: Hypervisor, started: tuple[EnsureDesktop, UUID]
    ) -> None:
        command, boot_id = started
        spec = DesktopSpec(vcpus=2, memory_mib=192)
        await running.start(command.model_copy(update={"generation": 5, "spec": spec}), uuid4())
        view = await self.view(running, command.desktop_id)
        assert view is not None
        assert view.state is DomainState.RUNNING
        assert view.mark.generation == 5
        assert view.mark.boot_id == boot_id

    async def test_the_restart_policy_is_kept_with_the_domain_and_follows_the_command(
        self, running: Hypervisor, started: tuple[EnsureDesktop, UUID]
    ) -> None:
        command, _ = started
        view = await self.view(running, command.desktop_id)
        assert view is not None
        assert view.mark.restart
        spec = command.spec.model_copy(update={"ha": HaPolicy(restart=False)})
        await running.start(command.model_copy(update={"generation": 2, "spec": spec}), uuid4())
        view = await self.view(running, command.desktop_id)
        assert view is not None
        assert not view.mark.restart

    async def test_removing_cuts_the_power_and_undefines(
        self, running: Hypervisor, started: tuple[EnsureDesktop, UUID]
    ) -> None:
        command, _ = started
        await running.remove(command.desktop_id, 2, None)
        assert await self.view(running, command.desktop_id) is None
        assert command.desktop_id not in [v.mark.desktop_id for v in await running.domains()]
        await running.remove(command.desktop_id, 2, None)

    async def test_an_asked_guest_is_marked_until_it_has_gone(
        self, running: Hypervisor, started: tuple[EnsureDesktop, UUID]
    ) -> None:
        command, _ = started
        stop_by = datetime.now(UTC) + timedelta(minutes=2)
        await running.remove(command.desktop_id, 2, stop_by)
        await running.remove(command.desktop_id, 2, stop_by)
        view = await self.view(running, command.desktop_id)
        if view is not None:  # a guest may follow at once, and asking again then undefines it
            assert view.mark.stop_by == stop_by
            assert view.stop_reason in {None, StopReason.REQUESTED}
        await running.remove(command.desktop_id, 2, None)
        assert await self.view(running, command.desktop_id) is None

    async def test_wanting_it_again_forgets_that_it_was_asked_to_stop(
        self, running: Hypervisor, started: tuple[EnsureDesktop, UUID]
    ) -> None:
        command, _ = started
        await running.remove(command.desktop_id, 2, datetime.now(UTC) + timedelta(minutes=2))
        await running.start(command.model_copy(update={"generation": 3}), uuid4())
        view = await self.view(running, command.desktop_id)
        assert view is not None
        assert view.state is DomainState.RUNNING
        assert view.mark.stop_by is None
        assert view.mark.generation == 3

    async def test_a_removed_desktop_can_be_started_again(
        self, running: Hypervisor, started: tuple[EnsureDesktop, UUID]
    ) -> None:
        command, first = started
        await running.remove(command.desktop_id, 2, None)
        again = uuid4()
        await running.start(command.model_copy(update={"generation": 3}), again)
        view = await self.view(running, command.desktop_id)
        assert view is not None
        assert view.mark.boot_id == again != first

    async def test_a_desktop_without_a_disk_is_refused(self, running: Hypervisor) -> None:
        command = wanted(disk=None)
        with pytest.raises(Invalid) as refused:
            await running.start(command, uuid4())
        assert refused.value.code == "desktop.disk-missing"
        assert await self.view(running, command.desktop_id) is None

    async def test_what_does_not_run_has_no_screen_and_no_reset(
        self, running: Hypervisor, started: tuple[EnsureDesktop, UUID]
    ) -> None:
        command, _ = started
        for desktop_id, boot_id in ((uuid4(), uuid4()), (command.desktop_id, uuid4())):
            with pytest.raises(Conflict) as refused:
                await running.open_display(desktop_id, boot_id, 30)
            assert refused.value.code == "desktop.not-running"
            await running.close_display(desktop_id, boot_id)
        with pytest.raises(Conflict) as refused:
            await running.reboot(uuid4(), force=True)
        assert refused.value.code == "desktop.not-running"

    async def test_reboot_keeps_the_run(
        self, running: Hypervisor, started: tuple[EnsureDesktop, UUID]
    ) -> None:
        command, boot_id = started
        await running.reboot(command.desktop_id, force=True)
        view = await self.view(running, command.desktop_id)
        assert view is not None
        assert view.mark.boot_id == boot_id

    async def test_changes_are_told(
        self,
        running: Hypervisor,
        started: tuple[EnsureDesktop, UUID],
        changes: list[UUID],
    ) -> None:
        command, _ = started

        await eventually(lambda: command.desktop_id in changes, "the start is told")
        changes.clear()
        await running.remove(command.desktop_id, 2, None)
        await eventually(lambda: command.desktop_id in changes, "the removal is told")
