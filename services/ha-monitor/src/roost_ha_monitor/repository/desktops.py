"""What inventory says of desktops."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from roost_common.contracts.desktop import DesktopState, DesktopView
from roost_ha_monitor.model import Desktop


class Desktops:
    """The projection; whatever order views come in, it ends up the same."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def see(self, view: DesktopView, at: datetime) -> None:
        """Inventory said this at ``at``."""
        runs = view.state is DesktopState.RUNNING
        told = postgresql.insert(Desktop).values(
            id=view.id,
            revision=view.revision,
            state=view.state,
            power=view.power,
            problem_code=view.problem.code if view.problem else "",
            problem=view.problem.detail if view.problem else "",
            running_revision=view.revision if runs else 0,
            running_at=at if runs else None,
            seen_at=at,
        )
        new, newer = told.excluded, told.excluded.revision > Desktop.revision
        newest = ("revision", "state", "power", "problem_code", "problem", "seen_at")
        ran_later = new.running_revision > Desktop.running_revision
        changes = {
            name: sa.case((newer, new[name]), else_=Desktop.__table__.c[name]) for name in newest
        }
        await self._session.execute(
            told.on_conflict_do_update(
                index_elements=["id"],
                set_={
                    **changes,
                    "running_revision": sa.func.greatest(
                        new.running_revision, Desktop.running_revision
                    ),
                    "running_at": sa.case((ran_later, new.running_at), else_=Desktop.running_at),
                },
            )
        )

    async def prune(self, deleted_before: datetime) -> None:
        """Forget desktops that were deleted before any message that may still come."""
        await self._session.execute(
            sa.delete(Desktop).where(
                Desktop.state == DesktopState.DELETED, Desktop.seen_at < deleted_before
            )
        )
