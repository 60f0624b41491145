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
        "user_id": _USER,
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
    if with_launch:
        columns = Launch.__table__.c
        launch: dict[str, Any] = {
            name: sa.bindparam(f"p_{name}", type_=columns[name].type)
            for name in ("reason", "wants_new", "monitors", "fullscreen", "thin_link")
        }
        launch |= {name: session[name] for name in ("user_id", "pool_id", "client_name")}
        launch |= {
            "id": sa.bindparam("p_launch_id", type_=sa.Uuid()),
            "state": sa.literal_column(f"'{LaunchState.READY}'"),
            "session_id": session["id"],
            "client_address": session["client_address"],
            "created_at": session["created_at"],
            "polled_at": session["created_at"],
        }
        statement = statement.add_cte(_insert(Launch, launch, taken))
    return statement


def _insert(entity: type[Any], values: dict[str, Any], source: sa.CTE) -> sa.CTE:
    """A row of ``entity`` for the row of ``source``, if there is one."""
    rows = sa.select(*values.values()).select_from(source)
    return (
        sa.insert(entity.__table__)
        .from_select(list(values), rows)
        .cte(f"new_{entity.__tablename__}")
    )


_TAKE: Final = _take(with_launch=False)
_TAKE_AND_RECORD: Final = _take(with_launch=True)


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

    async def take(
        self,
        *,
        user_id: UUID,
        user_name: str,
        pool: LaunchPool,
        session_id: UUID,
        client_name: str,
        client_address: str,
        now: datetime,
        launch: dict[str, Any] | None,
    ) -> Place | None:
        """The desktop that has been free longest is this new session's; None when none is free.

        ``launch`` is the row to be made with it, where there is none yet.
        """
        parameters: dict[str, Any] = {
            "the_user": user_id,
            "p_user_name": user_name,
            "p_pool_id": pool.id,
            "p_pool_name": pool.name,
            "p_session_id": session_id,
            "p_client_name": client_name,
            "p_client_address": client_address,
            "p_now": now,
        }
        statement = _TAKE
        if launch is not None:
            statement = _TAKE_AND_RECORD
            parameters["p_launch_id"] = launch["id"]
            for name in ("reason", "wants_new", "monitors", "fullscreen", "thin_link"):
                parameters[f"p_{name}"] = launch[name]
        row = (await self._session.execute(statement, parameters)).first()
        return None if row is None else Place(*row)
