"""What broker knows of other services' things, from their messages."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from roost_broker.model.base import Base


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


class Host(Base):
    """The largest guest that a node can run, and when its report was last taken in."""

    __tablename__ = "hosts"

    node: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    max_vcpus: Mapped[int]
    memory_mib: Mapped[int] = mapped_column(sa.BigInteger)
    reported_at: Mapped[datetime]
    """``sent_at`` of a report whose clients have been compared with the sessions. Written every
    few seconds, not with every report."""
