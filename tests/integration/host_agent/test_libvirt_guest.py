"""The real driver with a real guest in it: what only an operating system inside can answer."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from tests.conftest import ROOT
from tests.integration.host_agent.private_libvirtd import PrivateLibvirtd
from tests.integration.host_agent.test_libvirt_qemu import running_driver
from tests.needs import require
from tests.polling import eventually
from tests.unit.host_agent.hypervisor_contract import wanted

from roost_common.contracts.desktop import DomainState, StopReason
from roost_common.contracts.spec import DesktopSpec
from roost_host_agent.hypervisor import libvirt as driver_module
from roost_host_agent.hypervisor.driver import DomainView
from roost_host_agent.hypervisor.libvirt import LibvirtDriver

pytestmark = [pytest.mark.integration, pytest.mark.early]

BOOT_S = 120
"""Without hardware virtualisation, on a busy machine."""


@pytest.fixture(scope="module")
def template(libvirtd: PrivateLibvirtd) -> Path:
    require("apt-get", "syslinux", "mformat")
    image = libvirtd.base / "guest.qcow2"
    build = ROOT / "deploy/lab/guest/build"
    cache = ROOT / ".roost/cache/guest"
    subprocess.run([build, image, "--cache", cache], check=True, capture_output=True)
    return image


@asynccontextmanager
async def desktop(
    libvirtd: PrivateLibvirtd, template: Path, folder: str = ""
) -> AsyncIterator[tuple[LibvirtDriver, UUID, str]]:
    command = wanted(spec=DesktopSpec(vcpus=1, memory_mib=256))
    name = command.desktop_name
    path = await asyncio.to_thread(libvirtd.overlay, folder + name, str(template))
    command = wanted(command.desktop_id, disk=path, spec=command.spec)
    async with running_driver(libvirtd) as driver:
        await driver.start(command, uuid4())
        try:
            yield driver, command.desktop_id, name
        finally:
            await driver.remove(command.desktop_id, 99, None)


async def look(driver: LibvirtDriver, desktop_id: UUID) -> DomainView | None:
    views = [v for v in await driver.domains() if v.mark.desktop_id == desktop_id]
    return views[0] if views else None


async def test_a_guest_tells_of_itself_and_follows_when_asked(
    libvirtd: PrivateLibvirtd, template: Path
) -> None:
    async with desktop(libvirtd, template) as (driver, desktop_id, name):

        async def tells() -> bool:
            view = await look(driver, desktop_id)
            return view is not None and view.guest is not None and bool(view.guest.addresses)

        await eventually(tells, "the guest tells of itself", BOOT_S)
        view = await look(driver, desktop_id)
        assert view is not None
        assert view.guest is not None
        assert view.guest.hostname == name
        assert view.guest.os.startswith("Roost demo guest")
        assert view.guest.kernel
        assert any(line.startswith("busybox") for line in view.guest.applications)
        assert view.stats is not None
        assert view.stats.disk_read_bytes > 0

        # A restart from inside the guest is the same run.
        await driver.reboot(desktop_id, force=False)
        again = await look(driver, desktop_id)
        assert again is not None
        assert again.mark.boot_id == view.mark.boot_id

        async def follows() -> bool:
            # A guest that is just booting misses the button: it is pressed until it follows.
            await driver.remove(desktop_id, 2, datetime.now(UTC) + timedelta(minutes=5))
            found = await look(driver, desktop_id)
            return found is None or found.state is DomainState.SHUTOFF

        await eventually(follows, "the guest follows", BOOT_S)


async def test_a_user_who_shuts_down_is_told_from_a_request(
    libvirtd: PrivateLibvirtd, template: Path
) -> None:
    async with desktop(libvirtd, template) as (driver, desktop_id, name):

        async def shut_down() -> bool:
            # The guest's own decision, as far as Roost knows.
            await asyncio.to_thread(libvirtd.press_power_button, f"roost-{name}")
            view = await look(driver, desktop_id)
            return view is not None and view.state is DomainState.SHUTOFF

        await eventually(shut_down, "the guest shuts itself down", BOOT_S)
        view = await look(driver, desktop_id)
        assert view is not None
        assert view.stop_reason is StopReason.GUEST_SHUTDOWN


async def test_full_storage_pauses_a_guest_that_goes_on_by_itself_when_there_is_room(
    libvirtd: PrivateLibvirtd, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "STORAGE_RETRY_S", 0.2)
    async with desktop(libvirtd, template, "small/") as (driver, desktop_id, _):

        async def stalled() -> bool:
            view = await look(driver, desktop_id)
            return view is not None and view.state is DomainState.PAUSED

        await eventually(stalled, "the guest runs out of storage", BOOT_S)

        async def explained() -> bool:
            view = await look(driver, desktop_id)
            return view is not None and (
                view.problem is not None and view.problem.code == "desktop.storage-error"
            )

        await eventually(explained, "the pause is explained")
        await asyncio.to_thread(libvirtd.enlarge, "64m")

        async def tells() -> bool:
            view = await look(driver, desktop_id)
            return view is not None and view.guest is not None and view.problem is None

        await eventually(tells, "the guest goes on until it tells of itself", BOOT_S)
