"""What broker knows of other services' things, from their messages."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from roost_broker.model.base import Base, Json, JsonObject


class Template(Base):
    """A template of imaging's; a deleted one stays as a mark against late messages."""

    __tablename__ = "templates"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(255), index=True)
    deleted: Mapped[bool]


class TemplateVersion(Base):
    """One version of a template."""

    __tablename__ = "template_versions"

    template_id: Mapped[UUID] = mapped_column(
        sa.ForeignKey("templates.id", ondelete="CASCADE"), primary_key=True
    )
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    os: Mapped[str] = mapped_column(sa.String(32))


class PlacementLimits(Base):
    """What inventory's placement accepts at most; the only row of its table."""

    __tablename__ = "placement_limits"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(sa.BigInteger)
    largest: Mapped[list[JsonObject] | None] = mapped_column(Json)
    """Sizes of guests; NULL while no host is known."""
