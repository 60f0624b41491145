"""The limits of placement as they were published last."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from roost_common.contracts.host import GuestSize
from roost_inventory.model.base import Base, Json


class Limitation(Base):
    """The only row of its table."""

    __tablename__ = "placement_limits"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(BigInteger)
    """0 until anything was published."""
    largest: Mapped[tuple[GuestSize, ...] | None] = mapped_column(Json(tuple[GuestSize, ...]))
    said_at: Mapped[datetime]

    def note(self, largest: tuple[GuestSize, ...] | None) -> bool:
        """These are the limits now; False when they were so before."""
        if self.revision > 0 and largest == self.largest:
            return False
        self.largest = largest
        self.revision += 1
        return True
