"""The statements of a launch, prepared once: this is the path that must be short.

One statement reads all that decides, one writes all that a desktop for a user means.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

import sqlalchemy as sa

from roost_broker.launch import Place
from roost_broker.launch_attempt import Attempt
from roost_broker.model import Launch, LaunchState, Pool, PoolDesktop, Session
from roost_broker.phase import Phase
from roost_broker.repository.pools import LaunchPool, entitled_to
from roost_common.contracts.session import SessionState
from roost_common.db import AsyncSession

_TIME: Final = sa.DateTime(timezone=True)
_USER: Final = sa.bindparam("the_user", type_=sa.Uuid())
_QUEUED: Final[sa.ColumnElement[bool]] = sa.literal_column("launches.state = 'queued'")
_OPEN: Final[sa.ColumnElement[bool]] = sa.literal_column("sessions.state <> 'ended'")


@dataclass(frozen=True)
class Situation:
    """What a user meets at a pool."""

    pool: LaunchPool
    entitled: bool
    waiting: int
    """Launches in the queue whose owners have asked lately."""
    own_launch: UUID | None
    """The user's launch that waits in it already."""
    held: int
    """Desktops of the pool that are the user's."""
    latest: UUID | None
    """The user's session there with the latest ticket."""


def _situation(which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    mine = sa.and_(Session.user_id == _USER, Session.pool_id == Pool.id, _OPEN)
    waiting = sa.and_(
        Launch.pool_id == Pool.id,
        _QUEUED,
        Launch.polled_at > sa.bindparam("alive", type_=_TIME),
    )
    own = sa.and_(
        Launch.pool_id == Pool.id,
        _QUEUED,
        Launch.user_id == _USER,
        Launch.wants_new == sa.bindparam("new", type_=sa.Boolean()),
        Launch.polled_at > sa.bindparam("kept", type_=_TIME),
    )
    usb = sa.func.coalesce(Pool.spec["display"]["usb"].as_boolean(), sa.true())
    return sa.select(
        Pool.id,
        Pool.name,
        Pool.max,
        Pool.max_per_user,
        usb,
        entitled_to(_USER),
        sa.select(sa.func.count()).where(waiting).correlate(Pool).scalar_subquery(),
        sa.select(Launch.id)
        .where(own)
        .order_by(Launch.place)
        .limit(1)
        .correlate(Pool)
        .scalar_subquery(),
        sa.select(sa.func.count()).where(mine).correlate(Pool).scalar_subquery(),
        sa.select(Session.id)
        .where(mine)
        .order_by(Session.ticket_at.desc(), Session.id)
        .limit(1)
        .correlate(Pool)
        .scalar_subquery(),
    ).where(which, ~Pool.deleting)


_BY_ID: Final = _situation(Pool.id == sa.bindparam("pool", type_=sa.Uuid()))
_BY_NAME: Final = _situation(Pool.name == sa.bindparam("pool", type_=sa.String()))


def _take(*, with_launch: bool) -> sa.Select[Any]:
    # A parameter named like a column would be taken for that column's new value.
    choice = (
        sa.select(PoolDesktop.id)
        .where(
            PoolDesktop.pool_id == sa.bindparam("p_pool_id", type_=sa.Uuid()),
            sa.literal_column(f"phase = '{Phase.FREE}'"),
        )
        .order_by(PoolDesktop.phase_since)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    table = cast(sa.Table, PoolDesktop.__table__)
    taken = (
        sa.update(table)
        .where(table.c.id == choice)
        .values(
            phase=sa.literal_column(f"'{Phase.ASSIGNED}'"),
            phase_since=sa.bindparam("p_now", type_=_TIME),
            session_id=sa.bindparam("p_session_id", type_=sa.Uuid()),
        )
        .returning(table.c.id, table.c.name, table.c.host, table.c.boot_id)
        .cte("taken")
    )
    session: dict[str, Any] = {
        "id": sa.bindparam("p_session_id", type_=sa.Uuid()),
        "user_id": sa.bindparam("p_the_user", type_=sa.Uuid()),
        "user_name": sa.bindparam("p_user_name", type_=sa.String()),
        "pool_id": sa.bindparam("p_pool_id", type_=sa.Uuid()),
        "pool_name": sa.bindparam("p_pool_name", type_=sa.String()),
        "desktop_id": taken.c.id,
        "desktop_name": taken.c.name,
        "boot_id": taken.c.boot_id,
        "state": sa.literal_column(f"'{SessionState.PENDING}'"),
        "revision": sa.literal_column("1"),
        "client_name": sa.bindparam("p_client_name", type_=sa.String()),
        "client_address": sa.bindparam("p_client_address", type_=sa.String()),
        "created_at": sa.bindparam("p_now", type_=_TIME),
        "ticket_at": sa.bindparam("p_now", type_=_TIME),
    }
    statement = sa.select(taken).add_cte(_insert(Session, session, taken))
    return statement.add_cte(_launch(taken)) if with_launch else statement


def _reopen(*, with_launch: bool) -> sa.Select[Any]:
    session = cast(sa.Table, Session.__table__)
    desktop = cast(sa.Table, PoolDesktop.__table__)
    renewed = (
        sa.update(session)
        .where(
            session.c.id == sa.bindparam("p_session_id", type_=sa.Uuid()),
            _OPEN,
            desktop.c.id == session.c.desktop_id,
        )
        .values(
            ticket_at=sa.bindparam("p_now", type_=_TIME),
            client_name=sa.bindparam("p_client_name", type_=sa.String()),
            client_address=sa.bindparam("p_client_address", type_=sa.String()),
        )
        .returning(
            session.c.desktop_id,
            session.c.desktop_name,
            desktop.c.host,
            session.c.boot_id,
            desktop.c.restarting,
        )
        .cte("renewed")
    )
    statement = sa.select(renewed)
    return statement.add_cte(_launch(renewed)) if with_launch else statement


_OF_A_LAUNCH: Final = {
    "launch_id": "id",
    "the_user": "user_id",
    "pool_id": "pool_id",
    "session_id": "session_id",
    "reason": "reason",
    "wants_new": "wants_new",
    "client_name": "client_name",
    "client_address": "client_address",
    "monitors": "monitors",
    "fullscreen": "fullscreen",
    "thin_link": "thin_link",
}
"""Parameters and columns of the row of a launch that has its desktop."""


def _launch(source: sa.CTE) -> sa.CTE:
    columns = cast(sa.Table, Launch.__table__).c
    now = sa.bindparam("p_now", type_=_TIME)
    values: dict[str, Any] = {
        column: sa.bindparam(f"p_{name}", type_=columns[column].type)
        for name, column in _OF_A_LAUNCH.items()
    }
    values |= {
        "state": sa.literal_column(f"'{LaunchState.READY}'"),
        "created_at": now,
        "polled_at": now,
    }
    return _insert(Launch, values, source)


def _insert(entity: type[Any], values: dict[str, Any], source: sa.CTE) -> sa.CTE:
    """A row of ``entity`` for the row of ``source``, if there is one."""
    rows = sa.select(*values.values()).select_from(source)
    return (
        sa.insert(entity.__table__)
        .from_select(list(values), rows)
        .cte(f"new_{entity.__tablename__}")
    )


_TAKE: Final = (_take(with_launch=False), _take(with_launch=True))
_REOPEN: Final = (_reopen(with_launch=False), _reopen(with_launch=True))


@dataclass(frozen=True)
class Reopened:
    """A session whose screen is to be opened once more."""

    desktop_id: UUID
    desktop_name: str
    host: str | None
    boot_id: UUID
    restarting: bool
    """Its host has failed, and it is on its way to another one."""


class LaunchPath:
    """The two statements, in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def situation(
        self, pool: str, user_id: UUID, *, new: bool, alive: datetime, kept: datetime
    ) -> Situation | None:
        """All that decides, for a pool by name or id; None when there is no such pool.

        ``alive``: who has asked since then waits; ``kept``: whose place is kept still.
        """
        parameters: dict[str, Any] = {
            "the_user": user_id,
            "new": new,
            "alive": alive,
            "kept": kept,
        }
        try:
            statement, parameters["pool"] = _BY_ID, UUID(pool)
        except ValueError:
            statement, parameters["pool"] = _BY_NAME, pool
        row = (await self._session.execute(statement, parameters)).first()
        return None if row is None else Situation(LaunchPool(*row[:5]), *row[5:])

    async def take(self, attempt: Attempt, session_id: UUID, now: datetime) -> Place | None:
        """The desktop that has been free longest is this new session's; None when none is free.

        A launch that has no row yet gets one, with its desktop.
        """
        statement = _TAKE[attempt.launch is None]
        parameters = _parameters(attempt, session_id, now)
        row = (await self._session.execute(statement, parameters)).first()
        return None if row is None else Place(*row)

    async def reopen(self, attempt: Attempt, session_id: UUID, now: datetime) -> Reopened | None:
        """Note that a ticket is asked for; None when the session has ended."""
        statement = _REOPEN[attempt.launch is None]
        parameters = _parameters(attempt, session_id, now)
        row = (await self._session.execute(statement, parameters)).first()
        return None if row is None else Reopened(*row)


def _parameters(attempt: Attempt, session_id: UUID, now: datetime) -> dict[str, Any]:
    values = {
        "the_user": attempt.user.id,
        "user_name": attempt.user.name,
        "pool_id": attempt.pool.id,
        "pool_name": attempt.pool.name,
        "session_id": session_id,
        "client_name": attempt.client.name,
        "client_address": attempt.client.address,
        "now": now,
        "launch_id": attempt.launch_id,
        "reason": attempt.reason,
        "wants_new": attempt.new,
        "monitors": attempt.client.monitors,
        "fullscreen": attempt.client.fullscreen,
        "thin_link": attempt.client.thin_link,
    }
    return {f"p_{name}": value for name, value in values.items()}
