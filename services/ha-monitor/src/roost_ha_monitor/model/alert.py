"""An alert, open or over."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from roost_common.contracts.alert import AlertCleared, AlertRaised, Severity
from roost_common.errors import Conflict
from roost_ha_monitor.model.base import Base


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
