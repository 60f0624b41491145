"""Reading domains: one bulk call for what changes, the XML only after an event.

`DomainReader.read` blocks and runs in the connection's threads; the rest may be called on the
event loop meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

import libvirt

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import DomainState, DomainStats, GuestInfo, SpiceClient
from roost_host_agent.hypervisor import domain_facts, domain_stats, passage, spice_display
from roost_host_agent.hypervisor.domain_facts import DomainFacts
from roost_host_agent.hypervisor.domain_stats import CpuSample, Params
from roost_host_agent.hypervisor.driver import DomainView, Mark
from roost_host_agent.hypervisor.passage import Passage

CLIENTS_MAX_AGE_S: Final = 30.0
"""Graphics events make it fast, this makes it right."""
_STATS: Final = (
    libvirt.VIR_DOMAIN_STATS_STATE
    | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
    | libvirt.VIR_DOMAIN_STATS_BLOCK
)
# A domain that is busy (starting, stuck on storage) tells less instead of holding up the rest.
_NOWAIT: Final = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT

GuestFacts = Callable[[UUID, UUID], GuestInfo | None]
"""What the guest of this desktop in this run has told."""


class DomainReader:
    """What is known of one libvirtd's domains between two calls; none of it must be kept."""

    def __init__(self, address: str, guest: GuestFacts) -> None:
        self._address = address
        self._guest = guest
        self._lock = threading.Lock()
        """Over the next four: events come on the event loop, looks end in threads."""
        self._facts: dict[UUID, tuple[int, DomainFacts | None]] = {}
        self._latest = 0
        """The number of the latest event. Numbers only grow, so that none is met twice."""
        self._changes: dict[UUID, int] = {}
        """The latest event of each domain that is known to be here."""
        self._pruned = 0
        """No event of a domain that is not in ``_changes`` has a higher number."""
        self._clients: dict[UUID, tuple[UUID, float, tuple[SpiceClient, ...]]] = {}
        self._cpu: dict[UUID, CpuSample] = {}
        self.running: dict[UUID, UUID] = {}
        """Desktops that ran at the last look, with the run's ``boot_id``."""
        self.stalled: frozenset[UUID] = frozenset()
        """Desktops that were paused by an error of their storage at the last look."""

    def forget(self, desktop_id: UUID | None = None) -> None:
        """An event says that this domain, or any, is not what it was."""
        with self._lock:
            self._latest += 1
            if desktop_id is None:
                self._pruned = self._latest
                self._changes.clear()
                self._facts.clear()
                self._clients.clear()
            else:
                self._changes[desktop_id] = self._latest
                self._facts.pop(desktop_id, None)

    def read(
        self, conn: libvirt.virConnect, desktop_id: UUID | None = None
    ) -> tuple[DomainView, ...]:
        """Views of all domains of Roost, or of one."""
        if desktop_id is None:
            records = conn.getAllDomainStats(_STATS, _NOWAIT)
        else:
            domain = find(conn, desktop_id)
            records = [] if domain is None else conn.domainListGetStats([domain], _STATS, _NOWAIT)
        views = [
            view
            for domain, params in records
            if (view := self._view(conn, domain, params, alone=desktop_id is not None)) is not None
        ]
        if desktop_id is None:
            self._remember(views)
        return tuple(views)

    def facts(self, domain: libvirt.virDomain) -> DomainFacts | None:
        """What the domain's XML says, read again only when it may have changed."""
        desktop_id, run = UUID(domain.UUIDString()), domain.ID()
        known = self._facts.get(desktop_id)
        if known is not None and known[0] == run:
            return known[1]
        begun = self._latest
        facts = domain_facts.from_xml(domain.XMLDesc(0))
        with self._lock:
            # Not over an event: it may be of what this look was too early to see.
            if self._changes.get(desktop_id, self._pruned) <= begun:
                self._facts[desktop_id] = (run, facts)
        return facts

    def _view(
        self, conn: libvirt.virConnect, domain: libvirt.virDomain, params: Params, *, alone: bool
    ) -> DomainView | None:
        try:
            facts = self.facts(domain)
            if facts is None:
                return None
            way = self._passage(domain, params, facts.mark)
            if way is None and passage.state_of(params) in passage.HELD:
                # Its state is older than the answer that there is no job: it may have been let go.
                params = {**params, **domain_stats.state_now(domain)}
                way = self._passage(domain, params, facts.mark)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None  # it went while we looked
            raise
        mark, state = facts.mark, domain_stats.state(params)
        if way in _ELSEWHERE:
            return None
        if way is Passage.LEAVING:
            state = DomainState.RUNNING  # held for the last moment, or not yet
        if state is DomainState.SHUTOFF:
            reason = domain_stats.stop_reason(params, asked=mark.stop_by is not None)
            return DomainView(mark=mark, state=state, stop_reason=reason)
        return DomainView(
            mark=mark,
            state=state,
            spice=facts.spice(self._address),
            clients=self._clients_of(conn, domain, mark, alone=alone),
            guest=self._guest(mark.desktop_id, mark.boot_id),
            stats=None if alone else self._usage(mark.desktop_id, params, facts.vcpus),
            problem=_STALLED if domain_stats.paused_by_storage(params) else None,
            migrating=way is Passage.LEAVING,
        )

    def _passage(self, domain: libvirt.virDomain, params: Params, mark: Mark) -> Passage | None:
        try:
            return passage.of(domain, passage.state_of(params), marked=mark.migration is not None)
        except libvirt.libvirtError:
            # Its monitor is busy. What is held for a migration is no news before it is let go.
            return Passage.ARRIVING if passage.state_of(params) in passage.HELD else None

    def _usage(self, desktop_id: UUID, params: Params, vcpus: int) -> DomainStats | None:
        if "cpu.time" not in params:
            return None
        current = domain_stats.cpu_sample(params, time.monotonic())
        before, self._cpu[desktop_id] = self._cpu.get(desktop_id), current
        return domain_stats.usage(params, vcpus, before, current)

    def _clients_of(
        self, conn: libvirt.virConnect, domain: libvirt.virDomain, mark: Mark, *, alone: bool
    ) -> tuple[SpiceClient, ...]:
        if conn.getType() != "QEMU":
            return ()
        now = time.monotonic()
        boot_id, at, known = self._clients.get(mark.desktop_id, (None, 0.0, ()))
        fresh = boot_id == mark.boot_id and now - at < CLIENTS_MAX_AGE_S
        if fresh and not alone:
            return known
        try:
            found = spice_display.clients(domain)
        except libvirt.libvirtError:
            # It ended meanwhile, or its monitor is busy: the next look is soon enough.
            return known if boot_id == mark.boot_id else ()
        self._clients[mark.desktop_id] = (mark.boot_id, now, found)
        return found

    def _remember(self, views: list[DomainView]) -> None:
        present = {view.mark.desktop_id for view in views}
        for known in (self._clients, self._cpu):
            for desktop_id in known.keys() - present:
                known.pop(desktop_id, None)
        with self._lock:
            for desktop_id in self._changes.keys() - present:
                # A look that began before this event may still be going on.
                self._pruned = max(self._pruned, self._changes.pop(desktop_id))
        self.running = {
            view.mark.desktop_id: view.mark.boot_id
            for view in views
            if view.state is DomainState.RUNNING
        }
        self.stalled = frozenset(v.mark.desktop_id for v in views if v.problem is _STALLED)


_ELSEWHERE: Final = (Passage.ARRIVING, Passage.LEFT)
_STALLED: Final = Problem(
    code="desktop.storage-error",
    detail="The guest is paused because its storage failed; it is continued by itself.",
)


def find(conn: libvirt.virConnect, desktop_id: UUID) -> libvirt.virDomain | None:
    """The desktop's domain; None when it is absent."""
    try:
        return conn.lookupByUUID(desktop_id.bytes)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise
