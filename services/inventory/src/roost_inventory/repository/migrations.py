"""Queries about migrations.

A migration is changed with its desktop locked, but for how far it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from roost_common.contracts.base import Problem
from roost_inventory.model import Migration
from roost_inventory.model.migration import UNDER_WAY, MigrationState


@dataclass(frozen=True)
class MigrationFilter:
    """Which migrations of the list; None does not restrict."""

    desktop: str | None = None
    """Id or name, also of one that is gone."""
    host: str | None = None
    """Either of the two."""
    states: tuple[MigrationState, ...] = ()


class Attempt(NamedTuple):
    """How often a desktop has not been moved off a host, and the last time."""

    failures: int
    failed_at: datetime | None
    problem: Problem | None


class Migrations:
    """Migrations in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, migration_id: UUID) -> Migration | None:
        """One, for reading."""
        return await self._session.get(Migration, migration_id)

    async def desktop_of(self, migration_id: UUID) -> UUID | None:
        """Whose it is: what is to be locked before it is changed."""
        found: UUID | None = await self._session.scalar(
            sa.select(Migration.desktop_id).where(Migration.id == migration_id)
        )
        return found

    async def page(
        self, which: MigrationFilter, *, limit: int, before: tuple[datetime, UUID] | None
    ) -> tuple[Sequence[Migration], int]:
        """One page, the newest first, and how many there are in all."""
        wanted = sa.and_(sa.true(), *_conditions(which))
        key = sa.tuple_(Migration.created_at, Migration.id)
        query = (
            sa.select(Migration)
            .where(wanted)
            .order_by(Migration.created_at.desc(), Migration.id.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(key < sa.tuple_(*(sa.literal(part) for part in before)))
        total = await self._session.scalar(sa.select(sa.func.count(Migration.id)).where(wanted))
        return (await self._session.scalars(query)).all(), total or 0

    async def note_progress(self, migration_id: UUID, node: str, percent: float) -> None:
        """How far it is; nothing when it is over."""
        await self._session.execute(
            sa.update(Migration)
            .where(
                Migration.id == migration_id,
                Migration.source == node,
                Migration.state.in_(UNDER_WAY),
            )
            .values(percent=percent, state=MigrationState.RUNNING)
        )

    async def failures(self, source: str, since: datetime) -> dict[UUID, Attempt]:
        """Of the desktops that were to leave this host since then: what did not move them."""
        query = (
            sa.select(Migration.desktop_id, Migration.state, Migration.ended_at, Migration.problem)
            .where(
                Migration.source == source,
                Migration.created_at >= since,
                Migration.state.not_in(UNDER_WAY),
            )
            .order_by(Migration.created_at)
        )
        found: dict[UUID, Attempt] = {}
        for desktop, state, ended_at, problem in (await self._session.execute(query)).all():
            if state is MigrationState.DONE:
                found.pop(desktop, None)
                continue
            before = found.get(desktop)
            found[desktop] = Attempt((before.failures if before else 0) + 1, ended_at, problem)
        return found

    async def forget_ended(self, before: datetime) -> None:
        """Drop those of long ago."""
        await self._session.execute(sa.delete(Migration).where(Migration.ended_at < before))


def _conditions(which: MigrationFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if which.desktop is not None:
        try:
            conditions.append(Migration.desktop_id == UUID(which.desktop))
        except ValueError:
            conditions.append(Migration.desktop_name == which.desktop)
    if which.host is not None:
        conditions.append(sa.or_(Migration.source == which.host, Migration.target == which.host))
    if which.states:
        conditions.append(Migration.state.in_(which.states))
    return conditions
