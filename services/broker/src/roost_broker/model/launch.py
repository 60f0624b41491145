"""Launches: the user's requests for a screen, and their places in the queue."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from roost_broker.model.base import Base

_QUEUED = sa.text("state = 'queued'")


class LaunchState(StrEnum):
    """Whether a launch has its desktop."""

    QUEUED = "queued"
    READY = "ready"


class Launch(Base):
    """One request for a screen; the row is the place in the queue while it has no desktop."""

    __tablename__ = "launches"
    __table_args__ = (
        sa.Index("ix_launches_queue", "pool_id", "place", postgresql_where=_QUEUED),
        sa.Index("ix_launches_own", "user_id", "pool_id", postgresql_where=_QUEUED),
        sa.Index("ix_launches_created_at", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    place: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity())
    """Grows with every launch: the order of the queue."""
    user_id: Mapped[UUID] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    pool_id: Mapped[UUID] = mapped_column(sa.ForeignKey("pools.id", ondelete="CASCADE"))
    state: Mapped[str] = mapped_column(sa.String(16))
    wants_new: Mapped[bool]
    session_id: Mapped[UUID | None]
    reason: Mapped[str] = mapped_column(sa.String(400))
    """Why the protocol is the one it is."""
    client_name: Mapped[str] = mapped_column(sa.String(255))
    client_address: Mapped[str] = mapped_column(sa.String(64))
    monitors: Mapped[int]
    fullscreen: Mapped[bool]
    thin_link: Mapped[bool]
    created_at: Mapped[datetime]
    polled_at: Mapped[datetime]
    """When its owner last asked about it."""
