"""Hosts as they were last said to be, and alerts."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from roost_common import db
from roost_common.contracts.alert import AlertCleared, AlertRaised, Severity
from roost_common.contracts.host import (
    Health,
    HealthFact,
    HostDown,
    HostRecovered,
    HostSuspected,
    HostUp,
)
from roost_common.errors import Conflict
from roost_common.lease import add_lease_table
from roost_common.outbox import add_message_tables

_FACTS: dict[Health, type[HealthFact]] = {
    Health.UP: HostUp,
    Health.SUSPECTED: HostSuspected,
    Health.DOWN: HostDown,
    Health.RECOVERED: HostRecovered,
}


class Base(db.Base):
    """Base of ha-monitor's mapped classes."""

    __abstract__ = True
    metadata = db.new_metadata()


add_message_tables(Base.metadata)
add_lease_table(Base.metadata)


class Host(Base):
    """A node that has beaten; what the bus was last told of its health."""

    __tablename__ = "hosts"

    node: Mapped[str] = mapped_column(sa.String(253), primary_key=True)
    health: Mapped[Health | None] = mapped_column(
        sa.Enum(
            Health, native_enum=False, length=16, values_callable=lambda e: [m.value for m in e]
        )
    )
    """None once an administrator removed it. The row stays, so that the sequence goes on should
    the node come back."""
    sequence: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    since: Mapped[datetime]
    reason: Mapped[str] = mapped_column(sa.Text)
    probation: Mapped[bool] = mapped_column(default=False)
    libvirt: Mapped[bool] = mapped_column(default=True)
    last_beat_at: Mapped[datetime | None]

    def change(
        self, health: Health, sequence: int, since: datetime, reason: str, *, probation: bool
    ) -> HealthFact:
        """Its health changes; returns the event that says so.

        Raises `Conflict` (``ha.overtaken``) when somebody else changed it first.
        """
        if sequence != self.sequence + 1:
            raise Conflict("ha.overtaken", "Another copy changed {node} first.", node=self.node)
        self.health, self.sequence, self.since, self.reason = health, sequence, since, reason
        self.probation = probation
        return _FACTS[health](node=self.node, sequence=sequence, since=since, reason=reason)

    def remove(self, now: datetime, by: str) -> None:
        """Watch it no more. Raises `Conflict` (``ha.host-beats``) while it beats.

        The sequence grows although no event is sent: the copy that decides notices by it that it
        was overtaken.
        """
        if self.health in (Health.UP, Health.RECOVERED):
            raise Conflict(
                "ha.host-beats",
                "The agent of {node} still beats; stop it before removing the host.",
                node=self.node,
            )
        self.health = None
        self.sequence += 1
        self.since, self.reason, self.probation = now, f"Removed by {by}.", False


class Alert(Base):
    """Something a person should know: raised once, cleared when it is over."""

    __tablename__ = "alerts"
    __table_args__ = (
        sa.Index(
            "uq_alerts_open",
            "alert",
            "object",
            unique=True,
            postgresql_where=sa.text("cleared_at IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    alert: Mapped[str] = mapped_column(sa.String(64))
    object: Mapped[str] = mapped_column(sa.String(253))
    severity: Mapped[Severity] = mapped_column(
        sa.Enum(
            Severity, native_enum=False, length=16, values_callable=lambda e: [m.value for m in e]
        )
    )
    message: Mapped[str] = mapped_column(sa.Text)
    raised_at: Mapped[datetime] = mapped_column(index=True)
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by: Mapped[str | None] = mapped_column(sa.String(255))
    cleared_at: Mapped[datetime | None] = mapped_column(index=True)

    def acknowledge(self, by: str, now: datetime) -> None:
        """Somebody has seen it; the first to say so stays. Raises `Conflict` once it is over."""
        if self.cleared_at is not None:
            raise Conflict("alert.cleared", "This alert is over.")
        if self.acknowledged_at is None:
            self.acknowledged_at, self.acknowledged_by = now, by

    def raised(self) -> AlertRaised:
        """The event that says it began."""
        return AlertRaised(
            alert_id=self.id,
            alert=self.alert,
            object=self.object,
            severity=self.severity,
            message=self.message,
            at=self.raised_at,
        )

    def clear(self, now: datetime, message: str) -> AlertCleared:
        """It is over; returns the event that says so."""
        self.cleared_at = now
        return AlertCleared(
            alert_id=self.id,
            alert=self.alert,
            object=self.object,
            severity=self.severity,
            message=message,
            at=now,
        )
