"""Pools and who may use them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from roost_broker.model.base import Base, Json, JsonObject
from roost_common.contracts.session import PoolChanged
from roost_common.contracts.spec import DesktopSpec


class Pool(Base):
    """Desktops of one kind; a user gets the first that is free."""

    __tablename__ = "pools"
    __table_args__ = (
        sa.CheckConstraint("0 <= min AND min <= max", name="min_max"),
        sa.CheckConstraint("0 <= spare AND spare <= max", name="spare_max"),
        sa.CheckConstraint("max_per_user >= 1", name="max_per_user"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(50), unique=True)
    kind: Mapped[str] = mapped_column(sa.String(16))
    template_id: Mapped[UUID]
    template_version: Mapped[int | None]
    """Pinned; the newest where it is NULL."""
    min: Mapped[int]
    max: Mapped[int]
    spare: Mapped[int]
    max_per_user: Mapped[int]
    spec: Mapped[JsonObject] = mapped_column(Json)
    pending_timeout_s: Mapped[int]
    disconnect_timeout_s: Mapped[int | None]
    """NULL: a disconnected session is kept for ever."""
    revision: Mapped[int]
    deleting: Mapped[bool]
    created_at: Mapped[datetime]
    correlation_id: Mapped[str | None] = mapped_column(sa.String(64))
    """Of the request that deleted it: what the loop does for that is found under this id."""

    @property
    def hardware(self) -> DesktopSpec:
        """What its desktops are made of."""
        return DesktopSpec.recall(self.spec)

    def changed(self) -> None:
        """Count the change."""
        self.revision += 1

    def delete(self, correlation_id: str | None) -> None:
        """Its desktops are to go, and then it."""
        self.deleting = True
        self.correlation_id = correlation_id and correlation_id[:64]
        self.changed()

    def fact(self) -> PoolChanged:
        """The event about the pool as it is now."""
        return PoolChanged(
            pool_id=self.id, pool_name=self.name, deleted=self.deleting, revision=self.revision
        )


class Entitlement(Base):
    """A user, or all of a group, may use a pool."""

    __tablename__ = "entitlements"
    __table_args__ = (
        sa.CheckConstraint("num_nonnulls(user_id, group_id) = 1", name="one_holder"),
        sa.UniqueConstraint("pool_id", "user_id"),
        sa.UniqueConstraint("pool_id", "group_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    pool_id: Mapped[UUID] = mapped_column(sa.ForeignKey("pools.id", ondelete="CASCADE"))
    user_id: Mapped[UUID | None] = mapped_column(
        sa.ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    group_id: Mapped[UUID | None] = mapped_column(
        sa.ForeignKey("groups.id", ondelete="CASCADE"), index=True
    )
