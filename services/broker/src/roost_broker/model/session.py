"""A user's hold on a desktop."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from roost_broker.model.base import Base
from roost_common.contracts.session import (
    EndReason,
    SessionConnected,
    SessionDisconnected,
    SessionEnded,
    SessionState,
)
from roost_common.errors import Conflict

NEXT: Final = {
    SessionState.PENDING: {SessionState.ACTIVE, SessionState.ENDED},
    SessionState.ACTIVE: {SessionState.DISCONNECTED, SessionState.ENDED},
    SessionState.DISCONNECTED: {SessionState.ACTIVE, SessionState.ENDED},
    SessionState.ENDED: set[SessionState](),
}
"""Which state may follow which."""
_OPEN = sa.text("state <> 'ended'")


class Session(Base):
    """One user on one run of one desktop. Names are kept, so that history can be read."""

    __tablename__ = "sessions"
    __table_args__ = (
        # The last line of defence: a desktop is never given twice.
        sa.Index("uq_sessions_open_desktop", "desktop_id", unique=True, postgresql_where=_OPEN),
        sa.Index("ix_sessions_open_boot", "boot_id", postgresql_where=_OPEN),
        sa.Index("ix_sessions_open_user", "user_id", "pool_id", postgresql_where=_OPEN),
        sa.Index("ix_sessions_user_id_created_at", "user_id", "created_at", "id"),
        sa.Index("ix_sessions_created_at", "created_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    user_name: Mapped[str] = mapped_column(sa.String(64))
    pool_id: Mapped[UUID]
    pool_name: Mapped[str] = mapped_column(sa.String(50))
    desktop_id: Mapped[UUID]
    desktop_name: Mapped[str] = mapped_column(sa.String(63))
    boot_id: Mapped[UUID]
    state: Mapped[str] = mapped_column(sa.String(16))
    revision: Mapped[int]
    client_name: Mapped[str] = mapped_column(sa.String(255))
    client_address: Mapped[str] = mapped_column(sa.String(64))
    created_at: Mapped[datetime]
    ticket_at: Mapped[datetime]
    """When a ticket was last asked for."""
    connected_at: Mapped[datetime | None]
    disconnected_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    end_reason: Mapped[str | None] = mapped_column(sa.String(32))
    observed_by: Mapped[UUID | None]
    """The run of the node's agent that made the latest observation that counted; NULL: unknown."""
    observed_at: Mapped[datetime | None]
    """When, by the clock of that run."""

    @property
    def is_open(self) -> bool:
        """Whether the desktop is still the user's."""
        return self.state != SessionState.ENDED

    def observed(
        self,
        address: str | None,
        observed_at: datetime,
        now: datetime,
        agent_id: UUID | None = None,
    ) -> SessionConnected | SessionDisconnected | None:
        """A node has seen this run with a client at ``address``, or with none (None).

        Observations of one run of an agent come in any order; one older than the last that
        counted says nothing. Of two runs of an agent the caller knows which is the present one.
        """
        if not self.is_open or self._is_older(observed_at, agent_id):
            return None
        self.observed_by, self.observed_at = agent_id, observed_at
        if address is not None and self.state != SessionState.ACTIVE:
            self._become(SessionState.ACTIVE)
            self.connected_at = now
            self.disconnected_at = None
            return SessionConnected(**self._facts(), client_address=address)
        if address is None and self.state == SessionState.ACTIVE:
            self._become(SessionState.DISCONNECTED)
            self.disconnected_at = now
            return SessionDisconnected(**self._facts())
        return None

    def _is_older(self, at: datetime, agent_id: UUID | None) -> bool:
        if self.observed_at is None or at > self.observed_at:
            return False
        return None in (agent_id, self.observed_by) or agent_id == self.observed_by

    def lose_client(self, now: datetime) -> SessionDisconnected | None:
        """Its run ended with its host; whoever looked at it does so no more."""
        if self.state != SessionState.ACTIVE:
            return None
        self._become(SessionState.DISCONNECTED)
        self.disconnected_at = now
        return SessionDisconnected(**self._facts())

    def follow(self, boot_id: UUID, now: datetime) -> None:
        """It goes on in the run with which its desktop was started again.

        The time in which nobody could come is not held against its user.
        """
        self.boot_id = boot_id
        self.ticket_at = now
        self.observed_by = self.observed_at = None

    def end(self, reason: EndReason, now: datetime) -> SessionEnded:
        """The desktop is no longer the user's. Raises `Conflict` when it was not before."""
        self._become(SessionState.ENDED)
        self.ended_at = now
        self.end_reason = reason
        return SessionEnded(**self._facts(), reason=reason)

    def _become(self, state: SessionState) -> None:
        if state not in NEXT[SessionState(self.state)]:
            raise Conflict(
                "session.state", "A session that is {state} cannot become so.", state=self.state
            )
        self.state = state
        self.revision += 1

    def _facts(self) -> dict[str, Any]:
        return {
            "session_id": self.id,
            "user": self.user_name,
            "desktop_id": self.desktop_id,
            "desktop_name": self.desktop_name,
            "pool": self.pool_name,
            "revision": self.revision,
        }
