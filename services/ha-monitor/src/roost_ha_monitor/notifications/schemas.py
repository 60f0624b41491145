"""What the HTTP interface of channels takes and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from roost_common.contracts.alert import Severity
from roost_common.http import ApiModel, NoId
from roost_ha_monitor.notifications.model import Channel, Notification, State
from roost_ha_monitor.notifications.notice import About
from roost_ha_monitor.notifications.targets import AnyTarget, Kind, engine_id

Pattern = Annotated[
    str, StringConstraints(min_length=1, max_length=64, pattern=r"^[a-z0-9.*?\[\]!-]+$")
]


class ChannelWanted(ApiModel):
    """Who is to be told of what, and how."""

    name: Annotated[
        str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$"), NoId
    ]
    min_severity: Severity = Severity.WARNING
    alerts: Annotated[
        list[Pattern],
        Field(min_length=1, max_length=100, description="Shell patterns of names of alerts"),
    ] = ["*"]
    repeat_after_s: Annotated[
        int,
        Field(
            ge=0,
            le=30 * 86400,
            description="Seconds until an alert of the highest severity that nobody acknowledged "
            "is told again; 0: never",
        ),
    ] = 0
    target: AnyTarget


class ChannelView(ApiModel):
    """A channel, without its secrets."""

    id: UUID
    name: str
    kind: Kind
    min_severity: Severity
    alerts: list[str]
    repeat_after_s: int
    target: dict[str, Any]
    secrets: list[str] = Field(description="Which secrets are set")
    snmp_engine_id: str | None = Field(
        description="Of SNMPv3, in hex: what a receiver of traps must know of their sender"
    )

    @classmethod
    def of(cls, channel: Channel) -> ChannelView:
        """The row."""
        v3 = channel.kind is Kind.SNMP and channel.target["version"] == "3"
        return cls(
            id=channel.id,
            name=channel.name,
            kind=channel.kind,
            min_severity=channel.min_severity,
            alerts=channel.alerts,
            repeat_after_s=channel.repeat_after_s,
            target=channel.target,
            secrets=channel.secret_names,
            snmp_engine_id=engine_id(channel.id).hex() if v3 else None,
        )


class NotificationView(ApiModel):
    """One thing that is to be told, or was."""

    id: int
    channel_id: UUID
    channel: str
    about: About
    number: int = Field(description="Of a reminder, from 1")
    alert_id: UUID
    alert: str
    object: str
    severity: Severity
    state: State
    attempts: int
    created_at: datetime
    next_at: datetime | None = Field(description="When it is tried again, while it waits")
    finished_at: datetime | None
    last_error: str | None

    @classmethod
    def of(cls, notification: Notification, channel: str) -> NotificationView:
        """The row."""
        waits = notification.state is State.WAITING
        return cls(
            id=notification.id,
            channel_id=notification.channel_id,
            channel=channel,
            about=notification.about,
            number=notification.number,
            alert_id=notification.alert_id,
            alert=notification.alert,
            object=notification.object,
            severity=notification.severity,
            state=notification.state,
            attempts=notification.attempts,
            created_at=notification.created_at,
            next_at=notification.next_at if waits else None,
            finished_at=notification.finished_at,
            last_error=notification.last_error,
        )
