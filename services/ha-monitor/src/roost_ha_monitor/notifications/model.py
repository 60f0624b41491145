"""Channels, and what is to be told over them."""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, mapped_column

from roost_common.contracts.alert import Severity
from roost_common.errors import Invalid
from roost_ha_monitor.model import Base
from roost_ha_monitor.notifications.backoff import Backoff
from roost_ha_monitor.notifications.notice import About, Notice, Undelivered
from roost_ha_monitor.notifications.targets import (
    TARGET,
    EmailTarget,
    Kind,
    SnmpTarget,
    Target,
    WebhookTarget,
    missing_secret,
)
from roost_ha_monitor.sealed import Sealer


def _enum(kind: type[StrEnum]) -> sa.Enum:
    return sa.Enum(
        kind, native_enum=False, length=16, values_callable=lambda e: [m.value for m in e]
    )


class State(StrEnum):
    """How far a notification is."""

    WAITING = "waiting"
    SENT = "sent"
    GIVEN_UP = "given-up"
    DROPPED = "dropped"
    """It was over before anybody had been told."""


class Channel(Base):
    """Somebody who is told of alerts, and how."""

    __tablename__ = "channels"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    kind: Mapped[Kind] = mapped_column(_enum(Kind))
    min_severity: Mapped[Severity] = mapped_column(_enum(Severity))
    alerts: Mapped[list[str]] = mapped_column(postgresql.JSONB)
    repeat_after_s: Mapped[int]
    target: Mapped[dict[str, Any]] = mapped_column(postgresql.JSONB)
    """What may be seen of where it leads."""
    secrets: Mapped[bytes | None]
    """The rest, sealed: JSON, field by field."""
    secret_names: Mapped[list[str]] = mapped_column(postgresql.JSONB)

    def lead_to(self, wanted: Target, sealer: Sealer) -> None:
        """Take a new target. Secrets that it does not mention stay, where nobody else sees them.

        Raises `Invalid` (``channel.secret-missing``) and what the sealer raises.
        """
        target = self._with_kept(wanted, sealer)
        missing = missing_secret(target)
        if missing is not None:
            raise Invalid(
                "channel.secret-missing",
                "This target needs its {field}; one that was given is not kept for another place.",
                field=missing,
            )
        secrets = target.secrets()
        self.kind = target.kind  # type: ignore[attr-defined]  # every concrete target has one
        self.target = target.public()
        self.secret_names = sorted(secrets)
        self.secrets = sealer.seal(json.dumps(secrets).encode()) if secrets else None

    def opened(self, sealer: Sealer) -> EmailTarget | WebhookTarget | SnmpTarget:
        """The whole target. Raises what the sealer raises."""
        secrets = json.loads(sealer.unseal(self.secrets)) if self.secrets is not None else {}
        return TARGET.validate_python({**self.target, **secrets})

    def _with_kept(self, wanted: Target, sealer: Sealer) -> Target:
        forgotten = [name for name in wanted.SECRETS if name not in wanted.model_fields_set]
        if self.secrets is None or not set(forgotten) & set(self.secret_names):
            return wanted
        old = self.opened(sealer)
        if type(old) is not type(wanted) or old.destination != wanted.destination:
            return wanted
        return wanted.model_copy(update={name: getattr(old, name) for name in forgotten})


class Notification(Base):
    """One thing to tell over one channel. It outlives neither its channel nor its time."""

    __tablename__ = "notifications"
    __table_args__ = (
        # What makes sure that two copies do not both remind of the same.
        sa.UniqueConstraint("alert_id", "channel_id", "about", "number"),
        sa.Index(
            "ix_notifications_waiting",
            "channel_id",
            "next_at",
            postgresql_where=sa.text("state = 'waiting'"),
        ),
    )

    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    # No foreign key: whoever raises an alert waits for nobody who changes a channel.
    channel_id: Mapped[UUID] = mapped_column(index=True)
    about: Mapped[About] = mapped_column(_enum(About))
    number: Mapped[int]
    alert_id: Mapped[UUID]
    alert: Mapped[str] = mapped_column(sa.String(64))
    object: Mapped[str] = mapped_column(sa.String(253))
    severity: Mapped[Severity] = mapped_column(_enum(Severity))
    message: Mapped[str] = mapped_column(sa.Text)
    since: Mapped[datetime]
    at: Mapped[datetime]

    state: Mapped[State] = mapped_column(_enum(State))
    attempts: Mapped[int]
    maybe_arrived: Mapped[bool]
    """Whether a try that did not end well may have reached somebody all the same."""
    claimed_until: Mapped[datetime | None]
    """Until then a copy is at it; nobody else is."""
    created_at: Mapped[datetime]
    next_at: Mapped[datetime]
    finished_at: Mapped[datetime | None] = mapped_column(index=True)
    last_error: Mapped[str | None] = mapped_column(sa.Text)

    @classmethod
    def of(cls, notice: Notice, channel_id: UUID, now: datetime) -> Notification:
        """To be told over this channel, as soon as may be."""
        return cls(
            channel_id=channel_id,
            **vars(notice),
            state=State.WAITING,
            attempts=0,
            maybe_arrived=False,
            created_at=now,
            next_at=now,
        )

    @property
    def notice(self) -> Notice:
        """What is to be told."""
        return Notice(
            self.about,
            self.number,
            self.alert_id,
            self.alert,
            self.object,
            self.severity,
            self.message,
            self.since,
            self.at,
        )

    def claim(self, until: datetime) -> None:
        """A copy begins a try. Of one whose time ran out nobody knows whether it went out."""
        self.maybe_arrived = self.maybe_arrived or self.claimed_until is not None
        self.attempts += 1
        self.claimed_until = until

    def sent(self, now: datetime) -> None:
        """The other end took it."""
        self.state, self.finished_at = State.SENT, now
        self.claimed_until = self.last_error = None

    def failed(self, error: Undelivered, now: datetime, backoff: Backoff) -> None:
        """The try failed: another one later, or the end."""
        self.claimed_until = None
        self.last_error = error.detail
        self.maybe_arrived = self.maybe_arrived or error.maybe
        at = backoff.next_try(self.attempts, self.created_at, now)
        if at is None:
            self.state, self.finished_at = State.GIVEN_UP, now
        else:
            self.next_at = at

    def drop(self, now: datetime) -> None:
        """Nobody needs to be told any more. A claim that ran out may have told somebody."""
        self.maybe_arrived = self.maybe_arrived or self.claimed_until is not None
        self.state, self.finished_at, self.claimed_until = State.DROPPED, now, None
