"""Desktops that were deleted before they were made."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from roost_inventory.model.base import Base


class Revocation(Base):
    """The mark against a creation that comes late; kept as long as tombstones are."""

    __tablename__ = "revocations"

    desktop_id: Mapped[UUID] = mapped_column(primary_key=True)
    revoked_at: Mapped[datetime]
