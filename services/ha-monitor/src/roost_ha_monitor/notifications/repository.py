"""All queries of notifications. Times are the database's: the copies' clocks do not matter."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from roost_common.contracts.alert import Severity
from roost_common.errors import Conflict, NotFound
from roost_common.lookup import named
from roost_ha_monitor.model import Alert
from roost_ha_monitor.notifications.model import Channel, Notification, State
from roost_ha_monitor.notifications.notice import About

_NOW = sa.func.clock_timestamp()


class Channels:
    """Who is told, and how."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def all(self) -> Sequence[Channel]:
        """Every one of them."""
        return (await self._session.scalars(sa.select(Channel))).all()

    async def get(self, reference: str, *, lock: bool = False) -> Channel:
        """By id or name; locked, nobody else changes it in the meantime. Raises `NotFound`."""
        query = sa.select(Channel).where(named(Channel.id, Channel.name, reference))
        found = await self._session.scalar(query.with_for_update() if lock else query)
        if found is None:
            raise NotFound("channel.unknown", "No channel {channel}.", channel=reference)
        return found

    async def take_name(self, name: str, channel_id: UUID) -> None:
        """Raises `Conflict` when another one has it. Who asks at the same time waits."""
        lock = sa.func.pg_advisory_xact_lock(sa.func.hashtext("roost-channels"))
        await self._session.execute(sa.select(lock))
        others = sa.select(Channel.id).where(Channel.name == name, Channel.id != channel_id)
        if (await self._session.scalars(others)).first() is not None:
            raise Conflict("channel.name-taken", "There is a channel {name}.", name=name)

    async def add(self, channel: Channel) -> None:
        """A new one."""
        self._session.add(channel)
        await self._session.flush()

    async def remove(self, channel: Channel) -> None:
        """With what it had to tell."""
        await self._session.execute(
            sa.delete(Notification).where(Notification.channel_id == channel.id)
        )
        await self._session.delete(channel)

    async def page(self, after: str | None, limit: int) -> tuple[Sequence[Channel], int]:
        """By name after ``after``, one more than ``limit``; and how many in all."""
        chosen = sa.select(Channel)
        total = await self._session.scalar(sa.select(sa.func.count()).select_from(Channel))
        if after is not None:
            chosen = chosen.where(Channel.name > after)
        rows = await self._session.scalars(chosen.order_by(Channel.name).limit(limit + 1))
        return rows.all(), total or 0


class Notifications:
    """What is to be told, and what was."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def now(self) -> datetime:
        """The database's clock."""
        now: datetime = (await self._session.execute(sa.select(_NOW))).scalar_one()
        return now

    async def claim(self, limit: int, seconds: float) -> list[tuple[Notification, Channel]]:
        """Up to ``limit`` that are due, each on a channel of its own, for this copy alone.

        One at a time for each channel, so that a slow one cannot take all places; and of one
        alert on one channel the oldest first.
        """
        now = await self.now()
        candidate, other, earlier = (aliased(Notification) for _ in range(3))
        busy = sa.exists().where(
            other.channel_id == candidate.channel_id,
            other.state == State.WAITING,
            other.claimed_until > now,
        )
        waits_for_another = sa.exists().where(
            earlier.channel_id == candidate.channel_id,
            earlier.alert_id == candidate.alert_id,
            earlier.state == State.WAITING,
            earlier.id < candidate.id,
        )
        first_of_each = (
            sa.select(candidate.id)
            .ext(postgresql.distinct_on(candidate.channel_id))
            .where(_due(candidate, now), ~busy, ~waits_for_another)
            .order_by(candidate.channel_id, candidate.next_at, candidate.id)
        )
        chosen = (
            sa.select(Notification, Channel)
            .join(Channel, Channel.id == Notification.channel_id)
            # What is due is said twice: a row is looked at again once it is locked.
            .where(_due(Notification, now), Notification.id.in_(first_of_each))
            .order_by(Notification.next_at, Notification.id)
            .limit(limit)
            .with_for_update(of=Notification, skip_locked=True)
        )
        rows = [(row[0], row[1]) for row in await self._session.execute(chosen)]
        for notification, _ in rows:
            notification.claim(now + timedelta(seconds=seconds))
        return rows

    async def claimed(self, notification_id: int, attempt: int) -> Notification | None:
        """The same, locked, as long as nobody else began another try or removed its channel."""
        chosen = sa.select(Notification).where(
            Notification.id == notification_id,
            Notification.attempts == attempt,
            Notification.state == State.WAITING,
        )
        return (await self._session.scalars(chosen.with_for_update())).one_or_none()

    async def beginnings(self, alert_id: UUID) -> Sequence[Notification]:
        """What was to be told as this alert was raised, channel by channel."""
        chosen = sa.select(Notification).where(
            Notification.alert_id == alert_id, Notification.about == About.RAISED
        )
        return (await self._session.scalars(chosen)).all()

    async def settle(self) -> Sequence[Notification]:
        """Drop what is over before anybody was told; returns it.

        A beginning that still waits when the end is there is not told any more, nor is anybody
        reminded of what was acknowledged. The end is told only where a beginning was, or may
        have been.
        """
        now = await self.now()
        end, begin = aliased(Notification), aliased(Notification)
        over = sa.exists().where(
            end.alert_id == Notification.alert_id,
            end.channel_id == Notification.channel_id,
            end.about == About.CLEARED,
        )
        told = sa.exists().where(
            begin.alert_id == Notification.alert_id,
            begin.channel_id == Notification.channel_id,
            begin.about != About.CLEARED,
            begin.maybe_arrived | begin.state.in_((State.WAITING, State.SENT)),
        )
        seen = sa.exists().where(
            Alert.id == Notification.alert_id, Alert.acknowledged_at.is_not(None)
        )
        stale = ((Notification.about != About.CLEARED) & over) | (
            (Notification.about == About.REMINDER) & seen
        )
        for_nobody = (Notification.about == About.CLEARED) & ~told
        dropped: list[Notification] = []
        for chosen in (stale, for_nobody):
            waiting = sa.select(Notification).where(
                Notification.state == State.WAITING, _free(Notification, now), chosen
            )
            rows = (await self._session.scalars(waiting.with_for_update(skip_locked=True))).all()
            for row in rows:
                row.drop(now)
            await self._session.flush()
            dropped += rows
        return dropped

    async def remind(self) -> None:
        """Write down reminders of open alerts of the highest severity that nobody acknowledged."""
        last = (
            sa.select(Notification)
            .ext(postgresql.distinct_on(Notification.alert_id, Notification.channel_id))
            .order_by(Notification.alert_id, Notification.channel_id, Notification.number.desc())
            .where(Notification.about != About.CLEARED)
            .subquery()
        )
        written = {
            "channel_id": last.c.channel_id,
            "about": sa.literal(About.REMINDER, Notification.about.type),
            "number": last.c.number + 1,
            "alert_id": last.c.alert_id,
            "alert": last.c.alert,
            "object": last.c.object,
            "severity": last.c.severity,
            "message": last.c.message,
            "since": last.c.since,
            "at": _NOW,
            "state": sa.literal(State.WAITING, Notification.state.type),
            "attempts": sa.literal(0),
            "maybe_arrived": sa.literal(False),
            "created_at": _NOW,
            "next_at": _NOW,
        }
        pause = sa.func.make_interval(0, 0, 0, 0, 0, 0, Channel.repeat_after_s)
        due = (
            sa.select(*written.values())
            .join(Alert, Alert.id == last.c.alert_id)
            .join(Channel, Channel.id == last.c.channel_id)
            .where(
                Channel.repeat_after_s > 0,
                Alert.severity == Severity.ALERT,
                Alert.cleared_at.is_(None),
                Alert.acknowledged_at.is_(None),
                last.c.finished_at + pause <= _NOW,
            )
        )
        await self._session.execute(
            postgresql.insert(Notification).from_select(list(written), due).on_conflict_do_nothing()
        )

    async def page(
        self,
        *,
        state: State | None,
        channel: str | None,
        alert_id: UUID | None,
        before: int | None,
        limit: int,
    ) -> tuple[Sequence[tuple[Notification, str]], int]:
        """Newest first with the channel's name, one more than ``limit``; and how many in all."""
        chosen = sa.select(Notification, Channel.name).join(
            Channel, Channel.id == Notification.channel_id
        )
        for column, value in (
            (Notification.state, state),
            (Notification.alert_id, alert_id),
        ):
            if value is not None:
                chosen = chosen.where(column == value)
        if channel is not None:
            chosen = chosen.where(named(Channel.id, Channel.name, channel))
        total = await self._session.scalar(
            sa.select(sa.func.count()).select_from(chosen.subquery())
        )
        if before is not None:
            chosen = chosen.where(Notification.id < before)
        rows = await self._session.execute(chosen.order_by(Notification.id.desc()).limit(limit + 1))
        return [(row[0], row[1]) for row in rows], total or 0

    async def prune(self, finished_before: datetime) -> None:
        """Forget what is long done, and what came as its channel was removed.

        What was told of an alert that lasts is kept: its end will be told to the same.
        """
        lasts = sa.exists().where(Alert.id == Notification.alert_id, Alert.cleared_at.is_(None))
        orphaned = ~sa.exists().where(Channel.id == Notification.channel_id)
        done = (Notification.finished_at < finished_before) & ~lasts
        await self._session.execute(sa.delete(Notification).where(done | orphaned))

    async def waiting(self) -> int:
        """How many still wait."""
        waiting = sa.select(sa.func.count()).where(Notification.state == State.WAITING)
        return await self._session.scalar(waiting) or 0


def _free(of: type[Notification], now: datetime) -> sa.ColumnElement[bool]:
    return of.claimed_until.is_(None) | (of.claimed_until < now)


def _due(of: type[Notification], now: datetime) -> sa.ColumnElement[bool]:
    return (of.state == State.WAITING) & (of.next_at <= now) & _free(of, now)
