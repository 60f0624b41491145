"""Incidents: a host's failure from the first suspicion to the last desktop that is back."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from roost_common.contracts.base import Event, Timestamp
from roost_common.contracts.host import FencedBy, NodeName


class IncidentState(StrEnum):
    """Where an incident stands."""

    FENCING = "fencing"
    """Its host is down, and it is being made sure that its desktops do not run."""
    AWAITING_CONFIRMATION = "awaiting-confirmation"
    """Nothing could make sure of it: a person is needed, and nothing is restarted."""
    RECOVERING = "recovering"
    """Fenced; its desktops are on their way."""
    RESOLVED = "resolved"


class Resolution(StrEnum):
    """How an incident ended."""

    RECOVERED = "recovered"
    """Every desktop that is to be restarted runs again."""
    PARTLY = "partly"
    """Some were given up; the incident says which and why."""
    FALSE_ALARM = "false-alarm"
    """The host beat again before it was fenced: nothing was touched."""
    CAME_BACK = "came-back"
    """The host was started anew before it was fenced; inventory restarts what went with it."""


class IncidentFact(Event):
    """What events about an incident carry."""

    incident_id: UUID
    node: NodeName

    @property
    def subject(self) -> str:
        return str(self.incident_id)


class IncidentOpened(IncidentFact, name="incident.opened.v1"):
    """A host is down."""

    noticed_at: Timestamp
    last_heard_at: Timestamp | None = None


class IncidentChanged(IncidentFact, name="incident.changed.v1"):
    """It stands elsewhere now."""

    state: IncidentState
    fenced_by: FencedBy | None = None
    detail: str = ""


class IncidentResolved(IncidentFact, name="incident.resolved.v1"):
    """It is over."""

    resolution: Resolution
    restarted: int = 0
    given_up: int = 0
    noticed_at: Timestamp
    fenced_at: Timestamp | None = None
    first_back_at: Timestamp | None = None
    all_back_at: Timestamp | None = None
