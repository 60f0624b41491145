"""Hosts, and who holds the lease over them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from roost_common.errors import NotFound
from roost_ha_monitor.model import Base, Host

_LEASES = Base.metadata.tables["leases"]


@dataclass(frozen=True)
class Leased:
    """What a host's row says of the run that is granted, and how."""

    agent_id: UUID | None
    address: str
    armed: bool
    armed_sequence: int


class Hosts:
    """The hosts that are watched, and those that were."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def all_known(self) -> Sequence[Host]:
        """Also the removed ones, whose sequence goes on."""
        return (await self._session.scalars(sa.select(Host).order_by(Host.node))).all()

    async def get(self, node: str) -> Host:
        """Raises `NotFound` for a host that is not watched."""
        return self._watched(node, await self._session.get(Host, node))

    async def lock(self, node: str) -> Host:
        """The same, and nobody else changes it in the meantime."""
        return self._watched(node, await self._session.get(Host, node, with_for_update=True))

    async def lock_all(self, nodes: Collection[str]) -> dict[str, Host]:
        """Those of ``nodes`` that are known, in one order for everybody: no deadlocks."""
        chosen = sa.select(Host).where(Host.node.in_(nodes)).order_by(Host.node)
        rows = await self._session.scalars(chosen.with_for_update())
        return {host.node: host for host in rows}

    async def lock_or_add(self, node: str, now: datetime) -> Host:
        """The row of a node, of which perhaps nothing was heard yet: then nobody watches it."""
        fresh = postgresql.insert(Host).values(node=node, since=now, reason="")
        await self._session.execute(fresh.on_conflict_do_nothing())
        return (await self.lock_all([node]))[node]

    async def maintained(self) -> set[str]:
        """Those in maintenance."""
        chosen = sa.select(Host.node).where(Host.maintained)
        return set(await self._session.scalars(chosen))

    async def page(self, after: str | None, limit: int) -> tuple[Sequence[Host], int]:
        """Watched hosts by name after ``after``, one more than ``limit``; and how many in all."""
        watched = sa.select(Host).where(Host.health.is_not(None))
        total = await self._session.scalar(
            sa.select(sa.func.count()).select_from(watched.subquery())
        )
        if after is not None:
            watched = watched.where(Host.node > after)
        rows = await self._session.scalars(watched.order_by(Host.node).limit(limit + 1))
        return rows.all(), total or 0

    async def heard(self, beats: Sequence[tuple[str, datetime, bool]]) -> None:
        """Note when each node last beat, and whether its libvirt answered."""
        await self._session.execute(
            sa.update(Host),
            [{"node": node, "last_beat_at": at, "libvirt": up} for node, at, up in beats],
        )

    async def spare(self, until: Mapping[str, datetime]) -> None:
        """These hosts, and no others, have time to come back until then."""
        rows = await self._session.scalars(sa.select(Host).order_by(Host.node).with_for_update())
        for host in rows:
            host.spared_until = until.get(host.node)

    async def leases(self) -> dict[str, Leased]:
        """What is written of every watched host's lease, by name."""
        chosen = sa.select(Host.node, Host.agent_id, Host.address, Host.armed, Host.armed_sequence)
        rows = await self._session.execute(chosen.where(Host.health.is_not(None)))
        return {
            row.node: Leased(row.agent_id, row.address, row.armed, row.armed_sequence)
            for row in rows
        }

    async def lease(self, leases: Mapping[str, Leased]) -> None:
        """Write that; before the grants that it speaks of."""
        # In one order for everybody: no deadlocks.
        for node, leased in sorted(leases.items()):
            await self._session.execute(
                sa.update(Host).where(Host.node == node).values(**asdict(leased))
            )

    @staticmethod
    def _watched(node: str, host: Host | None) -> Host:
        if host is None or host.health is None:
            raise NotFound("host.unknown", "No host {node} is watched.", node=node)
        return host


async def holder(session: AsyncSession, lease: str) -> tuple[UUID, int, datetime] | None:
    """Who holds a lease now, by the database's clock: copy, term, until when."""
    row = (
        await session.execute(
            sa.select(_LEASES).where(
                _LEASES.c.name == lease, _LEASES.c.expires_at > sa.func.clock_timestamp()
            )
        )
    ).one_or_none()
    return None if row is None else (row.holder, row.term, row.expires_at)
