"""What ha-monitor's HTTP interface answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from roost_common.contracts.alert import Severity
from roost_common.contracts.host import Health
from roost_common.http import ApiModel
from roost_ha_monitor.model import Alert, Arming, Host


class HostView(ApiModel):
    """A host's health."""

    node: str
    health: Health
    since: datetime
    sequence: int = Field(description="Grows with every change")
    reason: str
    libvirt: bool = Field(description="Whether libvirtd on it answered lately")
    last_beat_at: datetime | None

    @classmethod
    def of(cls, host: Host, heard_at: datetime | None) -> HostView:
        """The row, with a fresher last beat where this copy has heard one."""
        assert host.health is not None  # noqa: S101 - only watched hosts are shown
        times = [at for at in (host.last_beat_at, heard_at) if at is not None]
        return cls(
            node=host.node,
            health=host.health,
            since=host.since,
            sequence=host.sequence,
            reason=host.reason,
            libvirt=host.libvirt,
            last_beat_at=max(times, default=None),
        )


class AlertView(ApiModel):
    """Something a person should know."""

    id: UUID
    alert: str = Field(description="Dotted kind, the name of its runbook")
    object: str
    severity: Severity
    message: str
    raised_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    cleared_at: datetime | None

    @classmethod
    def of(cls, alert: Alert) -> AlertView:
        """The row."""
        return cls(
            id=alert.id,
            alert=alert.alert,
            object=alert.object,
            severity=alert.severity,
            message=alert.message,
            raised_at=alert.raised_at,
            acknowledged_at=alert.acknowledged_at,
            acknowledged_by=alert.acknowledged_by,
            cleared_at=alert.cleared_at,
        )


class LeaderView(ApiModel):
    """Which copy decides, and whether it may act."""

    holder: UUID | None = Field(description="None while nobody holds the lease")
    term: int | None
    expires_at: datetime | None
    answered_by: UUID = Field(description="The copy that gave this answer")
    armed: bool = Field(
        default=True, description="False: nothing is fenced, and no lease is granted that counts"
    )
    switched_by: str | None = Field(default=None, description="Who armed or disarmed it last")
    switched_at: datetime | None = None
    reason: str = ""


def standing(arming: Arming | None) -> dict[str, Any]:
    """`LeaderView`'s part about arming."""
    if arming is None:
        return {}
    return {
        "armed": not arming.disarmed,
        "switched_by": arming.by,
        "switched_at": arming.at,
        "reason": arming.reason,
    }


class DisarmRequest(ApiModel):
    """Why high availability is switched off."""

    reason: str = Field(default="", max_length=500)
