"""Live migration through libvirt, from daemon to daemon.

With ``VIR_MIGRATE_PEER2PEER`` this node's libvirtd speaks with the target's, and it goes on when
the agent that asked for it dies. libvirt resumes a guest on exactly one side: when either daemon
or host is lost before the target has said that it runs there, the source goes on and what arrived
is destroyed; QEMU's lock on the image is beneath that. Post-copy would give this up (a guest whose
memory is on two hosts dies with either), so a guest that writes too fast is slowed down instead.

A guest under software emulation is held while it is moved, for a second or two. QEMU before 9.0
loses writes of such a guest when it moves while it runs (fixed in part by QEMU's commit
03bfc2188f06, "physmem: Fix migration dirty bitmap coherency with TCG memory access"): of seven
guests moved so on a busy machine three hung or rebooted. KVM tracks writes in another way.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, TypeVar
from uuid import UUID

import libvirt

from roost_common.contracts.migration import MigrateDesktop
from roost_host_agent.hypervisor import domain_facts, migration_xml, passage, spice_display
from roost_host_agent.hypervisor.connection import KEEPALIVE_COUNT, KEEPALIVE_S, Connection
from roost_host_agent.hypervisor.domain_power import write_mark
from roost_host_agent.hypervisor.domain_reader import DomainReader, find
from roost_host_agent.hypervisor.driver import not_running, outage
from roost_host_agent.hypervisor.libvirt_errors import translate_migration
from roost_host_agent.hypervisor.migration import migrating, to_itself
from roost_host_agent.hypervisor.passage import Passage

T = TypeVar("T")

TICKET_MARGIN_S: Final = 60
"""A client that logs on at the target only after the switch still gets in."""
_FLAGS: Final = (
    libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    # A guest that its storage pauses meanwhile stays where that can be looked at.
    | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
)
_LIVE: Final = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_AUTO_CONVERGE
_XML: Final = libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE


@dataclass(frozen=True, slots=True)
class MigrationPath:
    """How a node reaches the others."""

    uri: str = "qemu+tls://{address}/system"
    """Of the target's libvirtd; ``{address}`` stands for its address."""
    tls: bool = False
    """The guest's memory travels encrypted; needs QEMU's migration certificates on both sides."""
    storage_shared: bool = False
    """Believe that the disks are on storage that all nodes share, where libvirt does not see it."""

    def flags(self, *, live: bool) -> int:
        """libvirt's virDomainMigrateFlags."""
        flags = _FLAGS | _LIVE if live else _FLAGS
        if self.tls:
            flags |= libvirt.VIR_MIGRATE_TLS
        if self.storage_shared:
            flags |= libvirt.VIR_MIGRATE_UNSAFE
        return int(flags)


class LibvirtMigrations:
    """`Migrations` on one libvirtd."""

    def __init__(
        self,
        connection: Connection,
        reader: DomainReader,
        *,
        uri: str,
        address: str,
        path: MigrationPath,
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._uri = uri
        self._address = address
        self._path = path

    async def migrate(self, command: MigrateDesktop) -> None:
        if command.target_address == self._address:
            raise to_itself()
        await _in_own_thread(lambda: self._connected(command))

    async def migration_percent(self, desktop_id: UUID) -> float | None:
        def work(conn: libvirt.virConnect) -> float | None:
            domain = find(conn, desktop_id)
            if domain is None or passage.now(domain) is not Passage.LEAVING:
                return None
            try:
                job = domain.jobStats(0)
            except libvirt.libvirtError:
                return None  # it ended while we looked
            return percent(int(job.get("memory_total", 0)), int(job.get("memory_remaining", 0)))

        return await self._connection.call(work)

    async def cancel_migration(self, desktop_id: UUID) -> None:
        def work(conn: libvirt.virConnect) -> None:
            domain = find(conn, desktop_id)
            if domain is not None and passage.now(domain) is Passage.LEAVING:
                abort(domain)

        await self._connection.call(work)

    # --- in a thread of its own -----------------------------------------------------------------

    def _connected(self, command: MigrateDesktop) -> None:
        # A connection of its own: libvirtd serves few calls of one client at a time, and this one
        # takes minutes.
        try:
            conn = libvirt.open(self._uri)
        except libvirt.libvirtError as error:
            raise outage() from error
        try:
            conn.setKeepAlive(KEEPALIVE_S, KEEPALIVE_COUNT)
            self._migrate(conn, command)
        except libvirt.libvirtError as error:
            if not conn.isAlive():
                raise outage() from error
            raise translate_migration(error, command.target_address) from error
        finally:
            with suppress(libvirt.libvirtError):
                conn.close()

    def _migrate(self, conn: libvirt.virConnect, command: MigrateDesktop) -> None:
        domain = find(conn, command.desktop_id)
        facts = None if domain is None else self._reader.facts(domain)
        if (
            domain is None
            or facts is None
            or not domain.isActive()
            or facts.mark.boot_id != command.boot_id
        ):
            raise not_running()
        if passage.now(domain) is not None:
            raise migrating()
        write_mark(
            domain,
            replace(facts.mark, migration=command.migration_id),
            libvirt.VIR_DOMAIN_AFFECT_LIVE,
        )
        self._reader.forget(command.desktop_id)
        address = migration_xml.bracketed(command.target_address)
        until = (
            datetime.fromtimestamp(time.time() + command.deadline_s + TICKET_MARGIN_S, UTC)
            if spice_display.clients(domain)
            else None
        )
        mark, generation, target = facts.mark, command.generation, command.target_address
        live = migration_xml.for_target(domain.XMLDesc(_XML), mark, generation, target, until)
        next_start = migration_xml.for_target(
            domain.XMLDesc(_XML | libvirt.VIR_DOMAIN_XML_INACTIVE), mark, generation, target
        )
        domain.migrateToURI3(
            self._path.uri.format(address=address),
            {
                libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://{address}",
                libvirt.VIR_MIGRATE_PARAM_DEST_XML: live,
                libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: next_start,
                # Where SPICE listens on all addresses libvirt would send clients to a host name.
                libvirt.VIR_MIGRATE_PARAM_GRAPHICS_URI: f"spice://{address}",
            },
            self._path.flags(live=domain_facts.parse(live).get("type") == "kvm"),
        )


def percent(total: int, remaining: int) -> float:
    """Of the guest's memory, how much is at the target; 0 before libvirt knows."""
    if total <= 0:
        return 0.0
    return round(100.0 * max(0, total - remaining) / total, 1)


def abort(domain: libvirt.virDomain) -> None:
    """Have a leaving guest stay; nothing when it is too late."""
    with suppress(libvirt.libvirtError):
        domain.abortJob()


async def _in_own_thread(work: Callable[[], T]) -> T:
    """Like an executor's, but nobody waits for the thread when the process ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:
            failure = error
        # The process may be past its loop by now.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="libvirt-migration", daemon=True).start()
    return await done
