"""What inventory says of desktops: as much as incidents need."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from roost_common.contracts.desktop import DesktopState, Power
from roost_ha_monitor.desktop_fate import Seen
from roost_ha_monitor.model.base import Base, text_enum


class Desktop(Base):
    """Inventory's newest view of a desktop, and the newest in which it ran."""

    __tablename__ = "desktops"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(sa.BigInteger)
    state: Mapped[DesktopState] = mapped_column(text_enum(DesktopState))
    power: Mapped[Power] = mapped_column(text_enum(Power))
    problem_code: Mapped[str] = mapped_column(sa.Text, default="")
    problem: Mapped[str] = mapped_column(sa.Text, default="")
    running_revision: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    running_at: Mapped[datetime | None]
    seen_at: Mapped[datetime]

    @property
    def seen(self) -> Seen:
        """What `desktop_fate.tell` needs of it."""
        return Seen(
            revision=self.revision,
            state=self.state,
            power=self.power,
            running_revision=self.running_revision,
            problem_code=self.problem_code,
            problem=self.problem,
        )
