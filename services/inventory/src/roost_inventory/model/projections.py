"""What inventory keeps of other services' facts: no truth of its own, rebuilt from events."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from roost_common.contracts.desktop import DomainStats, GuestInfo
from roost_common.contracts.host import Health
from roost_common.contracts.session import SessionState
from roost_common.contracts.spec import OsFamily
from roost_inventory.model.base import Base, Json, word


class NodeHealth(Base):
    """What ha-monitor said last about a node, also about one that has not reported itself yet."""

    __tablename__ = "node_health"

    node: Mapped[str] = mapped_column(String(253), primary_key=True)
    health: Mapped[Health] = mapped_column(word(Health))
    sequence: Mapped[int] = mapped_column(BigInteger)
    since: Mapped[datetime]
    reason: Mapped[str]


class Pool(Base):
    """A pool's name. Deleted ones stay, so that an old event does not bring them back."""

    __tablename__ = "pools"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255), index=True)
    revision: Mapped[int] = mapped_column(BigInteger)
    deleted: Mapped[bool]


class Template(Base):
    """A template and its newest version. Deleted ones stay for the same reason."""

    __tablename__ = "templates"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255), index=True)
    version: Mapped[int]
    os: Mapped[OsFamily] = mapped_column(word(OsFamily))
    deleted: Mapped[bool]


class DesktopSession(Base):
    """A user's hold on a desktop; ended ones are kept for as long as an old event may come."""

    __tablename__ = "desktop_sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    desktop_id: Mapped[UUID] = mapped_column(index=True)
    user: Mapped[str] = mapped_column(String(255), index=True)
    state: Mapped[SessionState] = mapped_column(word(SessionState))
    revision: Mapped[int] = mapped_column(BigInteger)
    changed_at: Mapped[datetime]


class Reading(Base):
    """What was read from inside and outside a desktop last; written at a lower rate than it comes.

    Apart from the desktop's row, because it changes often and nothing is decided by it.
    """

    __tablename__ = "readings"

    desktop_id: Mapped[UUID] = mapped_column(primary_key=True)
    guest: Mapped[GuestInfo | None] = mapped_column(Json(GuestInfo))
    stats: Mapped[DomainStats | None] = mapped_column(Json(DomainStats))
    read_at: Mapped[datetime]
