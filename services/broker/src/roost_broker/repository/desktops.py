"""Queries for the desktops of pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from roost_broker.model import Pool, PoolDesktop
from roost_broker.phase import TEMPLATE_GONE, Phase
from roost_broker.pool_plan import Member, blocked
from roost_broker.queue import Picture
from roost_broker.repository.pools import Pools
from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import DesktopState
from roost_common.contracts.spec import TemplateRef
from roost_common.db import AsyncSession


class Desktops:
    """Desktops of one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock(self, desktop_id: UUID) -> PoolDesktop | None:
        """The row, as it is now, until the end of the transaction.

        Whoever needs a desktop and its session locks the desktop first.
        """
        return await self._session.scalar(
            sa.select(PoolDesktop)
            .where(PoolDesktop.id == desktop_id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )

    async def host_of(self, desktop_id: UUID) -> str | None:
        """Where a desktop is; None when it is nowhere or no more."""
        return await self._session.scalar(
            sa.select(PoolDesktop.host).where(PoolDesktop.id == desktop_id)
        )

    async def free(self, pool_ids: Sequence[UUID]) -> dict[UUID, int]:
        """How many are free, by pool."""
        rows = await self._session.execute(
            sa.select(PoolDesktop.pool_id, sa.func.count())
            .where(PoolDesktop.pool_id.in_(pool_ids), PoolDesktop.phase == Phase.FREE.value)
            .group_by(PoolDesktop.pool_id)
        )
        return dict(rows.all())

    async def members(self, pool: Pool, template: TemplateRef | None) -> list[Member]:
        """All of a pool's desktops, as the plan sees them."""
        template_current = (
            sa.true()
            if template is None
            else sa.and_(
                PoolDesktop.template_id == template.id,
                PoolDesktop.template_version == template.version,
            )
        )
        spec = sa.literal(pool.spec, PoolDesktop.spec.type)
        statement = sa.select(
            PoolDesktop.id,
            PoolDesktop.name,
            PoolDesktop.phase,
            PoolDesktop.phase_since,
            PoolDesktop.state,
            PoolDesktop.disk_generation,
            PoolDesktop.wanted_generation,
            template_current.label("template_current"),
            (PoolDesktop.spec == spec).label("spec_current"),
            PoolDesktop.problem["code"].astext.label("problem"),
            PoolDesktop.commanded_at,
            PoolDesktop.tries,
        ).where(PoolDesktop.pool_id == pool.id)
        return [
            Member(
                id=row.id,
                name=row.name,
                phase=Phase(row.phase),
                since=row.phase_since,
                state=None if row.state is None else DesktopState(row.state),
                disk_generation=row.disk_generation,
                wanted_generation=row.wanted_generation,
                template_current=row.template_current,
                spec_current=row.spec_current,
                problem=row.problem or "",
                commanded_at=row.commanded_at,
                tries=row.tries,
            )
            for row in await self._session.execute(statement)
        ]

    async def pictures(
        self, pools: Sequence[tuple[UUID, int]], now: datetime
    ) -> dict[UUID, Picture]:
        """Desktops counted by phase, for pools given as id and ``max``."""
        statement = (
            sa.select(
                PoolDesktop.pool_id,
                PoolDesktop.phase,
                sa.case(
                    (
                        PoolDesktop.phase.in_([Phase.TROUBLED.value, Phase.REFUSED.value]),
                        PoolDesktop.problem,
                    )
                ).label("problem"),
                sa.func.count().label("count"),
                sa.func.max(PoolDesktop.phase_since).label("since"),
            )
            .where(PoolDesktop.pool_id.in_([key for key, _ in pools]))
            .group_by(sa.text("1, 2, 3"))
        )
        groups: dict[UUID, list[_Counted]] = {key: [] for key, _ in pools}
        rows = await self._session.execute(statement)
        for pool_id, phase, problem, count, since in rows:
            found = None if problem is None else Problem.model_validate(problem)
            groups[pool_id].append(_Counted(Phase(phase), found, count, since))
        without = await Pools(self._session).without_template(list(groups))
        return {
            key: _picture(most, groups[key], now, TEMPLATE_GONE if key in without else None)
            for key, most in pools
        }

    async def forget_refused(self, pool_id: UUID, before: datetime) -> None:
        """Names that were refused longer ago may be tried again."""
        await self._session.execute(
            sa.delete(PoolDesktop).where(
                PoolDesktop.pool_id == pool_id,
                PoolDesktop.phase == Phase.REFUSED.value,
                PoolDesktop.phase_since < before,
            )
        )

    async def forget_all(self, pool_id: UUID) -> None:
        """Every row of a pool that goes."""
        await self._session.execute(sa.delete(PoolDesktop).where(PoolDesktop.pool_id == pool_id))


@dataclass(frozen=True)
class _Counted:
    """Desktops of one pool in one phase with one problem."""

    phase: Phase
    problem: Problem | None
    count: int
    since: datetime


def _picture(
    most: int, groups: Sequence[_Counted], now: datetime, obstacle: Problem | None
) -> Picture:
    counts = dict.fromkeys(Phase, 0)
    refusals: list[tuple[str, datetime]] = []
    troubles: list[Problem] = []
    problems: dict[str, Problem] = {}
    for group in groups:
        counts[group.phase] += group.count
        if group.problem is None:
            continue
        problems[group.problem.code] = group.problem
        if group.phase is Phase.REFUSED:
            refusals += [(group.problem.code, group.since)] * group.count
        else:
            troubles.append(group.problem)
    return Picture(
        max=most,
        free=counts[Phase.FREE],
        coming=counts[Phase.COMING],
        assigned=counts[Phase.ASSIGNED],
        troubled=counts[Phase.TROUBLED],
        leaving=counts[Phase.LEAVING],
        problem=troubles[0] if troubles else None,
        blocked=obstacle
        or problems.get(blocked((trouble.code for trouble in troubles), refusals, now)),
    )
