"""A node and an imaging service that act by their contracts, for tests at every level."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from roost_common.clock import Clock
from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import (
    DomainObservation,
    DomainObserved,
    DomainState,
    EnsureDesktop,
    Power,
    SpiceAddress,
    StopMode,
    StopReason,
)
from roost_common.contracts.disk import DiskDeleted, DiskFact, DiskReady, DiskRefused, EnsureDisk
from roost_common.contracts.host import HostCapabilities, HostReport, HostStats
from roost_common.contracts.spec import DesktopSpec, TemplateRef

TEMPLATE = TemplateRef(id=UUID(int=7), name="demo", version=1)
SMALL = DesktopSpec(vcpus=1, memory_mib=1024)
LOCKED = Problem(code="desktop.disk-locked", detail="Somebody else writes to it.")
FULL = Problem(code="storage.full", detail="There is no room.")


@dataclass
class Domain:
    """A domain as libvirt would have it."""

    generation: int
    boot_id: UUID
    state: DomainState = DomainState.RUNNING
    reason: StopReason | None = None
    asked_to_stop: bool = False


@dataclass
class FakeNode:
    """A KVM node with its agent.

    ``removed`` is the agent's memory, lost with it; ``domains`` is libvirt's. Each command is
    answered with an observation, also when nothing was to do.
    """

    name: str
    clock: Clock
    memory_mib: int = 8192
    cpus: int = 8
    max_vcpus: int = 64
    refuses: Problem | None = None
    """What every start ends with."""
    domains: dict[UUID, Domain] = field(default_factory=dict)
    removed: dict[UUID, int] = field(default_factory=dict)
    refused: dict[UUID, tuple[int, Problem]] = field(default_factory=dict)
    agent_id: UUID = field(default_factory=uuid4)
    commands: list[EnsureDesktop] = field(default_factory=list)
    leaving: set[UUID] = field(default_factory=set)
    """Those on their way to another node."""
    lives: int = 0
    """How often it has lost its power."""
    _stamp: datetime | None = None
    _behind: timedelta = timedelta(0)

    # --- what the agent does ------------------------------------------------------------------

    def take(self, command: EnsureDesktop) -> DomainObserved | None:
        """Apply a command; None for one that was meant for another run of the agent."""
        if command.agent_id is not None and command.agent_id != self.agent_id:
            return None
        self.commands.append(command)
        domain = self.domains.get(command.desktop_id)
        known = max(self.removed.get(command.desktop_id, 0), domain.generation if domain else 0)
        if command.generation >= known:
            self._apply(command, domain)
        return self.event(command.desktop_id)

    def _apply(self, command: EnsureDesktop, domain: Domain | None) -> None:
        desktop = command.desktop_id
        if command.power is Power.ON:
            assert command.disk is not None, "a desktop was to run without a disk"
            if domain is not None and domain.state is DomainState.RUNNING:
                domain.generation = command.generation
            elif self.refuses is not None:
                self.domains.pop(desktop, None)
                self.refused[desktop] = (command.generation, self.refuses)
            else:
                self.refused.pop(desktop, None)
                self.domains[desktop] = Domain(command.generation, uuid4())
            return
        if domain is not None and domain.state is DomainState.RUNNING:
            domain.generation = command.generation
            if command.stop is StopMode.SHUTDOWN:
                domain.asked_to_stop = True
                return  # the guest takes its time; `shut_down` ends it
        self._remove(desktop, command.generation)

    def _remove(self, desktop: UUID, generation: int) -> None:
        self.domains.pop(desktop, None)
        self.refused.pop(desktop, None)
        self.removed[desktop] = max(generation, self.removed.get(desktop, 0))

    # --- what happens to it -------------------------------------------------------------------

    def shut_down(self, desktop: UUID) -> DomainObserved:
        """The guest follows a request to shut down: the agent undefines it by itself."""
        self._remove(desktop, self.domains[desktop].generation)
        return self.event(desktop)

    def stop(self, desktop: UUID, reason: StopReason) -> DomainObserved:
        """The guest goes off by itself and stays defined."""
        self.domains[desktop].state = DomainState.SHUTOFF
        self.domains[desktop].reason = reason
        return self.event(desktop)

    def lose_power(self) -> None:
        """The machine restarts: nothing runs, and what was defined is gone."""
        self.domains.clear()
        self.lives += 1
        self.restart_agent()

    def restart_agent(self, *, set_back: timedelta = timedelta(0)) -> None:
        """What only the agent knew is gone; the node's clock may have been set back meanwhile."""
        self.removed.clear()
        self.refused.clear()
        self.agent_id = uuid4()
        self._behind += set_back
        self._stamp = None

    def running(self) -> set[UUID]:
        """The desktops that run here."""
        return {one for one, domain in self.domains.items() if domain.state is DomainState.RUNNING}

    # --- what it says -------------------------------------------------------------------------

    def event(self, desktop: UUID) -> DomainObserved:
        """``domain.observed.v1`` of one desktop."""
        return DomainObserved(node=self.name, agent_id=self.agent_id, domain=self.observe(desktop))

    def observe(self, desktop: UUID) -> DomainObservation:
        """One desktop now."""
        domain, at = self.domains.get(desktop), self._next_stamp()
        if domain is None:
            generation, problem = self.refused.get(desktop, (0, None))
            return DomainObservation(
                desktop_id=desktop,
                generation=max(generation, self.removed.get(desktop, 0)),
                state=DomainState.ABSENT,
                observed_at=at,
                problem=problem,
            )
        port = 5900 + int(domain.boot_id) % 1000
        return DomainObservation(
            desktop_id=desktop,
            generation=domain.generation,
            state=domain.state,
            observed_at=at,
            boot_id=domain.boot_id,
            migrating=desktop in self.leaving,
            stop_reason=domain.reason,
            spice=SpiceAddress(host=self.name, tls_port=port)
            if domain.state is DomainState.RUNNING
            else None,
        )

    def report(self, *, complete: bool = True) -> HostReport:
        """``host.report.v1``."""
        at = self._next_stamp()
        named = [*self.domains, *(one for one in self.refused if one not in self.domains)]
        return HostReport(
            node=self.name,
            agent_id=self.agent_id,
            address=f"{self.name}.example",
            sent_at=at,
            capabilities=HostCapabilities(
                cpus=self.cpus,
                memory_mib=self.memory_mib,
                virt_type="qemu",
                max_vcpus=self.max_vcpus,
            ),
            stats=HostStats(),
            domains=tuple(self.observe(one) for one in named) if complete else (),
            complete=complete,
        )

    def _next_stamp(self) -> datetime:
        now = self.clock.now() - self._behind
        if self._stamp is not None and now <= self._stamp:
            now = self._stamp + timedelta(microseconds=1)
        self._stamp = now
        return now


def disk_ready(
    disk: UUID,
    generation: int,
    *,
    template_id: UUID = TEMPLATE.id,
    template_version: int = TEMPLATE.version,
    storage: str = "/storage",
) -> DiskReady:
    """Imaging's word that this generation of a disk is there."""
    return DiskReady(
        disk_id=disk,
        generation=generation,
        path=f"{storage}/{disk}.{generation}.qcow2",
        virtual_bytes=1 << 30,
        template_id=template_id,
        template_version=template_version,
    )


def disk_refused(disk: UUID, generation: int, problem: Problem) -> DiskRefused:
    """Imaging's word that it cannot make it now."""
    return DiskRefused(disk_id=disk, generation=generation, problem=problem, retryable=True)


@dataclass
class FakeImaging:
    """Makes overlays, remembers the highest generation asked for."""

    refuses: Problem | None = None
    reached: dict[UUID, tuple[int, bool]] = field(default_factory=dict)
    commands: list[EnsureDisk] = field(default_factory=list)

    def take(self, command: EnsureDisk) -> DiskFact | None:
        """Apply a command; None where an older one changes nothing."""
        self.commands.append(command)
        disk, generation = command.disk_id, command.generation
        known, _ = self.reached.get(disk, (0, False))
        if generation < known:
            return None
        if command.present and self.refuses is not None and generation > known:
            return disk_refused(disk, generation, self.refuses)
        self.reached[disk] = (generation, command.present)
        if not command.present:
            return DiskDeleted(disk_id=disk, generation=generation)
        return disk_ready(
            disk,
            generation,
            template_id=command.template_id,
            template_version=command.template_version,
        )


def nodes(clock: Clock, names: Iterable[str], memory_mib: int = 8192) -> dict[str, FakeNode]:
    """Some nodes by name."""
    return {name: FakeNode(name, clock, memory_mib=memory_mib) for name in names}
