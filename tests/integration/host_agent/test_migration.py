"""Live migration between two real libvirtds with real QEMU, and what may happen on the way."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import libvirt
import pytest
from tests.conftest import free_port
from tests.integration.host_agent.private_libvirtd import PrivateLibvirtd
from tests.integration.host_agent.spice_client import connect
from tests.needs import require, require_root
from tests.polling import eventually
from tests.unit.host_agent.hypervisor_contract import wanted

from roost_common.contracts.desktop import DomainState, EnsureDesktop
from roost_common.contracts.migration import MigrateDesktop
from roost_common.errors import Conflict, Outage, RoostError, Unavailable
from roost_host_agent.hypervisor.driver import DomainView
from roost_host_agent.hypervisor.host_profile import HostProfile, SpiceTls, VirtType
from roost_host_agent.hypervisor.libvirt import LibvirtDriver
from roost_host_agent.hypervisor.libvirt_migration import MigrationPath

pytestmark = pytest.mark.integration

SETTLE_S = 60
"""Two QEMUs without hardware virtualisation start and move, on a busy machine."""
SOURCE, TARGET, NOBODY = "127.0.0.2", "127.0.0.3", "127.0.0.4"

_MOVE = """
import asyncio, sys
from roost_common.contracts.migration import MigrateDesktop
from roost_host_agent.hypervisor.host_profile import HostProfile, VirtType
from roost_host_agent.hypervisor.libvirt import LibvirtDriver
from roost_host_agent.hypervisor.libvirt_migration import MigrationPath

async def main(uri, to, command):
    path = MigrationPath(uri=to, storage_shared=True)
    host = HostProfile(virt_type=VirtType.QEMU, spice_listen="")
    driver = LibvirtDriver(uri, address="", profile=host, path=path)
    task = asyncio.create_task(driver.run(lambda _: None))
    while True:
        try:
            await driver.node()
            break
        except Exception:
            await asyncio.sleep(0.05)
    await driver.migrate(MigrateDesktop.model_validate_json(command))

asyncio.run(main(*sys.argv[1:]))
"""


@dataclass
class Site:
    """Two nodes that can reach each other, and a driver for each."""

    servers: tuple[PrivateLibvirtd, PrivateLibvirtd]
    port: int

    @property
    def uri(self) -> str:
        return f"qemu+tcp://{{address}}:{self.port}/system"

    def driver(self, server: PrivateLibvirtd, *, shared: bool = True) -> LibvirtDriver:
        host = HostProfile(
            virt_type=VirtType.QEMU, spice_listen=server.address, spice_tls=SpiceTls.BOTH
        )
        return LibvirtDriver(
            server.uri,
            address=server.address,
            profile=host,
            virt_type=VirtType.QEMU,
            path=MigrationPath(uri=self.uri, storage_shared=shared),
        )


@dataclass
class Desktop:
    """One that runs on the source."""

    command: EnsureDesktop
    boot_id: UUID
    source: LibvirtDriver
    target: LibvirtDriver
    target_uri: str

    @property
    def id(self) -> UUID:
        return self.command.desktop_id

    def move(self, **more: object) -> MigrateDesktop:
        return MigrateDesktop.model_validate(
            {
                "migration_id": uuid4(),
                "desktop_id": self.id,
                "boot_id": self.boot_id,
                "generation": 7,
                "target_node": "node-b",
                "target_address": TARGET,
                **more,
            }
        )

    async def at(self, driver: LibvirtDriver) -> DomainView | None:
        views = await driver.domains(self.id)
        return views[0] if views else None

    async def is_leaving(self) -> bool:
        view = await self.at(self.source)
        return view is not None and view.migrating

    async def runs_once(self) -> LibvirtDriver | None:
        """Where it runs, when it does so on one side and the other has nothing."""
        try:
            sides = [(driver, await self.at(driver)) for driver in (self.source, self.target)]
        except Outage:
            return None
        found = [(driver, view) for driver, view in sides if view is not None]
        if len(found) != 1:
            return None
        driver, view = found[0]
        settled = view.state is DomainState.RUNNING and not view.migrating
        return driver if settled and view.mark.boot_id == self.boot_id else None


@pytest.fixture(scope="module")
def site(servers_dir: Path) -> Iterator[Site]:
    require("libvirtd", "virsh", "qemu-system-x86_64", "qemu-img", "unshare", "openssl")
    require_root("to make namespaces")
    port = free_port()
    servers = (
        PrivateLibvirtd(servers_dir / "lva", name="node-a", address=SOURCE, port=port),
        PrivateLibvirtd(servers_dir / "lvb", name="node-b", address=TARGET, port=port),
    )
    for server in servers:
        server.start()
    yield Site(servers, port)
    for server in servers:
        server.close()


@pytest.fixture
async def desktop(site: Site) -> AsyncIterator[Desktop]:
    source, target = (site.driver(server) for server in site.servers)
    tasks = [asyncio.create_task(driver.run(lambda _: None)) for driver in (source, target)]

    async def answer() -> bool:
        with suppress(RoostError):
            await source.node()
            await target.node()
            return True
        return False

    await eventually(answer, "both libvirtds answer")
    disk = await asyncio.to_thread(site.servers[0].disk, f"disk-{uuid4().hex[:8]}")
    command, boot_id = wanted(disk=disk, generation=3), uuid4()
    await source.start(command, boot_id)
    yield Desktop(command, boot_id, source, target, site.servers[1].uri)
    for driver in (source, target):

        async def gone(driver: LibvirtDriver = driver) -> bool:
            # What a test broke may hold the domain for a while: then it is busy.
            with suppress(Unavailable):
                await driver.remove(command.desktop_id, 99, None)
                return True
            return False

        await eventually(gone, "the guest is removed", SETTLE_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_guest_moves_and_never_counts_as_running_twice(
    desktop: Desktop, site: Site
) -> None:
    # So that it takes a while on every machine: what is on the way is to be seen.
    await asyncio.to_thread(_slow_down, site.servers[0].uri, desktop.id)
    job = asyncio.create_task(desktop.source.migrate(desktop.move()))
    seen: set[tuple[str, str]] = set()
    percents = []
    while not job.done():
        here, there = await desktop.at(desktop.source), await desktop.at(desktop.target)
        seen.add((_told(here), _told(there)))
        percents.append(await desktop.source.migration_percent(desktop.id))
    await job
    # While it leaves, the source runs it; a target that runs it before the source has let go is
    # told from a copy by that word.
    assert seen <= {
        ("running", "absent"),
        ("leaving", "absent"),
        ("leaving", "running"),
        ("absent", "running"),
    }
    assert ("leaving", "absent") in seen
    assert max(one for one in percents if one is not None) > 0
    assert await desktop.runs_once() is desktop.target
    view = await desktop.at(desktop.target)
    assert view is not None
    assert (view.mark.generation, view.mark.migration) == (7, None)
    assert view.spice is not None
    assert view.spice.host == TARGET


async def test_at_the_target_its_screen_is_opened_anew(desktop: Desktop) -> None:
    await desktop.source.migrate(desktop.move())
    access = await desktop.target.open_display(desktop.id, desktop.boot_id, 30)
    assert access.spice.host == TARGET
    assert not (await connect(access.spice, "guess")).accepted
    session = await connect(access.spice, access.password)
    assert session.accepted
    await session.close()
    # And what it is at its next start is defined there, with a password that lets nobody in.
    definition = await asyncio.to_thread(_definition, desktop)
    assert f"address='{TARGET}'" in definition
    assert 'generation="7"' in definition
    assert "passwdValidTo='1970" in definition


async def test_back_again(desktop: Desktop) -> None:
    await desktop.source.migrate(desktop.move())
    back = desktop.move(generation=8, target_node="node-a", target_address=SOURCE)
    await desktop.target.migrate(back)
    assert await desktop.runs_once() is desktop.source


async def test_what_arrives_is_not_touched(desktop: Desktop) -> None:
    job = asyncio.create_task(desktop.source.migrate(desktop.move()))

    def arriving() -> bool:
        conn = libvirt.open(desktop.target_uri)
        try:
            return bool(conn.lookupByUUID(desktop.id.bytes).isActive())
        except libvirt.libvirtError:
            return False
        finally:
            conn.close()

    async def arrives() -> bool:
        return await asyncio.to_thread(arriving)

    await eventually(arrives, "it arrives", SETTLE_S)
    with pytest.raises(Conflict) as refused:
        await desktop.target.start(desktop.command, uuid4())
    assert refused.value.code == "desktop.migrating"
    with pytest.raises(Conflict) as refused:
        await desktop.target.open_display(desktop.id, desktop.boot_id, 30)
    assert refused.value.code == "desktop.not-running"
    with pytest.raises(Conflict) as refused:
        await desktop.source.migrate(desktop.move())
    assert refused.value.code == "desktop.migrating"
    await job
    assert await desktop.runs_once() is desktop.target


async def test_cancelled_on_the_way(desktop: Desktop) -> None:
    job = asyncio.create_task(desktop.source.migrate(desktop.move()))
    await eventually(desktop.is_leaving, "it leaves", SETTLE_S)
    await desktop.source.cancel_migration(desktop.id)
    with pytest.raises(Conflict) as refused:
        await job
    assert refused.value.code == "desktop.migration-cancelled"

    async def stays() -> bool:
        return await desktop.runs_once() is desktop.source

    await eventually(stays, "it stays", SETTLE_S)


async def test_stopped_on_the_way(desktop: Desktop) -> None:
    job = asyncio.create_task(desktop.source.migrate(desktop.move()))
    await eventually(desktop.is_leaving, "it leaves", SETTLE_S)
    await desktop.source.remove(desktop.id, 9, None)
    with pytest.raises(RoostError):
        await job

    async def nowhere() -> bool:
        return all([await desktop.at(side) is None for side in (desktop.source, desktop.target)])

    await eventually(nowhere, "it runs nowhere", SETTLE_S)


async def test_a_target_that_is_not_there(desktop: Desktop) -> None:
    with pytest.raises(Unavailable) as refused:
        await desktop.source.migrate(desktop.move(target_address=NOBODY))
    assert refused.value.code == "host.unreachable"
    assert await desktop.runs_once() is desktop.source


async def test_another_run_is_not_moved(desktop: Desktop) -> None:
    with pytest.raises(Conflict) as refused:
        await desktop.source.migrate(desktop.move(boot_id=uuid4()))
    assert refused.value.code == "desktop.not-running"


async def test_without_shared_storage_nothing_moves(desktop: Desktop, site: Site) -> None:
    careful = site.driver(site.servers[0], shared=False)
    with pytest.raises(Conflict) as refused:
        await careful.migrate(desktop.move())
    assert refused.value.code == "desktop.migration-failed"
    assert "nsafe" in refused.value.detail
    assert await desktop.runs_once() is desktop.source


async def test_the_agent_dies_on_the_way(desktop: Desktop, site: Site) -> None:
    command = desktop.move().model_dump_json()
    agent = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-c", _MOVE, site.servers[0].uri, site.uri, command],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    await eventually(desktop.is_leaving, "it leaves", SETTLE_S)
    agent.send_signal(signal.SIGKILL)
    agent.wait()

    async def moved() -> bool:
        return await desktop.runs_once() is desktop.target

    await eventually(moved, "libvirtd goes on without it", SETTLE_S)


async def test_the_sources_libvirtd_dies_on_the_way(desktop: Desktop, site: Site) -> None:
    await _libvirtd_dies(desktop, site.servers[0], Outage)


async def test_the_targets_libvirtd_dies_on_the_way(desktop: Desktop, site: Site) -> None:
    await _libvirtd_dies(desktop, site.servers[1], RoostError)


async def _libvirtd_dies(
    desktop: Desktop, server: PrivateLibvirtd, expected: type[RoostError]
) -> None:
    job = asyncio.create_task(desktop.source.migrate(desktop.move()))
    await eventually(desktop.is_leaving, "it leaves", SETTLE_S)
    await asyncio.to_thread(server.stop, by="kill")
    try:
        with pytest.raises(expected):
            await job
    finally:
        await asyncio.to_thread(server.start)

    async def settled() -> bool:
        return await desktop.runs_once() is not None

    await eventually(settled, "it runs on one side", SETTLE_S)


def _told(view: DomainView | None) -> str:
    if view is None:
        return "absent"
    return "leaving" if view.migrating else view.state.value


def _slow_down(uri: str, desktop_id: UUID) -> None:
    """Its memory leaves at 1 MiB/s."""
    conn = libvirt.open(uri)
    try:
        conn.lookupByUUID(desktop_id.bytes).migrateSetMaxSpeed(1)
    finally:
        conn.close()


def _definition(desktop: Desktop) -> str:
    conn = libvirt.open(desktop.target_uri)
    try:
        domain = conn.lookupByUUID(desktop.id.bytes)
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        return str(domain.XMLDesc(flags))
    finally:
        conn.close()
