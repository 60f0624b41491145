"""Queries about hosts. A site has hundreds of them, not more: lists come whole."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from roost_common.contracts.host import Health, HostCapabilities, HostState
from roost_common.lookup import named
from roost_inventory.model import Administrative, Cluster, Desktop, Host
from roost_inventory.placement import Candidate
from roost_inventory.scheduling import PLACEMENT

_CANDIDATES = (
    sa.select(
        Host.name,
        sa.and_(Host.state == HostState.UP, ~Host.fenced).label("usable"),
        Host.cpus,
        Host.memory_mib,
        Host.max_vcpus,
        Host.spice,
        Host.cluster_id.label("cluster"),
        Cluster.scheduling,
    )
    .join(Cluster, Cluster.id == Host.cluster_id)
    .where(Host.state != HostState.PENDING_APPROVAL)
)

_BY_NAME: Final = sa.select(Host).where(Host.name == sa.bindparam("of_name", type_=sa.String()))
"""For every report: to build a statement takes longer than to execute it."""


class Run(NamedTuple):
    """A run of a host's agent."""

    agent_id: UUID
    alive: bool
    """Whether the host answers."""


class Hosts:
    """Hosts in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, host: Host) -> bool:
        """Insert it; False when another copy has enrolled it at the same time."""
        try:
            async with self._session.begin_nested():
                self._session.add(host)
                await self._session.flush()
        except IntegrityError:
            return False
        return True

    async def by_name(self, name: str) -> Host | None:
        """One, for reading."""
        return await self._session.scalar(_BY_NAME, {"of_name": name})

    async def agent_of(self, name: str) -> UUID | None:
        """The run of its agent that reports; None for a host nobody knows."""
        found: UUID | None = await self._session.scalar(
            sa.select(Host.agent_id).where(Host.name == name)
        )
        return found

    async def lock_by_name(self, name: str) -> Host | None:
        """One, for change."""
        query = sa.select(Host).where(Host.name == name).with_for_update()
        return await self._session.scalar(query.execution_options(populate_existing=True))

    async def name_of(self, key: str) -> str | None:
        """Name of the host with this id or name."""
        which = named(Host.id, Host.name, key)
        found: str | None = await self._session.scalar(sa.select(Host.name).where(which))
        return found

    async def page(
        self, states: Sequence[HostState], *, limit: int, after: str | None
    ) -> tuple[Sequence[Host], int]:
        """One page by name, and how many there are in all."""
        wanted = Host.state.in_(states) if states else sa.true()
        query = sa.select(Host).where(wanted).order_by(Host.name).limit(limit)
        if after is not None:
            query = query.where(Host.name > after)
        total = await self._session.scalar(sa.select(sa.func.count(Host.id)).where(wanted))
        return (await self._session.scalars(query)).all(), total or 0

    async def runs(self, names: Collection[str] | None = None) -> dict[str, Run]:
        """The present run of the agent of each of these, or of all."""
        query = sa.select(Host.name, Host.agent_id, Host.health == Health.UP)
        if names is not None:
            query = query.where(Host.name.in_(names))
        rows = (await self._session.execute(query)).all()
        return {name: Run(agent, alive) for name, agent, alive in rows}

    async def candidates(self) -> list[Candidate]:
        """Every approved host as placement sees it, without what is in use."""
        return [_candidate(row) for row in (await self._session.execute(_CANDIDATES)).all()]

    async def locked_candidates(self) -> list[Candidate]:
        """The same with what is in use, and nobody else can place until this transaction ends.

        Taking room away needs these locks; giving it back does not.
        """
        locked = _CANDIDATES.order_by(Host.name).with_for_update(of=Host)
        rows = (await self._session.execute(locked)).all()
        # A statement of its own, after the locks: it sees what their last holder committed.
        used = await self.use()
        return [_candidate(row, used.get(row.name, (0, 0))) for row in rows]

    async def use(self) -> dict[str, tuple[int, int]]:
        """vCPUs and MiB in use on each host that carries desktops, or will."""
        # One that is being moved has its room on both. One statement: it may arrive meanwhile.
        rooms = sa.union_all(
            *(
                sa.select(
                    where.label("host"), Desktop.reserved_vcpus, Desktop.reserved_memory_mib
                ).where(where.is_not(None))
                for where in (Desktop.host, Desktop.migrating_to)
            )
        ).subquery()
        query = sa.select(
            rooms.c.host,
            sa.func.sum(rooms.c.reserved_vcpus),
            sa.func.sum(rooms.c.reserved_memory_mib),
        ).group_by(rooms.c.host)
        rows = (await self._session.execute(query)).all()
        return {str(host): (int(vcpus), int(memory)) for host, vcpus, memory in rows}

    async def abilities(self) -> dict[str, HostCapabilities]:
        """What each host can do."""
        query = sa.select(Host.name, Host.capabilities)
        return {row.name: row.capabilities for row in await self._session.execute(query)}

    async def count_by_state(self) -> dict[HostState, int]:
        """How many hosts are in each state."""
        query = sa.select(Host.state, sa.func.count()).group_by(Host.state)
        rows = (await self._session.execute(query)).all()
        return {row[0]: row[1] for row in rows}

    async def preparing(self) -> Sequence[str]:
        """Those that are to be empty and are not yet."""
        query = sa.select(Host.name).where(Host.administrative == Administrative.PREPARING)
        return (await self._session.scalars(query.order_by(Host.name))).all()

    async def remove(self, host: Host) -> None:
        """Forget it; it is enrolled anew when it reports again."""
        await self._session.delete(host)
        await self._session.flush()


def _candidate(row: Any, used: tuple[int, int] = (0, 0)) -> Candidate:
    facts = dict(row._mapping)
    scheduling = facts.pop("scheduling")
    return Candidate(
        **facts,
        used_vcpus=used[0],
        used_memory_mib=used[1],
        policy=PLACEMENT.get(scheduling.policy),
    )
