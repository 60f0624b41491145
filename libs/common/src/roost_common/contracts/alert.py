"""Alerts: something a person should know, raised once and cleared when it is over."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from pydantic import Field

from roost_common.contracts.base import Event, Timestamp


class Severity(StrEnum):
    """How much a person should care."""

    NORMAL = "normal"
    WARNING = "warning"
    ERROR = "error"
    ALERT = "alert"


class AlertFact(Event):
    """What alert events carry."""

    alert_id: UUID
    alert: str = Field(description="Dotted kind, the name of its runbook: host.down")
    object: str = Field(description="What it is about, by name")
    severity: Severity
    message: str
    at: Timestamp

    @property
    def subject(self) -> str:
        return self.object


class AlertRaised(AlertFact, name="alert.raised.v1"):
    """Raised once, however long it lasts."""


class AlertCleared(AlertFact, name="alert.cleared.v1"):
    """It is over."""
