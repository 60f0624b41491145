"""The real driver on a real libvirtd with real QEMU, emulated in software."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from tests.integration.host_agent.private_libvirtd import PrivateLibvirtd
from tests.integration.host_agent.spice_client import connect
from tests.polling import eventually
from tests.unit.host_agent.hypervisor_contract import HypervisorContract, wanted

from roost_common.contracts.desktop import (
    DomainState,
    EnsureDesktop,
    SpiceAddress,
    StopReason,
)
from roost_common.contracts.spec import DesktopSpec, OsFamily
from roost_common.errors import Conflict, NoCapacity, NotFound, Outage, RoostError
from roost_host_agent.hypervisor.host_profile import HostProfile, SpiceTls, VirtType
from roost_host_agent.hypervisor.libvirt import LibvirtDriver

pytestmark = pytest.mark.integration

Started = tuple[EnsureDesktop, UUID]
HOST = HostProfile(virt_type=VirtType.QEMU, spice_listen="127.0.0.1", spice_tls=SpiceTls.BOTH)


class TestLibvirtQemu(HypervisorContract):
    @pytest.fixture
    def driver(self, libvirtd: PrivateLibvirtd) -> LibvirtDriver:
        return LibvirtDriver(
            libvirtd.uri, address="127.0.0.1", profile=HOST, virt_type=VirtType.QEMU
        )

    @pytest.fixture
    def disk(self, libvirtd: PrivateLibvirtd) -> str:
        return libvirtd.disk(f"disk-{uuid4().hex[:8]}")

    @pytest.fixture
    async def spice(self, running: LibvirtDriver, started: Started) -> SpiceAddress:
        view = await self.view(running, started[0].desktop_id)
        assert view is not None
        assert view.spice is not None
        return view.spice

    # --- capabilities ---------------------------------------------------------------------------

    async def test_capabilities_come_from_libvirt(self, running: LibvirtDriver) -> None:
        found = (await running.node()).capabilities
        assert found.virt_type == "qemu"
        assert found.spice
        assert found.max_vcpus >= 16
        assert any(name.startswith("pc-q35") for name in found.machine_types)
        assert found.libvirt_version.count(".") == 2
        assert found.qemu_version.count(".") == 2

    # --- every profile starts -------------------------------------------------------------------

    @pytest.mark.parametrize("monitors", [1, 4])
    @pytest.mark.parametrize("os", OsFamily)
    async def test_every_guest_starts(
        self, running: LibvirtDriver, disk: str, os: OsFamily, monitors: int
    ) -> None:
        spec = DesktopSpec(vcpus=2, memory_mib=256, monitors=monitors)
        command = wanted(disk=disk, os=os, spec=spec)
        await running.start(command, uuid4())
        view = await self.view(running, command.desktop_id)
        assert view is not None
        assert view.state is DomainState.RUNNING
        await running.remove(command.desktop_id, 2, None)

    # --- refusals -------------------------------------------------------------------------------

    async def test_a_disk_that_is_not_there(self, running: LibvirtDriver) -> None:
        command = wanted(disk="/nowhere/d.qcow2")
        with pytest.raises(NotFound) as refused:
            await running.start(command, uuid4())
        assert refused.value.code == "desktop.disk-missing"
        assert await self.view(running, command.desktop_id) is None

    async def test_a_template_that_is_not_there(
        self, running: LibvirtDriver, libvirtd: PrivateLibvirtd
    ) -> None:
        base = libvirtd.disk("gone")
        overlay = libvirtd.overlay("overlay-of-gone", base)
        await asyncio.to_thread(Path(base).unlink)
        command = wanted(disk=overlay)
        with pytest.raises(NotFound) as refused:
            await running.start(command, uuid4())
        assert refused.value.code == "desktop.disk-missing"

    async def test_a_disk_that_is_in_use(self, running: LibvirtDriver, started: Started) -> None:
        assert started[0].disk is not None
        other = wanted(disk=started[0].disk.path)
        with pytest.raises(Conflict) as refused:
            await running.start(other, uuid4())
        assert refused.value.code == "desktop.disk-locked"
        assert await self.view(running, other.desktop_id) is None

    async def test_more_memory_than_there_is(self, running: LibvirtDriver, disk: str) -> None:
        command = wanted(disk=disk, spec=DesktopSpec(memory_mib=8 * 1024 * 1024))
        with pytest.raises(NoCapacity) as refused:
            await running.start(command, uuid4())
        assert refused.value.code == "host.resources"

    # --- the screen -----------------------------------------------------------------------------

    async def test_nobody_gets_in_before_the_screen_is_opened(self, spice: SpiceAddress) -> None:
        for password in ("", "guess"):
            assert not (await connect(spice, password)).accepted

    async def test_an_opened_screen_takes_its_password_until_it_expires(
        self, running: LibvirtDriver, started: Started
    ) -> None:
        command, boot_id = started
        access = await running.open_display(command.desktop_id, boot_id, 1)
        assert len(access.password) <= 60
        session = await connect(access.spice, access.password)
        assert session.accepted
        await session.close()

        async def expired() -> bool:
            attempt = await connect(access.spice, access.password)
            await attempt.close()
            return not attempt.accepted

        await eventually(expired, "the password expires", 10)

    async def test_who_is_connected_is_seen_and_cut_off_by_the_next(
        self, running: LibvirtDriver, started: Started, changes: list[UUID]
    ) -> None:
        command, boot_id = started
        access = await running.open_display(command.desktop_id, boot_id, 30)
        session = await connect(access.spice, access.password)
        changes.clear()

        async def seen() -> bool:
            view = await self.view(running, command.desktop_id)
            return view is not None and [c.address for c in view.clients] == ["127.0.0.1"]

        await eventually(seen, "the client is seen")

        await eventually(lambda: command.desktop_id in changes, "the client is told")
        second = await running.open_display(command.desktop_id, boot_id, 30)
        assert await session.closed_by_server()
        assert not (await connect(access.spice, access.password)).accepted
        again = await connect(second.spice, second.password)
        assert again.accepted
        await running.close_display(command.desktop_id, boot_id)
        assert await again.closed_by_server()
        assert not (await connect(second.spice, second.password)).accepted

        async def nobody() -> bool:
            view = await self.view(running, command.desktop_id)
            return view is not None and view.clients == ()

        await eventually(nobody, "nobody is connected")

    async def test_the_tls_port_speaks_tls(
        self, spice: SpiceAddress, libvirtd: PrivateLibvirtd
    ) -> None:
        assert spice.tls_port is not None
        context = ssl.create_default_context(cafile=str(libvirtd.base / "spice/ca-cert.pem"))
        context.check_hostname = False
        with (
            socket.create_connection((spice.host, spice.tls_port), timeout=10) as raw,
            context.wrap_socket(raw) as wrapped,
        ):
            assert wrapped.version() is not None

    async def test_the_password_is_nowhere_in_the_definition(
        self, running: LibvirtDriver, started: Started, libvirtd: PrivateLibvirtd
    ) -> None:
        command, boot_id = started
        access = await running.open_display(command.desktop_id, boot_id, 30)
        assert access.password not in await asyncio.to_thread(libvirtd.everything_written)

    # --- numbers --------------------------------------------------------------------------------

    async def test_use_of_resources_is_measured(
        self, running: LibvirtDriver, started: Started
    ) -> None:
        command, _ = started

        async def used() -> bool:
            views = await running.domains()
            (view,) = [v for v in views if v.mark.desktop_id == command.desktop_id]
            assert view.stats is not None
            return view.stats.cpu_percent > 0 and 0 < view.stats.memory_used_mib <= 128

        await eventually(used, "processor and memory are in use")

    # --- troubles -------------------------------------------------------------------------------

    async def test_a_dead_qemu_is_a_crash(
        self, running: LibvirtDriver, started: Started, libvirtd: PrivateLibvirtd
    ) -> None:
        command, boot_id = started
        await asyncio.to_thread(libvirtd.kill_qemu, f"roost-{command.desktop_name}")

        async def crashed() -> bool:
            view = await self.view(running, command.desktop_id)
            return view is not None and view.stop_reason is StopReason.CRASHED

        await eventually(crashed, "the crash is seen")
        again = uuid4()
        await running.start(command, again)
        view = await self.view(running, command.desktop_id)
        assert view is not None
        assert view.mark.boot_id == again != boot_id

    @pytest.mark.parametrize("by", ["stop", "kill"])
    async def test_guests_run_on_while_libvirtd_is_away(
        self, running: LibvirtDriver, started: Started, libvirtd: PrivateLibvirtd, by: str
    ) -> None:
        command, boot_id = started
        await asyncio.to_thread(libvirtd.stop, by=by)
        try:

            async def away() -> bool:
                try:
                    await running.domains()
                except Outage:
                    return True
                return False

            await eventually(away, "the driver notices")
        finally:
            await asyncio.to_thread(libvirtd.start)

        async def back() -> bool:
            try:
                view = await self.view(running, command.desktop_id)
            except Outage:
                return False
            return view is not None and view.state is DomainState.RUNNING

        await eventually(back, "the driver is back")
        view = await self.view(running, command.desktop_id)
        assert view is not None
        assert view.mark.boot_id == boot_id
        access = await running.open_display(command.desktop_id, boot_id, 30)
        session = await connect(access.spice, access.password)
        assert session.accepted
        await session.close()


@asynccontextmanager
async def running_driver(libvirtd: PrivateLibvirtd) -> AsyncIterator[LibvirtDriver]:
    driver = LibvirtDriver(libvirtd.uri, address="127.0.0.1", profile=HOST, virt_type=VirtType.QEMU)
    task = asyncio.create_task(driver.run(lambda _: None))

    async def answers() -> bool:
        with suppress(RoostError):
            await driver.node()
            return True
        return False

    await eventually(answers, "libvirt answers")
    yield driver
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(("job", "phase"), [("start", "none"), ("migration in", "prepare")])
async def test_what_had_no_emulator_when_libvirtd_died_is_forgotten(
    libvirtd: PrivateLibvirtd, job: str, phase: str
) -> None:
    other = uuid4()
    async with running_driver(libvirtd) as driver:
        command = wanted(disk=libvirtd.disk(f"disk-{uuid4().hex[:8]}"))
        await driver.start(command, uuid4())
        await asyncio.to_thread(libvirtd.stop, by="kill")
        await asyncio.to_thread(libvirtd.interrupted, command.desktop_id, other, job, phase)
        await asyncio.to_thread(libvirtd.start)

        async def seen_again() -> bool:
            with suppress(Outage):
                return len(await driver.domains(command.desktop_id)) == 1
            return False

        await eventually(seen_again, "the guest that runs is seen again")
        await driver.remove(other, 2, None)
        assert not await driver.domains(other)
        await driver.remove(command.desktop_id, 2, None)


async def test_a_new_driver_takes_over_what_runs(libvirtd: PrivateLibvirtd) -> None:
    command, boot_id = wanted(disk=libvirtd.disk("taken-over"), generation=4), uuid4()
    async with running_driver(libvirtd) as first:
        await first.start(command, boot_id)
    async with running_driver(libvirtd) as second:
        (view,) = await second.domains(command.desktop_id)
        assert (view.mark.generation, view.mark.boot_id) == (4, boot_id)
        assert view.state is DomainState.RUNNING
        await second.remove(command.desktop_id, 5, None)
