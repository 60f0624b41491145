"""Queries about desktops.

Order of locks everywhere: desktops (several: by id), then hosts (by name). The loop takes only
desktops that are free (SKIP LOCKED), so it never waits for one while it holds another.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import DesktopState, DomainState, Power, SpiceAddress
from roost_common.contracts.session import SessionState
from roost_common.lookup import named
from roost_inventory.model import Desktop, DesktopSession, Migration, Revocation
from roost_inventory.model.migration import Cause

_LIVING = Desktop.deleted_at.is_(None)


class SeenRow(NamedTuple):
    """What of a desktop a report is compared with: a few columns, no entity."""

    id: UUID
    host: str | None
    migrating_to: str | None
    told: Power
    seen_host: str | None
    seen_agent: UUID | None
    seen_at: datetime | None
    seen_state: DomainState | None
    seen_generation: int
    seen_problem: Problem | None
    boot_id: UUID | None
    spice: SpiceAddress | None
    assigned_generation: int
    told_generation: int


def _on(node: str | sa.BindParameter[str]) -> sa.ColumnElement[bool]:
    """Assigned to it, or on its way to it."""
    return sa.or_(Desktop.host == node, Desktop.migrating_to == node)


_SEEN: Final = sa.select(*(getattr(Desktop, name) for name in SeenRow._fields)).where(
    sa.or_(
        _on(sa.bindparam("node", type_=sa.String())),
        Desktop.id == sa.any_(sa.bindparam("named", type_=postgresql.ARRAY(sa.Uuid))),
    )
)
"""For every report: to build a statement takes longer than to execute it."""


@dataclass(frozen=True)
class DesktopFilter:
    """Which desktops of the list; None does not restrict."""

    pool_ids: tuple[UUID, ...] | None = None
    host: str | None = None
    states: tuple[DesktopState, ...] = ()
    name: str | None = None
    """A name, or a glob with ``*``."""
    user: str | None = None
    """Only those on which this user has a session."""


class Desktops:
    """Desktops in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    # --- one ----------------------------------------------------------------------------------

    async def add(self, desktop: Desktop) -> bool:
        """Insert it; False when its id or its name is taken. Two at once: the second waits."""
        try:
            async with self._session.begin_nested():
                self._session.add(desktop)
                await self._session.flush()
        except IntegrityError:
            return False
        return True

    async def lock(self, desktop_id: UUID) -> Desktop | None:
        """The desktop, or its tombstone, for change; waits for whoever changes it now."""
        return await self._session.get(Desktop, desktop_id, with_for_update=True)

    async def get(self, desktop_id: UUID) -> Desktop | None:
        """The desktop, or its tombstone, for reading."""
        return await self._session.get(Desktop, desktop_id)

    async def id_of(self, key: str, *, user: str | None = None) -> UUID | None:
        """Id of the living desktop with this id or name, for ``user`` only one of theirs."""
        which = named(Desktop.id, Desktop.name, key)
        query = sa.select(Desktop.id).where(which, _LIVING)
        if user is not None:
            query = query.where(_held_by(user))
        found: UUID | None = await self._session.scalar(query)
        return found

    async def claim(self, desktop_id: UUID) -> None:
        """Nobody else makes or revokes the desktop of this id until this transaction ends."""
        key = sa.func.hashtextextended(f"desktop:{desktop_id}", 0)
        await self._session.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))

    async def revoke(self, desktop_id: UUID, now: datetime) -> None:
        """It is not to be made any more; the caller has claimed the id and found no desktop."""
        insert = postgresql.insert(Revocation).values(desktop_id=desktop_id, revoked_at=now)
        await self._session.execute(insert.on_conflict_do_nothing())

    async def is_revoked(self, desktop_id: UUID) -> bool:
        """Whether it was deleted before it was made."""
        return await self._session.get(Revocation, desktop_id) is not None

    # --- many ---------------------------------------------------------------------------------

    async def page(
        self, which: DesktopFilter, *, limit: int, after: str | None
    ) -> tuple[Sequence[Desktop], int]:
        """One page of the living ones by name, and how many there are in all."""
        wanted = sa.and_(_LIVING, *_conditions(which))
        query = sa.select(Desktop).where(wanted).order_by(Desktop.name).limit(limit)
        if after is not None:
            query = query.where(Desktop.name > after)
        found = (await self._session.scalars(query)).all()
        total = await self._session.scalar(sa.select(sa.func.count(Desktop.id)).where(wanted))
        return found, total or 0

    async def due(self, now: datetime, limit: int) -> Sequence[Desktop]:
        """Those to be looked at, locked; what another copy has in hand is left to it.

        First those that a host's failure took from their users, by priority.
        """
        query = (
            sa.select(Desktop)
            .where(Desktop.next_check_at <= now)
            .order_by(Desktop.restarting.desc(), Desktop.priority.desc(), Desktop.next_check_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return (await self._session.scalars(query)).all()

    async def ids_on(self, node: str) -> list[UUID]:
        """Those that are assigned to a host, or on their way to it."""
        query = sa.select(Desktop.id).where(_on(node))
        return list((await self._session.scalars(query)).all())

    async def on(self, node: str) -> Sequence[Desktop]:
        """The same, for reading."""
        return (await self._session.scalars(sa.select(Desktop).where(_on(node)))).all()

    async def leaving(self, node: str, cause: Cause) -> list[UUID]:
        """Those that are being moved away from a host for this cause."""
        query = sa.select(Desktop.id).join(Migration, Desktop.migration_id == Migration.id)
        query = query.where(Migration.source == node, Migration.cause == cause)
        return list((await self._session.scalars(query)).all())

    async def lock_many(self, ids: Collection[UUID]) -> Sequence[Desktop]:
        """These, for change."""
        query = (
            sa.select(Desktop)
            .where(Desktop.id.in_(ids))
            .order_by(Desktop.id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        return (await self._session.scalars(query)).all()

    async def seen_on(self, node: str, named: Collection[UUID]) -> list[SeenRow]:
        """What is known of the desktops assigned to a node, and of those it names."""
        rows = await self._session.execute(_SEEN, {"node": node, "named": list(named)})
        return [SeenRow(*row) for row in rows]

    # --- in bulk ------------------------------------------------------------------------------

    async def touch_on_host(self, node: str, now: datetime) -> int:
        """Have the loop look at everything on a host; returns how many."""
        chosen = (
            sa.select(Desktop.id)
            .where(_on(node))
            .order_by(Desktop.id)
            .with_for_update()
            .cte("chosen")
        )
        touched = await self._session.execute(
            sa.update(Desktop)
            .where(Desktop.id == chosen.c.id)
            .values(next_check_at=now)
            .returning(Desktop.id)
        )
        return len(touched.all())

    async def wake_waiting(self, limit: int, now: datetime) -> int:
        """Have those that wait for room tried again now: in the order of `due`, then of age."""
        chosen = (
            sa.select(Desktop.id)
            .where(Desktop.awaits_room)
            .order_by(Desktop.restarting.desc(), Desktop.priority.desc(), Desktop.created_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("chosen")
        )
        woken = await self._session.execute(
            sa.update(Desktop)
            .where(Desktop.id == chosen.c.id)
            .values(next_check_at=now, retry_at=None)
            .returning(Desktop.id)
        )
        return len(woken.all())

    async def count_by_host(self) -> dict[str, int]:
        """How many desktops are assigned to each host that has any."""
        query = sa.select(Desktop.host, sa.func.count()).where(Desktop.host.is_not(None))
        rows = (await self._session.execute(query.group_by(Desktop.host))).all()
        return {str(host): count for host, count in rows}

    async def count_moving(self, node: str) -> int:
        """How many are being moved away from a host."""
        query = sa.select(sa.func.count()).where(
            Desktop.host == node, Desktop.migrating_to.is_not(None)
        )
        return await self._session.scalar(query) or 0

    async def count_by_state(self) -> dict[DesktopState, int]:
        """How many living desktops are in each state."""
        query = sa.select(Desktop.state, sa.func.count()).where(_LIVING).group_by(Desktop.state)
        rows = (await self._session.execute(query)).all()
        return {row[0]: row[1] for row in rows}

    async def forget_deleted(self, before: datetime) -> None:
        """Drop the tombstones of long ago."""
        await self._session.execute(sa.delete(Desktop).where(Desktop.deleted_at < before))
        await self._session.execute(sa.delete(Revocation).where(Revocation.revoked_at < before))


def _held_by(user: str) -> sa.ColumnElement[bool]:
    return sa.exists().where(
        DesktopSession.desktop_id == Desktop.id,
        DesktopSession.user == user,
        DesktopSession.state != SessionState.ENDED,
    )


def _conditions(which: DesktopFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if which.pool_ids is not None:
        conditions.append(Desktop.pool_id.in_(which.pool_ids))
    if which.host is not None:
        conditions.append(Desktop.host == which.host)
    if which.states:
        conditions.append(Desktop.state.in_(which.states))
    if which.name is not None:
        pattern = which.name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        conditions.append(Desktop.name.like(pattern.replace("*", "%"), escape="\\"))
    if which.user is not None:
        conditions.append(_held_by(which.user))
    return conditions
