"""A host: what it can do, what was decided about it, and whether it lives."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import String
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, mapped_column

from roost_common.contracts.desktop import DomainState
from roost_common.contracts.host import (
    Health,
    HostCapabilities,
    HostPower,
    HostReport,
    HostState,
    HostStats,
)
from roost_common.errors import Conflict
from roost_inventory.evacuation_plan import Evacuation
from roost_inventory.model.base import Base, Json, word
from roost_inventory.model.cluster import DEFAULT_ID
from roost_inventory.model.host_power import Powered

LATE: Final = timedelta(minutes=1)
"""Far longer than a report is on its way: a run that still reports after this is the present one,
in whatever order the first words of the two came."""
RETIRED_KEPT: Final = 8
_NEXT: Final = timedelta(microseconds=1)


class Administrative(StrEnum):
    """What people decided about a host; no event of its health touches this."""

    PENDING = "pending"
    ACTIVE = "active"
    PREPARING = "preparing"
    """It is to be in maintenance when it is empty."""
    MAINTENANCE = "maintenance"


_HEALTH_STATE: Final = {
    Health.UP: HostState.UP,
    Health.SUSPECTED: HostState.NON_RESPONSIVE,
    Health.DOWN: HostState.DOWN,
    # It beats again and is watched: not trusted with anything before ha-monitor says up.
    Health.RECOVERED: HostState.NON_RESPONSIVE,
    Health.OFF: HostState.OFF,
}

_SET_ASIDE: Final = {
    Administrative.MAINTENANCE: HostState.MAINTENANCE,
    Administrative.PREPARING: HostState.PREPARING_MAINTENANCE,
}


def derive(
    administrative: Administrative, health: Health, power: HostPower = HostPower.ON
) -> HostState:
    """The one state a person sees. A pending host is nothing else; trouble outranks maintenance."""
    if administrative is Administrative.PENDING:
        return HostState.PENDING_APPROVAL
    if health is Health.UP and power is HostPower.OFF:
        return HostState.OFF  # it may go at any moment
    if health is Health.UP and administrative in _SET_ASIDE:
        return _SET_ASIDE[administrative]
    return _HEALTH_STATE[health]


class Host(Powered, Base):
    """A node that has reported itself."""

    __tablename__ = "hosts"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(String(253), unique=True)
    cluster_id: Mapped[UUID] = mapped_column(sa.ForeignKey("clusters.id"), index=True)
    administrative: Mapped[Administrative] = mapped_column(word(Administrative))
    health: Mapped[Health] = mapped_column(word(Health))
    state: Mapped[HostState] = mapped_column(word(HostState))
    address: Mapped[str] = mapped_column(String(253))
    capabilities: Mapped[HostCapabilities] = mapped_column(Json(HostCapabilities))
    stats: Mapped[HostStats] = mapped_column(Json(HostStats))
    cpus: Mapped[int]
    memory_mib: Mapped[int]
    max_vcpus: Mapped[int]
    spice: Mapped[bool]
    """These four of its capabilities are columns too: placement reads those of every host."""
    agent_id: Mapped[UUID]
    agent_since: Mapped[datetime]
    """When this run of its agent was first heard of."""
    retired_agents: Mapped[list[UUID]] = mapped_column(postgresql.ARRAY(sa.Uuid))
    """Earlier runs, the latest last."""
    fenced: Mapped[bool]
    """It was fenced, and has not been seen free of what belongs elsewhere since."""
    fenced_agent: Mapped[UUID | None]
    """The run of its agent that ended with it."""
    reported_at: Mapped[datetime]
    """Of a recent report; not written for each."""
    evacuation: Mapped[Evacuation | None] = mapped_column(Json(Evacuation))
    """While it is prepared for maintenance."""
    decided_at: Mapped[datetime | None]
    """Orders what people decided about it, for those who are told; it only grows."""
    created_at: Mapped[datetime]
    approved_at: Mapped[datetime | None]

    @classmethod
    def enrolled(cls, report: HostReport, health: Health, now: datetime) -> Host:
        """A host as its first report makes it: waiting for approval."""
        host = cls(
            id=uuid4(),
            name=report.node,
            cluster_id=DEFAULT_ID,
            power=HostPower.ON,
            power_order=0,
            power_asked_at=None,
            power_refused_at=None,
            administrative=Administrative.PENDING,
            health=health,
            state=HostState.PENDING_APPROVAL,
            agent_id=report.agent_id,
            agent_since=now,
            retired_agents=[],
            fenced=False,
            fenced_agent=None,
            evacuation=None,
            decided_at=None,
            created_at=now,
            approved_at=None,
        )
        host.note_report(report, now)
        return host

    # --- what people decide -------------------------------------------------------------------

    def approve(self, now: datetime) -> bool:
        """Let it take desktops; False when that was decided before."""
        if self.administrative is not Administrative.PENDING:
            return False
        self.approved_at = now
        self._decide(Administrative.ACTIVE, now)
        return True

    def prepare_maintenance(self, now: datetime) -> bool:
        """No new desktops, and those it has are to leave it; False when it was so before.

        Raises `Conflict` while pending.
        """
        self._require_approved()
        if self.administrative in _SET_ASIDE:
            return False
        self.evacuation = Evacuation(since=now)
        self._decide(Administrative.PREPARING, now)
        return True

    def enter_maintenance(self, now: datetime) -> bool:
        """It is empty, and may be switched off; False when nobody prepares it."""
        if self.administrative is not Administrative.PREPARING:
            return False
        self.evacuation = None
        self._decide(Administrative.MAINTENANCE, now)
        return True

    def activate(self, now: datetime) -> bool:
        """Take desktops again; False when it did before. Raises `Conflict` while pending."""
        self._require_approved()
        if self.administrative is Administrative.ACTIVE:
            return False
        self.evacuation = None
        self._decide(Administrative.ACTIVE, now)
        return True

    def date_decision(self, now: datetime) -> None:
        """What was decided before decisions had a date can be told of as well."""
        if self.decided_at is None:
            self.decided_at = now

    def require_removable(self, desktops: int) -> None:
        """Raises `Conflict` while it carries desktops, or is in service."""
        if desktops:
            raise Conflict(
                "host.has-desktops", "{host} carries {n} desktops.", host=self.name, n=desktops
            )
        if self.state is HostState.UP:
            raise Conflict(
                "host.in-service",
                "{host} is up; put it into maintenance before it is removed.",
                host=self.name,
            )

    def _require_approved(self) -> None:
        if self.administrative is Administrative.PENDING:
            raise Conflict("host.not-approved", "{host} waits for approval.", host=self.name)

    def _decide(self, administrative: Administrative, now: datetime) -> None:
        self.administrative = administrative
        # Later than before, whatever the clock says of the copy that decides.
        earlier = self.decided_at
        self.decided_at = now if earlier is None else max(now, earlier + _NEXT)
        self.derive_state()

    # --- what is seen -------------------------------------------------------------------------

    def note_health(self, health: Health, switched: HostPower | None = None) -> None:
        """What ha-monitor says; order is the caller's business."""
        before, self.health = self.health, health
        self.note_power(before, switched)
        self.derive_state()

    def derive_state(self) -> None:
        """Bring the stored state up to the facts."""
        self.state = derive(self.administrative, self.health, self.power)

    def hear(self, agent_id: UUID, now: datetime) -> bool:
        """A run of its agent reports; False when its successor is known and this is a late word.

        Which run is the present one is told by the order in which they were first heard, never by
        the node's clock.
        """
        if agent_id == self.agent_id:
            return True
        if agent_id in self.retired_agents and now - self.agent_since < LATE:
            return False
        others = [one for one in self.retired_agents if one != agent_id]
        self.retired_agents = [*others, self.agent_id][-RETIRED_KEPT:]
        self.agent_id, self.agent_since = agent_id, now
        return True

    def note_report(self, report: HostReport, now: datetime) -> None:
        """What the node says of itself; of the present run of its agent."""
        self.address = report.address
        self.capabilities = can = report.capabilities
        self.cpus, self.memory_mib = can.cpus, can.memory_mib
        self.max_vcpus, self.spice = can.max_vcpus, can.spice
        self.stats = report.stats
        there = [one for one in report.domains if one.state is not DomainState.ABSENT]
        self.domains = len(there) if report.complete else None
        self.reported_at = now

    def note_fenced(self, agent_id: UUID | None) -> None:
        """It gets nothing until `note_clear`."""
        self.fenced, self.fenced_agent = True, agent_id

    def note_clear(self, agent_id: UUID) -> bool:
        """A complete report of this run of its agent names nothing that belongs elsewhere.

        True when that makes it usable again; the run that was fenced cannot say so.
        """
        if not self.fenced or agent_id == self.fenced_agent:
            return False
        self.fenced, self.fenced_agent = False, None
        return True

    @property
    def usable(self) -> bool:
        """Whether it takes new desktops."""
        return self.state is HostState.UP and not self.fenced

    @property
    def reachable(self) -> bool:
        """Whether what runs on it counts as known."""
        return self.health is Health.UP
