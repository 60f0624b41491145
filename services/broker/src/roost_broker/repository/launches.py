"""Queries for launches and their places in the queue."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from roost_broker.model import Launch, LaunchState
from roost_broker.queue import ATTENTIVE_S
from roost_common.db import AsyncSession
from roost_common.errors import NotFound

UNKNOWN: Final = "launch.unknown"
_TIME = sa.DateTime(timezone=True)
_WAITING = sa.and_(
    Launch.pool_id == sa.bindparam("the_pool"),
    sa.literal_column("state = 'queued'"),
    Launch.polled_at > sa.bindparam("alive", type_=_TIME),
)
_BEFORE = sa.select(sa.func.count()).where(_WAITING, Launch.place < sa.bindparam("the_place"))


class Launches:
    """Launches of one transaction.

    ``abandoned`` is how long one keeps its place that nobody asks about; those who wait are those
    who have asked lately.
    """

    def __init__(self, session: AsyncSession, abandoned: timedelta) -> None:
        self._session = session
        self._abandoned = abandoned
        self._attentive = min(abandoned, timedelta(seconds=ATTENTIVE_S))

    def alive(self, now: datetime) -> datetime:
        """Who has asked since then waits."""
        return now - self._attentive

    def kept(self, now: datetime) -> datetime:
        """Whoever has asked since then still has a place."""
        return now - self._abandoned

    async def position(self, launch: Launch, now: datetime) -> int:
        """Its place now; the first is 1."""
        before = await self._session.scalar(
            _BEFORE,
            {
                "the_pool": launch.pool_id,
                "alive": self.alive(now),
                "the_place": launch.place,
            },
        )
        return (before or 0) + 1

    async def waiting(self, pool_ids: list[UUID], now: datetime) -> dict[UUID, int]:
        """How many wait, by pool."""
        rows = await self._session.execute(
            sa.select(Launch.pool_id, sa.func.count())
            .where(
                Launch.pool_id.in_(pool_ids),
                sa.literal_column("state = 'queued'"),
                Launch.polled_at > self.alive(now),
            )
            .group_by(Launch.pool_id)
        )
        return dict(rows.all())

    async def of_user(self, launch_id: UUID, user_id: UUID, asked_at: datetime | None) -> Launch:
        """The user's own. Raises `NotFound` (``launch.unknown``), also for one that had been given
        up at ``asked_at``; None: it is known that it had not.
        """
        launch = await self._session.scalar(
            sa.select(Launch)
            .where(Launch.id == launch_id, Launch.user_id == user_id)
            .with_for_update()
        )
        if (
            launch is not None
            and asked_at is not None
            and launch.state == LaunchState.QUEUED
            and launch.polled_at <= self.kept(asked_at)
        ):
            # Its id may come again, with the Idempotency-Key that made it.
            await self._session.delete(launch)
            await self._session.flush()
            launch = None
        if launch is None:
            raise NotFound(UNKNOWN, "There is no launch {launch}.", launch=launch_id)
        return launch

    async def add(self, **values: Any) -> int:
        """Insert; returns the place."""
        statement = sa.insert(Launch).values(values).returning(Launch.place)
        place: int = (await self._session.execute(statement)).scalar_one()
        return place

    async def forget(self, now: datetime, kept: timedelta) -> None:
        """Launches are of interest while their clients may come back."""
        await self._session.execute(
            sa.delete(Launch).where(Launch.created_at < now - kept, Launch.polled_at < now - kept)
        )


async def put_back(session: AsyncSession, launch_id: UUID, session_id: UUID) -> None:
    """The launch waits again, at its old place: what it was given is no screen any more."""
    await session.execute(
        sa.update(Launch)
        # Another request for this launch may have put it back, and gone on with it.
        .where(Launch.id == launch_id, Launch.session_id == session_id)
        .values(state=LaunchState.QUEUED.value, session_id=None)
    )
