"""A hypervisor in memory, with personalities: for tests, and for many agents in one process.

It outlives the agents that use it, as libvirt does. Beside the driver's calls it has verbs for
what the world does to a domain: clients connect, guests shut down, QEMU crashes, libvirtd goes.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import count
from typing import Final
from uuid import UUID

from roost_common.contracts.desktop import (
    DomainState,
    DomainStats,
    EnsureDesktop,
    GuestInfo,
    SpiceAddress,
    SpiceClient,
    StopReason,
)
from roost_common.contracts.host import HostCapabilities, HostStats
from roost_common.contracts.migration import MigrateDesktop
from roost_common.errors import Conflict, Invalid
from roost_host_agent.hypervisor.driver import (
    Changed,
    DisplayAccess,
    DomainView,
    Mark,
    NodeView,
    not_running,
    outage,
)
from roost_host_agent.hypervisor.fake_migration import NETWORK, FakeMigrations, FakeNode
from roost_host_agent.hypervisor.migration import migrating

FIRST_PORT: Final = 5900


class Personality(StrEnum):
    """How a fake behaves."""

    NORMAL = "normal"
    SLOW = "slow"
    """Every call takes its time."""
    NEVER = "never"
    """A start does not come back."""
    REFUSES = "refuses"
    """QEMU does not start anything."""
    DIES = "dies"
    """Every guest starts, and its QEMU ends right afterwards."""
    FAILS_MIDWAY = "fails-midway"
    """A guest that is moved away stays, after half of it was sent."""


@dataclass(slots=True)
class _Domain:
    view: DomainView
    password: str | None = None


class FakeHypervisor:
    """`Hypervisor` and `Migrations` without one.

    The fakes of one process are each other's targets, found by ``name`` or ``address``.
    """

    def __init__(
        self,
        *,
        address: str = "127.0.0.1",
        name: str = "",
        personality: Personality = Personality.NORMAL,
        cpus: int = 8,
        memory_mib: int = 32 * 1024,
        slow_s: float = 0.5,
    ) -> None:
        self.personality = personality
        self.away = False
        """libvirtd does not answer."""
        self.unanswered = 0
        """Calls that got no answer."""
        self._address = address
        self._slow_s = slow_s
        self._capabilities = HostCapabilities(
            cpus=cpus, memory_mib=memory_mib, virt_type="qemu", max_vcpus=cpus, spice=True
        )
        self._domains: dict[UUID, _Domain] = {}
        self._changed: Changed = _nobody
        self._ports = count(FIRST_PORT)
        self._connections = count(1)
        self._arriving: set[UUID] = set()
        self._migrations = FakeMigrations(self)
        NETWORK[name or address] = NETWORK[address] = self

    # --- the driver -----------------------------------------------------------------------------

    async def run(self, changed: Changed) -> None:
        self._changed = changed
        try:
            await asyncio.Event().wait()
        finally:
            self._changed = _nobody

    async def node(self) -> NodeView:
        async with self._call():
            used = sum(
                domain.view.stats.memory_used_mib
                for domain in self._domains.values()
                if domain.view.stats is not None
            )
            return NodeView(self._capabilities, HostStats(memory_used_mib=used))

    async def domains(self, desktop_id: UUID | None = None) -> tuple[DomainView, ...]:
        async with self._call():
            if desktop_id is not None:
                domain = self._domains.get(desktop_id)
                return () if domain is None else (domain.view,)
            return tuple(domain.view for domain in self._domains.values())

    async def start(self, wanted: EnsureDesktop, boot_id: UUID) -> None:
        async with self._call():
            present = self._domains.get(wanted.desktop_id)
            if wanted.desktop_id in self._arriving or (present and present.view.migrating):
                raise migrating()
            if present is not None and present.view.state is not DomainState.SHUTOFF:
                mark = replace(
                    present.view.mark,
                    generation=wanted.generation,
                    stop_by=None,
                    restart=wanted.spec.ha.restart,
                )
                self._put(present, mark=mark, state=DomainState.RUNNING)
                return
            if wanted.disk is None:
                raise Invalid("desktop.disk-missing", "The desktop has no disk.")
            if self.personality is Personality.NEVER:
                await asyncio.Event().wait()
            if self.personality is Personality.REFUSES:
                self._domains.pop(wanted.desktop_id, None)
                raise Conflict("desktop.start-failed", "QEMU refuses.")
            mark = Mark(
                desktop_id=wanted.desktop_id,
                name=wanted.desktop_name,
                generation=wanted.generation,
                boot_id=boot_id,
                disk=wanted.disk.path,
                restart=wanted.spec.ha.restart,
            )
            view = DomainView(
                mark=mark,
                state=DomainState.RUNNING,
                spice=SpiceAddress(host=self._address, port=next(self._ports)),
                stats=DomainStats(memory_used_mib=wanted.spec.memory_mib // 2),
            )
            self._domains[wanted.desktop_id] = _Domain(view)
            self._changed(wanted.desktop_id)
        if self.personality is Personality.DIES:
            self.crash(wanted.desktop_id)

    async def remove(self, desktop_id: UUID, generation: int, stop_by: datetime | None) -> None:
        async with self._call():
            domain = self._domains.get(desktop_id)
            if domain is None:
                return
            if stop_by is not None and domain.view.state is not DomainState.SHUTOFF:
                mark = replace(domain.view.mark, generation=generation, stop_by=stop_by)
                self._put(domain, mark=mark)
                return
            del self._domains[desktop_id]
            self._changed(desktop_id)

    async def reboot(self, desktop_id: UUID, *, force: bool) -> None:
        async with self._call():
            self._running(desktop_id)

    async def open_display(self, desktop_id: UUID, boot_id: UUID, valid_s: int) -> DisplayAccess:
        async with self._call():
            domain = self._running(desktop_id, boot_id)
            domain.password = secrets.token_urlsafe(24)
            self.disconnect_clients(desktop_id)
            assert domain.view.spice is not None  # noqa: S101 - `start` gave it one
            return DisplayAccess(domain.view.spice, domain.password)

    async def close_display(self, desktop_id: UUID, boot_id: UUID) -> None:
        async with self._call():
            domain = self._domains.get(desktop_id)
            if domain is not None and domain.view.mark.boot_id == boot_id:
                domain.password = None
                self.disconnect_clients(desktop_id)

    async def migrate(self, command: MigrateDesktop) -> None:
        await self._migrations.migrate(command)

    async def migration_percent(self, desktop_id: UUID) -> float | None:
        async with self._call():
            return self._migrations.percent(desktop_id)

    async def cancel_migration(self, desktop_id: UUID) -> None:
        async with self._call():
            self._migrations.cancel(desktop_id)

    # --- the world ------------------------------------------------------------------------------

    def connect_client(self, desktop_id: UUID, address: str = "192.0.2.1") -> None:
        """A SPICE client comes."""
        domain = self._running(desktop_id)
        client = SpiceClient(connection_id=next(self._connections), address=address)
        self._put(domain, clients=(*domain.view.clients, client))

    def disconnect_clients(self, desktop_id: UUID) -> None:
        """All SPICE clients go."""
        domain = self._running(desktop_id)
        if domain.view.clients:
            self._put(domain, clients=())

    def guest_tells(self, desktop_id: UUID, info: GuestInfo) -> None:
        """The guest agent answers."""
        self._put(self._running(desktop_id), guest=info)

    def shut_down(self, desktop_id: UUID) -> None:
        """The guest ends: its user wanted it, or it follows a request."""
        domain = self._running(desktop_id)
        asked = domain.view.mark.stop_by is not None
        self._end(domain, StopReason.REQUESTED if asked else StopReason.GUEST_SHUTDOWN)

    def crash(self, desktop_id: UUID) -> None:
        """QEMU ends."""
        self._end(self._running(desktop_id), StopReason.CRASHED)

    def is_arriving(self, desktop_id: UUID) -> bool:
        """Whether a guest is on its way to here."""
        return desktop_id in self._arriving

    def lose_power(self) -> None:
        """Everything on this node ends at once, and nothing answers until ``away`` is False."""
        self.away = True
        self._domains.clear()
        self._arriving.clear()

    # --- a migration's two sides ----------------------------------------------------------------

    @property
    def step_s(self) -> float:
        return {Personality.SLOW: self._slow_s, Personality.NEVER: 3600.0}.get(self.personality, 0)

    @property
    def fails_midway(self) -> bool:
        return self.personality is Personality.FAILS_MIDWAY

    def runs(self, desktop_id: UUID, boot_id: UUID) -> bool:
        domain = self._domains.get(desktop_id)
        return (
            domain is not None
            and domain.view.mark.boot_id == boot_id
            and domain.view.state is DomainState.RUNNING
        )

    def make_room(self, desktop_id: UUID) -> bool:
        if desktop_id in self._domains or desktop_id in self._arriving:
            return False
        self._arriving.add(desktop_id)
        return True

    def give_room_back(self, desktop_id: UUID) -> None:
        self._arriving.discard(desktop_id)

    def begin_leaving(self, desktop_id: UUID, migration_id: UUID) -> None:
        domain = self._domains[desktop_id]
        mark = replace(domain.view.mark, migration=migration_id)
        domain.view = replace(domain.view, mark=mark, migrating=True)
        self._changed(desktop_id)

    def end_leaving(self, desktop_id: UUID) -> None:
        if (domain := self._domains.get(desktop_id)) is not None:
            domain.view = replace(domain.view, migrating=False)
            self._changed(desktop_id)

    def hand_over(self, desktop_id: UUID, generation: int, target: FakeNode) -> None:
        assert isinstance(target, FakeHypervisor)  # noqa: S101 - there are no others
        domain = self._domains.pop(desktop_id)
        target.receive(domain.view, domain.password, generation)
        self._changed(desktop_id)

    def receive(self, view: DomainView, password: str | None, generation: int) -> None:
        """A guest runs here from now on, its clients with it."""
        desktop_id = view.mark.desktop_id
        self._arriving.discard(desktop_id)
        mark = replace(view.mark, generation=generation, migration=None)
        spice = SpiceAddress(host=self._address, port=next(self._ports))
        here = replace(view, mark=mark, spice=spice, migrating=False)
        self._domains[desktop_id] = _Domain(here, password)
        self._changed(desktop_id)

    # --- within ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        if self.away:
            self.unanswered += 1
            raise outage()
        await asyncio.sleep(self._slow_s if self.personality is Personality.SLOW else 0)
        yield

    def _running(self, desktop_id: UUID, boot_id: UUID | None = None) -> _Domain:
        domain = self._domains.get(desktop_id)
        if (
            domain is None
            or domain.view.state is not DomainState.RUNNING
            or boot_id not in {None, domain.view.mark.boot_id}
        ):
            raise not_running()
        return domain

    def _end(self, domain: _Domain, reason: StopReason) -> None:
        domain.password = None
        domain.view = DomainView(
            mark=domain.view.mark, state=DomainState.SHUTOFF, stop_reason=reason
        )
        self._changed(domain.view.mark.desktop_id)

    def _put(
        self,
        domain: _Domain,
        *,
        mark: Mark | None = None,
        state: DomainState | None = None,
        clients: tuple[SpiceClient, ...] | None = None,
        guest: GuestInfo | None = None,
    ) -> None:
        view = domain.view
        domain.view = replace(
            view,
            mark=mark or view.mark,
            state=state or view.state,
            clients=view.clients if clients is None else clients,
            guest=guest or view.guest,
        )
        self._changed(view.mark.desktop_id)


def _nobody(_desktop_id: UUID) -> None:
    """Changes before ``run`` have no listener."""
