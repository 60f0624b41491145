"""Queries for what is known of the nodes' reports."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from roost_broker.model import Host
from roost_common.contracts.host import HostReport
from roost_common.db import AsyncSession

_NODE: Final = sa.bindparam("p_node", type_=sa.String())
_SENT_AT: Final = sa.bindparam("p_sent_at", type_=sa.DateTime(timezone=True))

# For every report: to build a statement takes longer than to execute it.
_GET: Final = sa.select(Host).where(Host.node == _NODE).execution_options(populate_existing=True)
_REPORTED: Final = (
    sa.update(Host)
    .where(
        Host.node == _NODE,
        Host.agent_id == sa.bindparam("p_agent_id", type_=sa.Uuid()),
        sa.or_(Host.sent_at.is_(None), Host.sent_at < _SENT_AT),
    )
    .values(sent_at=_SENT_AT, reported_at=sa.bindparam("p_now", type_=sa.DateTime(timezone=True)))
    .execution_options(synchronize_session=False)
)


class Nodes:
    """Nodes of one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, node: str) -> Host | None:
        """As it is now; nothing is locked."""
        return await self._session.scalar(_GET, {"p_node": node})

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
        row = {
            "p_node": report.node,
            "p_agent_id": report.agent_id,
            "p_sent_at": report.sent_at,
            "p_now": now,
        }
        await self._session.execute(_REPORTED, row)
