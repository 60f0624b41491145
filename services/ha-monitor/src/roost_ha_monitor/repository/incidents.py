"""Incidents, what was tried, and the desktops that were lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from roost_common.contracts.host import LostDesktop as Lost
from roost_common.errors import NotFound
from roost_ha_monitor.desktop_fate import GIVEN_UP_CODE, Fate
from roost_ha_monitor.model import Desktop, FencingAttempt, Incident, LostDesktop
from roost_ha_monitor.model.incident import UNFENCED


class Incidents:
    """Incidents, open and over."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add(self, incident: Incident) -> None:
        """A new one."""
        self._session.add(incident)

    async def open_ones(self) -> Sequence[Incident]:
        """Those that are not resolved, oldest first."""
        chosen = sa.select(Incident).where(Incident.resolved_at.is_(None))
        return (await self._session.scalars(chosen.order_by(Incident.noticed_at))).all()

    async def get(self, incident_id: UUID) -> Incident:
        """Raises `NotFound`."""
        return self._found(incident_id, await self._session.get(Incident, incident_id))

    async def lock(self, incident_id: UUID) -> Incident:
        """The same, as nobody else changes it; lock its host first."""
        found = await self._session.get(
            Incident, incident_id, with_for_update=True, populate_existing=True
        )
        return self._found(incident_id, found)

    async def unfenced(self, node: str) -> Incident | None:
        """The one of a host that is not fenced yet, locked; lock the host first."""
        chosen = sa.select(Incident).where(Incident.node == node, Incident.state.in_(UNFENCED))
        return (await self._session.scalars(chosen.with_for_update())).one_or_none()

    async def fenced_since(self, node: str, agent_id: UUID | None, since: datetime | None) -> bool:
        """Whether this run of a host's agent was fenced at ``since`` or later; no where either is
        not known. The time alone does not tell: whoever wrote it may have had another clock."""
        if agent_id is None or since is None:
            return False
        found = sa.select(Incident.id).where(
            Incident.node == node, Incident.agent_id == agent_id, Incident.fenced_at >= since
        )
        return (await self._session.scalar(found.limit(1))) is not None

    async def page(
        self, *, open_only: bool, after: tuple[datetime, UUID] | None, limit: int
    ) -> tuple[Sequence[Incident], int]:
        """Newest first, one more than ``limit``; and how many in all."""
        chosen = sa.select(Incident)
        if open_only:
            chosen = chosen.where(Incident.resolved_at.is_(None))
        total = await self._session.scalar(
            sa.select(sa.func.count()).select_from(chosen.subquery())
        )
        if after is not None:
            chosen = chosen.where(sa.tuple_(Incident.noticed_at, Incident.id) < sa.tuple_(*after))
        chosen = chosen.order_by(Incident.noticed_at.desc(), Incident.id.desc()).limit(limit + 1)
        return (await self._session.scalars(chosen)).all(), total or 0

    async def prune(self, resolved_before: datetime) -> None:
        """Forget those that have long been over, with all that belongs to them."""
        await self._session.execute(
            sa.delete(Incident).where(Incident.resolved_at < resolved_before)
        )

    # --- what was tried -----------------------------------------------------------------------

    async def attempts(self, incident_id: UUID) -> Sequence[FencingAttempt]:
        """In the order in which they began."""
        chosen = sa.select(FencingAttempt).where(FencingAttempt.incident_id == incident_id)
        return (await self._session.scalars(chosen.order_by(FencingAttempt.id))).all()

    async def begin(self, attempt: FencingAttempt) -> int:
        """Write it down before it is done; returns its id. Those that nobody ended are over."""
        await self._session.execute(
            sa.update(FencingAttempt)
            .where(
                FencingAttempt.incident_id == attempt.incident_id, FencingAttempt.ended_at.is_(None)
            )
            .values(
                ended_at=attempt.started_at,
                outcome="The copy of ha-monitor that tried it ended meanwhile.",
            )
        )
        self._session.add(attempt)
        await self._session.flush()
        return attempt.id

    async def end(self, attempt_id: int, now: datetime, outcome: str, *, fenced: bool) -> None:
        """How it went."""
        await self._session.execute(
            sa.update(FencingAttempt)
            .where(FencingAttempt.id == attempt_id)
            .values(ended_at=now, outcome=outcome, fenced=fenced)
        )

    # --- desktops -----------------------------------------------------------------------------

    async def lose(self, incident_id: UUID, desktops: Sequence[Lost]) -> None:
        """These were on the host; those that are known already stay as they are."""
        if not desktops:
            return
        rows = [
            {
                "incident_id": incident_id,
                "desktop_id": lost.desktop_id,
                "name": lost.desktop_name,
                "revision": lost.revision,
                "restart": lost.restart,
                "priority": lost.priority,
                "fate": Fate.WAITING,
                "reason": "",
            }
            for lost in desktops
        ]
        await self._session.execute(postgresql.insert(LostDesktop).on_conflict_do_nothing(), rows)

    async def lost(self, incident_id: UUID) -> Sequence[tuple[LostDesktop, Desktop | None]]:
        """Its desktops, most important first, with what inventory says of them now."""
        chosen = (
            sa.select(LostDesktop, Desktop)
            .outerjoin(Desktop, Desktop.id == LostDesktop.desktop_id)
            .where(LostDesktop.incident_id == incident_id)
            .order_by(LostDesktop.priority.desc(), LostDesktop.name)
        )
        return [(lost, seen) for lost, seen in await self._session.execute(chosen)]

    async def given_up(self) -> dict[str, int]:
        """How many desktops of each host's incidents are given up and still are so now."""
        chosen = (
            sa.select(Incident.node, sa.func.count(sa.distinct(LostDesktop.desktop_id)))
            .join(LostDesktop, LostDesktop.incident_id == Incident.id)
            .join(Desktop, Desktop.id == LostDesktop.desktop_id)
            .where(
                LostDesktop.fate == Fate.GIVEN_UP,
                Desktop.problem_code == GIVEN_UP_CODE,
                # One that has run since was given up for another reason.
                Desktop.running_revision <= LostDesktop.revision,
            )
            .group_by(Incident.node)
        )
        return {node: count for node, count in await self._session.execute(chosen)}  # noqa: C416

    @staticmethod
    def _found(incident_id: UUID, incident: Incident | None) -> Incident:
        if incident is None:
            raise NotFound(
                "incident.unknown", "There is no incident {incident}.", incident=str(incident_id)
            )
        return incident
