"""Queries about what inventory keeps of other services' facts. Of two facts the newer one wins."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from roost_common.contracts.desktop import DomainObservation
from roost_common.contracts.host import Health, HealthFact
from roost_common.contracts.session import PoolChanged, SessionFact, SessionState
from roost_common.contracts.spec import OsFamily
from roost_common.contracts.template import TemplateCreated, TemplateDeleted
from roost_common.db import newest
from roost_common.lookup import named
from roost_inventory.model import DesktopSession, NodeHealth, Pool, Reading, Template

_HEALTH: Final = newest(NodeHealth, "sequence", "health", "since", "reason", key="node").returning(
    NodeHealth.__table__.c.node
)
_POOL: Final = newest(Pool, "revision", "name", "deleted")
_TEMPLATE: Final = newest(Template, "version", "name", "os")
"""Not ``deleted``: what is gone stays so, whatever is still told of it."""
_SESSION: Final = newest(DesktopSession, "revision", "desktop_id", "user", "state", "changed_at")


class Healths:
    """ha-monitor's word on nodes."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def record(self, fact: HealthFact, health: Health) -> bool:
        """Keep it; False when a newer one is known."""
        row = {
            "node": fact.node,
            "health": health,
            "sequence": fact.sequence,
            "since": fact.since,
            "reason": fact.reason,
        }
        return (await self._session.execute(_HEALTH, row)).first() is not None

    async def of(self, node: str) -> Health:
        """The last word; up where there is none, for the node is reporting itself."""
        found = await self._session.get(NodeHealth, node)
        return Health.UP if found is None else found.health


class Pools:
    """Names of pools."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def record(self, fact: PoolChanged) -> None:
        """Keep it unless a newer one is known."""
        row = {
            "id": fact.pool_id,
            "name": fact.pool_name,
            "revision": fact.revision,
            "deleted": fact.deleted,
        }
        await self._session.execute(_POOL, row)

    async def names(self, ids: Collection[UUID]) -> dict[UUID, str]:
        """Names of those that are known."""
        if not ids:
            return {}
        query = sa.select(Pool.id, Pool.name).where(Pool.id.in_(ids))
        rows = (await self._session.execute(query)).all()
        return {row[0]: row[1] for row in rows}

    async def ids_of(self, key: str) -> tuple[UUID, ...]:
        """Ids of the pools with this id or name; a deleted pool's desktops may still be there."""
        try:
            return (UUID(key),)
        except ValueError:
            found = await self._session.scalars(sa.select(Pool.id).where(Pool.name == key))
            return tuple(found.all())


class Templates:
    """Templates and their newest versions."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def record(self, fact: TemplateCreated) -> None:
        """Keep it unless a newer version is known."""
        row = {
            "id": fact.template_id,
            "name": fact.template_name,
            "version": fact.version,
            "os": fact.os,
            "deleted": False,
        }
        await self._session.execute(_TEMPLATE, row)

    async def record_deleted(self, fact: TemplateDeleted) -> None:
        """It is gone, whatever may still be told of it."""
        insert = postgresql.insert(Template).values(
            id=fact.template_id, name=fact.template_name, version=0, os=OsFamily.LINUX, deleted=True
        )
        await self._session.execute(
            insert.on_conflict_do_update(index_elements=["id"], set_={"deleted": True})
        )

    async def find(self, key: str) -> Template | None:
        """The living template with this id or name."""
        which = named(Template.id, Template.name, key)
        query = sa.select(Template).where(which, ~Template.deleted)
        return await self._session.scalar(query.order_by(Template.version.desc()).limit(1))


class Sessions:
    """Who has a session on which desktop."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def record(self, fact: SessionFact, state: SessionState, now: datetime) -> None:
        """Keep it unless a newer one is known."""
        row = {
            "id": fact.session_id,
            "desktop_id": fact.desktop_id,
            "user": fact.user,
            "state": state,
            "revision": fact.revision,
            "changed_at": now,
        }
        await self._session.execute(_SESSION, row)

    async def users(self, desktops: Collection[UUID]) -> dict[UUID, list[str]]:
        """Users with a session on each of these desktops, by name."""
        query = (
            sa.select(DesktopSession.desktop_id, DesktopSession.user)
            .where(
                DesktopSession.desktop_id.in_(desktops), DesktopSession.state != SessionState.ENDED
            )
            .distinct()
            .order_by(DesktopSession.user)
        )
        users: dict[UUID, list[str]] = {}
        for desktop, user in (await self._session.execute(query)).all():
            users.setdefault(desktop, []).append(user)
        return users

    async def forget_ended(self, before: datetime) -> None:
        """Drop those that ended long ago."""
        await self._session.execute(
            sa.delete(DesktopSession).where(
                DesktopSession.state == SessionState.ENDED, DesktopSession.changed_at < before
            )
        )


class Readings:
    """What was read from desktops last."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def write(self, domains: Sequence[DomainObservation], now: datetime) -> None:
        """Keep the newest of each; what a sample lacks is kept from the one before."""
        if not domains:
            return
        rows = [
            {"desktop_id": one.desktop_id, "guest": one.guest, "stats": one.stats, "read_at": now}
            for one in sorted(domains, key=lambda one: one.desktop_id)
        ]
        insert = postgresql.insert(Reading).values(rows)
        await self._session.execute(
            insert.on_conflict_do_update(
                index_elements=["desktop_id"],
                set_={
                    "guest": sa.func.coalesce(insert.excluded.guest, Reading.guest),
                    "stats": sa.func.coalesce(insert.excluded.stats, Reading.stats),
                    "read_at": insert.excluded.read_at,
                },
            )
        )

    async def with_guest(self, desktops: Collection[UUID]) -> set[UUID]:
        """Of which of these anything is known from inside."""
        query = sa.select(Reading.desktop_id).where(
            Reading.desktop_id.in_(desktops), Reading.guest.is_not(None)
        )
        return set((await self._session.scalars(query)).all())

    async def of(self, desktops: Collection[UUID]) -> Mapping[UUID, Reading]:
        """What is known of these."""
        query = sa.select(Reading).where(Reading.desktop_id.in_(desktops))
        return {one.desktop_id: one for one in (await self._session.scalars(query)).all()}

    async def forget(self, desktops: Collection[UUID]) -> None:
        """The guest is another one now, or gone."""
        await self._session.execute(sa.delete(Reading).where(Reading.desktop_id.in_(desktops)))
