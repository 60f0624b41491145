"""Queries about clusters, and about what their policies look at. A site has a handful of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from roost_common.contracts.desktop import DesktopState, Power
from roost_common.contracts.session import SessionState
from roost_common.contracts.spec import DesktopSpec
from roost_common.lookup import named
from roost_inventory.model import (
    Cluster,
    Desktop,
    DesktopSession,
    Host,
    HostWatch,
    Migration,
    Reading,
)
from roost_inventory.placement import SPEC_BEYOND_HOSTS
from roost_inventory.scheduling import Guest

REST_KEPT: Final = timedelta(days=2)
"""Migrations older than this keep no desktop alone: longer than the longest rest."""


class WaitingRow(NamedTuple):
    """A desktop that placement found no room for."""

    name: str
    spec: DesktopSpec


class Clusters:
    """Clusters in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    # --- themselves ---------------------------------------------------------------------------

    async def add(self, cluster: Cluster) -> bool:
        """Insert it; False when its name is taken."""
        try:
            async with self._session.begin_nested():
                self._session.add(cluster)
                await self._session.flush()
        except IntegrityError:
            return False
        return True

    async def get(self, cluster_id: UUID) -> Cluster | None:
        """The one with this id."""
        return await self._session.get(Cluster, cluster_id)

    async def find(self, key: str, *, lock: bool = False) -> Cluster | None:
        """The one with this id or name."""
        which = named(Cluster.id, Cluster.name, key)
        query = sa.select(Cluster).where(which)
        if lock:
            query = query.with_for_update().execution_options(populate_existing=True)
        return await self._session.scalar(query)

    async def all(self) -> Sequence[Cluster]:
        """All of them, by name."""
        return (await self._session.scalars(sa.select(Cluster).order_by(Cluster.name))).all()

    async def page(self, *, limit: int, after: str | None) -> tuple[Sequence[Cluster], int]:
        """One page by name, and how many there are in all."""
        query = sa.select(Cluster).order_by(Cluster.name).limit(limit)
        if after is not None:
            query = query.where(Cluster.name > after)
        total = await self._session.scalar(sa.select(sa.func.count(Cluster.id)))
        return (await self._session.scalars(query)).all(), total or 0

    async def names(self) -> dict[UUID, str]:
        """The name of each."""
        rows = (await self._session.execute(sa.select(Cluster.id, Cluster.name))).all()
        return {row[0]: row[1] for row in rows}

    async def hosts_of(self, ids: Sequence[UUID]) -> dict[UUID, list[str]]:
        """Names of the hosts of each of these."""
        query = (
            sa.select(Host.cluster_id, Host.name)
            .where(Host.cluster_id.in_(ids))
            .order_by(Host.name)
        )
        hosts: dict[UUID, list[str]] = {one: [] for one in ids}
        for cluster, name in (await self._session.execute(query)).all():
            hosts[cluster].append(name)
        return hosts

    async def remove(self, cluster: Cluster) -> bool:
        """Forget it; False when it was given a host at the same time."""
        try:
            async with self._session.begin_nested():
                await self._session.delete(cluster)
                await self._session.flush()
        except IntegrityError:
            return False
        return True

    # --- what their policies look at ----------------------------------------------------------

    async def hosts(self) -> Sequence[Host]:
        """Every host, by name."""
        return (await self._session.scalars(sa.select(Host).order_by(Host.name))).all()

    async def watches(self) -> Mapping[UUID, HostWatch]:
        """What was seen of each host."""
        return {one.host_id: one for one in (await self._session.scalars(sa.select(HostWatch)))}

    async def guests(self, now: datetime) -> list[Guest]:
        """Every desktop that is assigned to a host, in one query: there are thousands of them."""
        stats = sa.type_coerce(Reading.stats, postgresql.JSONB)
        cpu, memory = stats["cpu_percent"].as_float(), stats["memory_used_mib"].as_integer()
        in_use = sa.exists().where(
            DesktopSession.desktop_id == Desktop.id, DesktopSession.state == SessionState.ACTIVE
        )
        moved = (
            sa.select(
                Migration.desktop_id,
                sa.func.max(sa.func.coalesce(Migration.ended_at, Migration.created_at)).label("at"),
            )
            .where(Migration.created_at > now - REST_KEPT)
            .group_by(Migration.desktop_id)
            .subquery()
        )
        query = (
            sa.select(
                Desktop.id,
                Desktop.name,
                Desktop.host,
                Desktop.reserved_vcpus,
                Desktop.reserved_memory_mib,
                Desktop.state,
                Desktop.told,
                cpu,
                memory,
                in_use,
                moved.c.at,
                Desktop.migrating_to,
            )
            .outerjoin(Reading, Reading.desktop_id == Desktop.id)
            .outerjoin(moved, moved.c.desktop_id == Desktop.id)
            .where(Desktop.host.is_not(None))
        )
        guests = []
        for row in (await self._session.execute(query)).all():
            (id_, name, host, vcpus, memory_mib, state, told, percent, used, *rest) = row
            used_now, moved_at, target = rest
            guests.append(
                Guest(
                    id=id_,
                    name=name,
                    host=host,
                    vcpus=vcpus,
                    memory_mib=memory_mib,
                    steady=state is DesktopState.RUNNING and told is Power.ON,
                    cpu_percent=percent or 0.0,
                    memory_used_mib=used or 0,
                    in_use=used_now,
                    moved_at=moved_at,
                    moving_to=target,
                )
            )
        return guests

    async def waiting(self) -> list[WaitingRow]:
        """Desktops that wait for room which could be there, the oldest first."""
        code = sa.type_coerce(Desktop.problem, postgresql.JSONB)["code"].as_string()
        query = (
            sa.select(Desktop.name, Desktop.spec)
            .where(Desktop.awaits_room, code.is_distinct_from(SPEC_BEYOND_HOSTS))
            .order_by(Desktop.created_at)
        )
        return [WaitingRow(*row) for row in (await self._session.execute(query)).all()]

    async def carries(self, host: str) -> bool:
        """Whether a desktop is assigned to it, or on its way to it."""
        found = sa.exists().where(sa.or_(Desktop.host == host, Desktop.migrating_to == host))
        return bool(await self._session.scalar(sa.select(found)))

    # --- what is remembered -------------------------------------------------------------------

    async def watch(self, host_id: UUID) -> HostWatch:
        """What was seen of one host, for change."""
        found = await self._session.get(HostWatch, host_id)
        if found is None:
            found = HostWatch.begun(host_id)
            self._session.add(found)
        return found
