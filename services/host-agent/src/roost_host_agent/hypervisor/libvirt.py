"""The driver for QEMU and KVM, through libvirt."""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

import libvirt
import psutil

from roost_common.clock import Clock, SystemClock
from roost_common.contracts.desktop import EnsureDesktop, GuestInfo
from roost_common.contracts.host import HostCapabilities, HostStats
from roost_common.contracts.migration import MigrateDesktop
from roost_common.errors import Conflict, RoostError
from roost_host_agent.hypervisor import (
    domain_power,
    guest_agent,
    host_capabilities,
    passage,
    spice_display,
)
from roost_host_agent.hypervisor.connection import THREADS, Connection
from roost_host_agent.hypervisor.domain_facts import DomainFacts
from roost_host_agent.hypervisor.domain_power import DomainPower
from roost_host_agent.hypervisor.domain_reader import DomainReader, find
from roost_host_agent.hypervisor.driver import (
    NOT_RUNNING,
    Changed,
    DisplayAccess,
    DomainView,
    NodeView,
    not_running,
)
from roost_host_agent.hypervisor.guest_poller import AT_ONCE, GuestPoller
from roost_host_agent.hypervisor.host_profile import HostProfile, VirtType
from roost_host_agent.hypervisor.libvirt_migration import (
    TICKET_MARGIN_S,
    LibvirtMigrations,
    MigrationPath,
)
from roost_host_agent.hypervisor.passage import Passage

GRAPHICS_SETTLE_S: Final = 0.2
"""A client opens and closes a dozen channels; they are looked at once, this much later."""
POWER_AT_ONCE: Final = THREADS // 2
"""Starting a guest may take seconds of storage; the other threads are for screens and reports."""
STORAGE_RETRY_S: Final = 10.0


class LibvirtDriver:
    """`Hypervisor` and `Migrations` on one libvirtd.

    ``virt_type`` None takes KVM where it works. ``probe_direct_io`` replaces the profile's
    O_DIRECT by write-back for a disk whose file system refuses O_DIRECT.
    """

    def __init__(
        self,
        uri: str,
        *,
        address: str,
        profile: HostProfile,
        virt_type: VirtType | None = None,
        probe_direct_io: bool = True,
        path: MigrationPath | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._connection = Connection(
            uri,
            on_event=self._event,
            on_connected=self._connected,
            on_arrived=self._arrived,
        )
        self._address = address
        self._profile = profile
        self._virt_type = virt_type
        self._guests = GuestPoller(self._ask_guest, clock or SystemClock())
        self._reader = DomainReader(address, self._guests.info)
        self._power = DomainPower(self._reader, probe_direct_io=probe_direct_io)
        self._migrations = LibvirtMigrations(
            self._connection, self._reader, uri=uri, address=address, path=path or MigrationPath()
        )
        self._power_slots = asyncio.Semaphore(POWER_AT_ONCE)
        self._agent_pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="guest-agent")
        self._capabilities: HostCapabilities | None = None
        self._changed: Changed = _nobody
        self._settling: set[UUID] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, changed: Changed) -> None:
        self._changed = changed
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._connection.run())
                group.create_task(self._guests.run(changed))
                group.create_task(self._continue_stalled())
        finally:
            self._agent_pool.shutdown(wait=False)

    async def node(self) -> NodeView:
        if self._capabilities is None:
            self._capabilities = await self._connection.call(
                lambda conn: host_capabilities.read(conn, self._virt_type)
            )
        memory = psutil.virtual_memory()
        stats = HostStats(
            cpu_percent=psutil.cpu_percent(),
            memory_used_mib=(memory.total - memory.available) // 2**20,
            load_1m=round(os.getloadavg()[0], 2),
        )
        return NodeView(self._capabilities, stats)

    async def domains(self, desktop_id: UUID | None = None) -> tuple[DomainView, ...]:
        views = await self._connection.call(lambda conn: self._reader.read(conn, desktop_id))
        if desktop_id is None:
            self._guests.seen(self._reader.running)
        return views

    async def start(self, wanted: EnsureDesktop, boot_id: UUID) -> None:
        capabilities = (await self.node()).capabilities
        host = replace(self._profile, virt_type=VirtType(capabilities.virt_type))
        async with self._power_slots:
            await self._connection.call(lambda conn: self._power.start(conn, wanted, boot_id, host))

    async def remove(self, desktop_id: UUID, generation: int, stop_by: datetime | None) -> None:
        async with self._power_slots:
            await self._connection.call(
                lambda conn: self._power.remove(conn, desktop_id, generation, stop_by)
            )

    async def reboot(self, desktop_id: UUID, *, force: bool) -> None:
        def work(conn: libvirt.virConnect) -> None:
            domain, _ = self._running(conn, desktop_id)
            if force:
                domain.reset(0)
            else:
                domain.reboot(0)

        await self._connection.call(work)

    async def open_display(self, desktop_id: UUID, boot_id: UUID, valid_s: int) -> DisplayAccess:
        def work(conn: libvirt.virConnect) -> DisplayAccess:
            domain, facts = self._running(conn, desktop_id, boot_id)
            spice = facts.spice(self._address)
            if spice is None:
                raise Conflict("desktop.no-spice", "The desktop has no SPICE screen.")
            password = spice_display.new_password()
            spice_display.set_password(domain, password, time.time() + valid_s)
            return DisplayAccess(spice, password)

        return await self._connection.call(work)

    async def close_display(self, desktop_id: UUID, boot_id: UUID) -> None:
        def work(conn: libvirt.virConnect) -> None:
            try:
                domain, _ = self._running(conn, desktop_id, boot_id)
            except RoostError as error:
                if error.code == NOT_RUNNING:
                    return
                raise
            spice_display.set_password(domain, spice_display.new_password(), None)

        await self._connection.call(work)

    # --- migration ------------------------------------------------------------------------------

    async def migrate(self, command: MigrateDesktop) -> None:
        await self._migrations.migrate(command)

    async def migration_percent(self, desktop_id: UUID) -> float | None:
        return await self._migrations.migration_percent(desktop_id)

    async def cancel_migration(self, desktop_id: UUID) -> None:
        await self._migrations.cancel_migration(desktop_id)

    # --- in the connection's threads ------------------------------------------------------------

    def _running(
        self, conn: libvirt.virConnect, desktop_id: UUID, boot_id: UUID | None = None
    ) -> tuple[libvirt.virDomain, DomainFacts]:
        domain = find(conn, desktop_id)
        facts = None if domain is None else self._reader.facts(domain)
        if (
            domain is None
            or facts is None
            or not domain.isActive()
            or boot_id not in {None, facts.mark.boot_id}
            or passage.now(domain) is Passage.ARRIVING
        ):
            raise not_running()
        return domain, facts

    # --- around them ----------------------------------------------------------------------------

    def _connected(self) -> None:
        self._reader.forget()
        # libvirt or QEMU may have been upgraded meanwhile.
        self._capabilities = None

    def _event(self, event: int, desktop_id: UUID) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE:
            self._guests.soon(desktop_id)
        elif event == libvirt.VIR_DOMAIN_EVENT_ID_GRAPHICS:
            if desktop_id not in self._settling:
                self._settling.add(desktop_id)
                asyncio.get_running_loop().call_later(GRAPHICS_SETTLE_S, self._settled, desktop_id)
        else:
            self._reader.forget(desktop_id)
            if event == libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE:
                self._changed(desktop_id)

    def _arrived(self, desktop_id: UUID) -> None:
        task = asyncio.get_running_loop().create_task(self._end_ticket(desktop_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end_ticket(self, desktop_id: UUID) -> None:
        """Its clients have come with it: their ticket needs no more time than they do."""

        def work(conn: libvirt.virConnect) -> None:
            domain, _ = self._running(conn, desktop_id)
            spice_display.expire_by(domain, time.time() + TICKET_MARGIN_S)

        # It ends by itself later.
        with suppress(RoostError):
            await self._connection.call(work)

    def _settled(self, desktop_id: UUID) -> None:
        self._settling.discard(desktop_id)
        self._changed(desktop_id)

    async def _ask_guest(self, desktop_id: UUID) -> GuestInfo:
        def work(conn: libvirt.virConnect) -> GuestInfo:
            domain, _ = self._running(conn, desktop_id)
            return guest_agent.ask(domain)

        return await self._connection.call(work, pool=self._agent_pool)

    async def _continue_stalled(self) -> None:
        """Guests that their storage paused: try to go on, until they do."""
        while True:
            await asyncio.sleep(STORAGE_RETRY_S)
            for desktop_id in self._reader.stalled:
                # It pauses again at once while the storage still fails.
                with suppress(RoostError):
                    await self._connection.call(partial(domain_power.resume, desktop_id=desktop_id))


def _nobody(_desktop_id: UUID) -> None:
    """Changes before ``run`` have no listener."""
