"""Queries for sessions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from roost_broker.model import Host, Pool, PoolDesktop, Session
from roost_common.contracts.desktop import DesktopState
from roost_common.contracts.session import EndReason, SessionState
from roost_common.db import AsyncSession
from roost_common.errors import Invalid, NotFound
from roost_common.http import PageQuery

OPEN = Session.state != SessionState.ENDED.value
_BY_BOOT: Final = sa.select(Session.boot_id, Session.id, Session.state).where(
    Session.boot_id == sa.any_(sa.bindparam("boot_ids", type_=postgresql.ARRAY(sa.Uuid))), OPEN
)
"""For every report: to build a statement takes longer than to execute it."""


class Sessions:
    """Sessions of one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, session_id: UUID) -> Session:
        """Raises `NotFound` (``session.unknown``)."""
        found = await self._session.get(Session, session_id)
        if found is None:
            raise NotFound("session.unknown", "There is no session {session}.", session=session_id)
        return found

    async def lock(self, session_id: UUID) -> Session | None:
        """The row, as it is now, until the end of the transaction."""
        return await self._session.scalar(
            sa.select(Session)
            .where(Session.id == session_id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )

    async def open_of_user(self, user_id: UUID) -> Sequence[Session]:
        """All of a user's open sessions, the one with the latest ticket first."""
        statement = (
            sa.select(Session)
            .where(Session.user_id == user_id, OPEN)
            .order_by(Session.ticket_at.desc(), Session.id)
        )
        return (await self._session.scalars(statement)).all()

    async def count_open(self, pool_id: UUID) -> int:
        """How many hold a desktop of a pool."""
        statement = sa.select(sa.func.count()).where(Session.pool_id == pool_id, OPEN)
        return await self._session.scalar(statement) or 0

    async def by_boot(self, boot_ids: Sequence[UUID]) -> dict[UUID, tuple[UUID, str]]:
        """Id and state of the open sessions on these runs, by run; nothing is locked."""
        rows = await self._session.execute(_BY_BOOT, {"boot_ids": boot_ids})
        return {boot_id: (key, state) for boot_id, key, state in rows}

    async def ticket_since(self, boot_id: UUID, since: datetime) -> bool:
        """Whether an open session on this run has a ticket that is later."""
        found = sa.exists().where(Session.boot_id == boot_id, OPEN, Session.ticket_at > since)
        return bool(await self._session.scalar(sa.select(found)))

    async def lock_by_boot(
        self, boot_ids: Sequence[UUID], *, skip_locked: bool = False
    ) -> Sequence[Session]:
        """The open sessions on these runs."""
        statement = (
            sa.select(Session)
            .where(Session.boot_id.in_(boot_ids), OPEN)
            .with_for_update(skip_locked=skip_locked)
            .execution_options(populate_existing=True)
        )
        return (await self._session.scalars(statement)).all()

    async def overdue(
        self, now: datetime, limit: int, only: UUID | None = None
    ) -> list[tuple[UUID, EndReason]]:
        """Open sessions that nobody came back to in time, and why each is to end.

        A session counts as overdue only when a report of its node has come *after* the deadline,
        by the clock that set the deadline: while nobody can say whether a client is there, nobody
        is thrown out.
        """
        came_never = Session.ticket_at + _seconds(Pool.pending_timeout_s)
        gone_since = sa.func.greatest(Session.disconnected_at, Session.ticket_at)
        gone_long = gone_since + _seconds(Pool.disconnect_timeout_s)
        pending = Session.state == SessionState.PENDING.value
        deadline = sa.case((pending, came_never), else_=gone_long)
        statement = (
            sa.select(Session.id, Session.state)
            .join(Pool, Pool.id == Session.pool_id)
            .join(PoolDesktop, PoolDesktop.id == Session.desktop_id)
            .join(Host, Host.node == PoolDesktop.host)
            .where(
                OPEN,
                Session.state != SessionState.ACTIVE.value,
                PoolDesktop.state != DesktopState.UNKNOWN.value,
                ~PoolDesktop.restarting,
                deadline <= now,
                deadline <= Host.reported_at,
            )
            .order_by(Session.ticket_at)
            .limit(limit)
        )
        if only is not None:
            statement = statement.where(Session.id == only)
        return [
            (
                row.id,
                EndReason.NEVER_CONNECTED
                if row.state == SessionState.PENDING
                else EndReason.DISCONNECTED_TOO_LONG,
            )
            for row in await self._session.execute(statement)
        ]

    async def page(
        self, paging: PageQuery, *conditions: sa.ColumnElement[bool]
    ) -> tuple[Sequence[Session], int]:
        """A page, newest first, and how many there are.

        Raises `Invalid` (``request.cursor-invalid``) for another list's cursor.
        """
        statement = sa.select(Session).where(*conditions)
        total = await self._session.scalar(
            sa.select(sa.func.count()).select_from(Session).where(*conditions)
        )
        if paging.after is not None:
            last = _last(paging.after)
            statement = statement.where(sa.tuple_(Session.created_at, Session.id) < last)
        statement = statement.order_by(Session.created_at.desc(), Session.id.desc())
        rows = (await self._session.scalars(statement.limit(paging.limit + 1))).all()
        return rows, total or 0

    async def forget_ended(self, before: datetime) -> None:
        """History does not grow for ever."""
        await self._session.execute(sa.delete(Session).where(~OPEN, Session.ended_at < before))

    async def counts(self) -> dict[str, int]:
        """Open sessions by state."""
        rows = await self._session.execute(
            sa.select(Session.state, sa.func.count()).where(OPEN).group_by(Session.state)
        )
        return dict(rows.all())


def _last(after: tuple[str, ...]) -> tuple[datetime, UUID]:
    try:
        at, key = after
        return datetime.fromisoformat(at), UUID(key)
    except ValueError as error:
        raise Invalid("request.cursor-invalid", "This cursor was not made here.") from error


def _seconds(column: Any) -> sa.ColumnElement[timedelta]:
    """A column of seconds as an interval."""
    return sa.func.make_interval(0, 0, 0, 0, 0, 0, column, type_=sa.Interval())
