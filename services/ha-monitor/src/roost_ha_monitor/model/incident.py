"""An incident: one failure of one host, what was tried against it, and its desktops."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from roost_common.contracts.base import Event
from roost_common.contracts.host import FencedBy, FenceScope, HostFenced
from roost_common.contracts.incident import (
    IncidentChanged,
    IncidentOpened,
    IncidentResolved,
    IncidentState,
    Resolution,
)
from roost_common.errors import Conflict
from roost_ha_monitor.desktop_fate import Fate
from roost_ha_monitor.incident import Standing, retry_at
from roost_ha_monitor.model.base import Base, text_enum

UNFENCED = (IncidentState.FENCING, IncidentState.AWAITING_CONFIRMATION)
_SCOPES = {
    FencedBy.DEVICE: FenceScope.ALL,
    FencedBy.HUMAN: FenceScope.ALL,
    FencedBy.LEASE: FenceScope.RESTARTED,
}


class Incident(Base):
    """From the moment a host is down to the last of its desktops."""

    __tablename__ = "incidents"
    __table_args__ = (
        sa.Index(
            "uq_incidents_unfenced",
            "node",
            unique=True,
            postgresql_where=sa.text("state IN ('fencing', 'awaiting-confirmation')"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    node: Mapped[str] = mapped_column(sa.String(253), index=True)
    state: Mapped[IncidentState] = mapped_column(
        text_enum(IncidentState, 32), default=IncidentState.FENCING
    )
    detail: Mapped[str] = mapped_column(sa.Text, default="")
    noticed_at: Mapped[datetime] = mapped_column(index=True)
    last_heard_at: Mapped[datetime | None]
    agent_id: Mapped[UUID | None]
    """The run of its agent that is over once the host is fenced."""
    forced_by: Mapped[str | None] = mapped_column(sa.String(255))
    """The administrator who wanted it fenced without a failure."""
    rounds: Mapped[int] = mapped_column(default=0)
    retry_at: Mapped[datetime | None]
    fenced_by: Mapped[FencedBy | None] = mapped_column(text_enum(FencedBy))
    fenced_at: Mapped[datetime | None]
    confirmed_by: Mapped[str | None] = mapped_column(sa.String(255))
    lost_known: Mapped[bool] = mapped_column(default=False)
    """Inventory has said which desktops were on it."""
    kept: Mapped[int] = mapped_column(default=0, server_default="0")
    """How many more it may still run: its lease has ended only those that are restarted."""
    first_back_at: Mapped[datetime | None]
    all_back_at: Mapped[datetime | None]
    resolved_at: Mapped[datetime | None] = mapped_column(index=True)
    resolution: Mapped[Resolution | None] = mapped_column(text_enum(Resolution))

    @property
    def standing(self) -> Standing:
        """What `incident.decide` needs of it."""
        return Standing(self.forced_by is not None, self.rounds, self.retry_at)

    @property
    def unfenced(self) -> bool:
        """Whether the host may still run what it ran."""
        return self.state in UNFENCED

    @property
    def unsure(self) -> bool:
        """Whether a person can still add to what is sure; a lease ends only what is restarted."""
        return self.unfenced or self.fenced_by is FencedBy.LEASE

    def opened(self) -> IncidentOpened:
        """The event that says it began."""
        return IncidentOpened(
            incident_id=self.id,
            node=self.node,
            noticed_at=self.noticed_at,
            last_heard_at=self.last_heard_at,
        )

    def stand(self, state: IncidentState, detail: str) -> IncidentChanged | None:
        """It stands there now; the event, where that is somewhere else."""
        moved = state is not self.state
        self.state, self.detail = state, detail
        return self._changed() if moved else None

    def force(self, by: str) -> None:
        """An administrator wants the host switched off now, whether it beats or not."""
        self.forced_by, self.rounds, self.retry_at = by, 0, None

    def round_failed(self, now: datetime) -> None:
        """No device could do it this time."""
        self.rounds += 1
        self.retry_at = retry_at(self.rounds, now)

    def fence(self, by: FencedBy, now: datetime, detail: str) -> list[Event]:
        """It is sure that the host's desktops do not run; returns what to say.

        Where a person makes surer what its lease has begun, its desktops are waited for again.
        Raises `Conflict` (``incident.over``) where that was not asked any more.
        """
        if not (self.unsure if by is FencedBy.HUMAN else self.unfenced):
            raise Conflict("incident.over", "{node} is fenced, or need not be.", node=self.node)
        self.fenced_by, self.fenced_at = by, now
        self.state, self.detail = IncidentState.RECOVERING, detail
        self.lost_known, self.resolved_at, self.resolution = False, None, None
        fenced = HostFenced(
            node=self.node,
            incident_id=self.id,
            by=by,
            scope=_SCOPES[by],
            agent_id=self.agent_id,
            at=now,
        )
        return [fenced, self._changed()]

    def resolve(
        self,
        resolution: Resolution,
        now: datetime,
        detail: str,
        *,
        back: int = 0,
        given_up: int = 0,
    ) -> IncidentResolved:
        """It is over."""
        self.state, self.resolution = IncidentState.RESOLVED, resolution
        self.resolved_at, self.detail = now, detail
        return IncidentResolved(
            incident_id=self.id,
            node=self.node,
            resolution=resolution,
            restarted=back,
            given_up=given_up,
            noticed_at=self.noticed_at,
            fenced_at=self.fenced_at,
            first_back_at=self.first_back_at,
            all_back_at=self.all_back_at,
        )

    def _changed(self) -> IncidentChanged:
        return IncidentChanged(
            incident_id=self.id,
            node=self.node,
            state=self.state,
            fenced_by=self.fenced_by,
            detail=self.detail,
        )


class FencingAttempt(Base):
    """One fence device told to switch the host off."""

    __tablename__ = "fencing_attempts"

    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    incident_id: Mapped[UUID] = mapped_column(
        sa.ForeignKey("incidents.id", ondelete="CASCADE"), index=True
    )
    position: Mapped[int]
    agent: Mapped[str] = mapped_column(sa.String(64))
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    """None: under way, or the copy that tried it ended meanwhile."""
    fenced: Mapped[bool] = mapped_column(default=False)
    outcome: Mapped[str] = mapped_column(sa.Text, default="")
    """In words."""


class LostDesktop(Base):
    """A desktop that inventory took off the fenced host."""

    __tablename__ = "lost_desktops"

    incident_id: Mapped[UUID] = mapped_column(
        sa.ForeignKey("incidents.id", ondelete="CASCADE"), primary_key=True
    )
    desktop_id: Mapped[UUID] = mapped_column(primary_key=True, index=True)
    name: Mapped[str] = mapped_column(sa.String(63))
    revision: Mapped[int] = mapped_column(sa.BigInteger)
    restart: Mapped[bool]
    priority: Mapped[int]
    fate: Mapped[Fate] = mapped_column(text_enum(Fate), default=Fate.WAITING)
    reason: Mapped[str] = mapped_column(sa.Text, default="")
    settled_at: Mapped[datetime | None]
