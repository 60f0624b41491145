"""Local users and groups."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, mapped_column

from roost_broker.model.base import Base
from roost_common.security import Identity, Role


class User(Base):
    """Somebody who may log on. Names are lower case."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    full_name: Mapped[str] = mapped_column(sa.String(200))
    password_hash: Mapped[str] = mapped_column(sa.String(255))
    roles: Mapped[list[str]] = mapped_column(postgresql.ARRAY(sa.String(16)))
    disabled: Mapped[bool]
    created_at: Mapped[datetime]

    @property
    def is_admin(self) -> bool:
        """Whether this user administers Roost now."""
        return Role.ADMIN in self.roles and not self.disabled

    def identity(self, groups: frozenset[str]) -> Identity:
        """Whom a token of this user speaks for."""
        return Identity(
            id=self.id,
            name=self.name,
            roles=frozenset(Role(role) for role in self.roles),
            groups=groups,
        )


class Group(Base):
    """Users who are entitled together."""

    __tablename__ = "groups"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    created_at: Mapped[datetime]


class Membership(Base):
    """A user in a group."""

    __tablename__ = "memberships"

    group_id: Mapped[UUID] = mapped_column(
        sa.ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[UUID] = mapped_column(
        sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class LoginFailure(Base):
    """How full the bucket of wrong passwords for a name, or a name and an address, is."""

    __tablename__ = "login_failures"

    key: Mapped[str] = mapped_column(sa.String(160), primary_key=True)
    level: Mapped[float]
    at: Mapped[datetime] = mapped_column(index=True)
