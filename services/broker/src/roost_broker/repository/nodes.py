"""Queries for what is known of the nodes' reports."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from roost_broker.model import Host
from roost_common.contracts.host import HostReport
from roost_common.db import AsyncSession


class Nodes:
    """Nodes of one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, node: str) -> Host | None:
        """As it is now; nothing is locked."""
        return await self._session.scalar(
            sa.select(Host).where(Host.node == node).execution_options(populate_existing=True)
        )

    async def hear(self, node: str, agent_id: UUID, now: datetime) -> bool:
        """A run of the node's agent reports; False when this is a late word of an earlier one."""
        first = postgresql.insert(Host).values(
            node=node, agent_id=agent_id, agent_since=now, retired_agents=[]
        )
        await self._session.execute(first.on_conflict_do_nothing())
        host = await self._session.scalar(
            sa.select(Host).where(Host.node == node).with_for_update()
        )
        return host is not None and host.hear(agent_id, now)

    async def reported(self, report: HostReport, now: datetime) -> None:
        """A report was taken in; an older one of the same run changes nothing."""
        newer = sa.or_(Host.sent_at.is_(None), Host.sent_at < report.sent_at)
        await self._session.execute(
            sa.update(Host)
            .where(Host.node == report.node, Host.agent_id == report.agent_id, newer)
            .values(sent_at=report.sent_at, reported_at=now)
        )
