"""Sessions and pools, as broker publishes them."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from pydantic import Field

from roost_common.contracts.base import Event


class SessionState(StrEnum):
    """A user's hold on a desktop."""

    PENDING = "pending"
    """The ticket is out, the client has not come yet."""
    ACTIVE = "active"
    DISCONNECTED = "disconnected"
    ENDED = "ended"


class EndReason(StrEnum):
    """Why a session ended."""

    LOGGED_OFF = "logged-off"
    GUEST_SHUTDOWN = "guest-shutdown"
    DESKTOP_STOPPED = "desktop-stopped"
    DESKTOP_DELETED = "desktop-deleted"
    NEVER_CONNECTED = "never-connected"
    DISCONNECTED_TOO_LONG = "disconnected-too-long"


class SessionFact(Event):
    """What events about a session carry."""

    session_id: UUID
    user: str
    desktop_id: UUID
    desktop_name: str
    pool: str | None = None
    revision: int = Field(ge=1)

    @property
    def subject(self) -> str:
        return str(self.session_id)


class SessionRequested(SessionFact, name="session.requested.v1"):
    """A user got a desktop and a ticket for its screen."""

    client_name: str = ""
    client_address: str = ""


class SessionConnected(SessionFact, name="session.connected.v1"):
    """A SPICE client opened the screen."""

    client_address: str = ""


class SessionDisconnected(SessionFact, name="session.disconnected.v1"):
    """The last SPICE client left; the desktop stays the user's."""


class SessionEnded(SessionFact, name="session.ended.v1"):
    """The desktop is no longer the user's."""

    reason: EndReason


class PoolChanged(Event, name="pool.changed.v1"):
    """A pool was created, changed or deleted."""

    pool_id: UUID
    pool_name: str
    deleted: bool = False
    revision: int = Field(ge=1)

    @property
    def subject(self) -> str:
        return str(self.pool_id)
