"""Alerts, open and over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from roost_common.errors import NotFound
from roost_ha_monitor.alerts import Key, Wanted
from roost_ha_monitor.model import Alert


class Alerts:
    """Alerts, open and over."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def open_keys(self) -> set[Key]:
        """Which are open."""
        rows = await self._session.execute(
            sa.select(Alert.alert, Alert.object).where(Alert.cleared_at.is_(None))
        )
        return {(row.alert, row.object) for row in rows}

    async def open(self, wanted: Wanted, now: datetime) -> Alert | None:
        """A new open alert, or None where one is open already."""
        statement = (
            postgresql.insert(Alert)
            .values(
                alert=wanted.alert,
                object=wanted.object,
                severity=wanted.severity,
                message=wanted.message,
                raised_at=now,
            )
            .on_conflict_do_nothing()
            .returning(Alert)
        )
        return (await self._session.scalars(statement)).one_or_none()

    async def lock_open(self, key: Key) -> Alert | None:
        """The open one, if there is one."""
        alert, about = key
        chosen = sa.select(Alert).where(
            Alert.alert == alert, Alert.object == about, Alert.cleared_at.is_(None)
        )
        return (await self._session.scalars(chosen.with_for_update())).one_or_none()

    async def lock(self, alert_id: UUID) -> Alert:
        """Raises `NotFound`."""
        alert = await self._session.get(Alert, alert_id, with_for_update=True)
        if alert is None:
            raise NotFound("alert.unknown", "There is no alert {alert}.", alert=str(alert_id))
        return alert

    async def page(
        self, *, open_only: bool, after: tuple[datetime, UUID] | None, limit: int
    ) -> tuple[Sequence[Alert], int]:
        """Newest first, one more than ``limit``; and how many in all."""
        chosen = sa.select(Alert)
        if open_only:
            chosen = chosen.where(Alert.cleared_at.is_(None))
        total = await self._session.scalar(
            sa.select(sa.func.count()).select_from(chosen.subquery())
        )
        if after is not None:
            chosen = chosen.where(sa.tuple_(Alert.raised_at, Alert.id) < sa.tuple_(*after))
        chosen = chosen.order_by(Alert.raised_at.desc(), Alert.id.desc()).limit(limit + 1)
        return (await self._session.scalars(chosen)).all(), total or 0

    async def during(self, about: str, begins: datetime, ends: datetime | None) -> Sequence[Alert]:
        """Those about this object that were open in that time, in the order they came; without an
        end: until now.
        """
        chosen = sa.select(Alert).where(
            Alert.object == about,
            sa.or_(Alert.cleared_at.is_(None), Alert.cleared_at >= begins),
        )
        if ends is not None:
            chosen = chosen.where(Alert.raised_at <= ends)
        return (await self._session.scalars(chosen.order_by(Alert.raised_at, Alert.id))).all()

    async def prune(self, cleared_before: datetime) -> None:
        """Forget alerts that have long been over."""
        await self._session.execute(sa.delete(Alert).where(Alert.cleared_at < cleared_before))
