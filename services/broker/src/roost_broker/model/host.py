"""A node as its reports show it to broker."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, mapped_column

from roost_broker.model.base import Base

LATE: Final = timedelta(minutes=1)
"""Far longer than a report is on its way: a run that still reports after this is the present one,
in whatever order the first words of the two came."""
RETIRED_KEPT: Final = 8


class Host(Base):
    """Which run of a node's agent reports, and the last report that was taken in."""

    __tablename__ = "hosts"

    node: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    agent_id: Mapped[UUID]
    agent_since: Mapped[datetime]
    """When this run was first heard of."""
    retired_agents: Mapped[list[UUID]] = mapped_column(postgresql.ARRAY(sa.Uuid))
    """Earlier runs, the latest last."""
    sent_at: Mapped[datetime | None]
    """``sent_at`` of a report whose clients have been compared with the sessions: a time of this
    run of the agent. Written every few seconds, not with every report."""
    reported_at: Mapped[datetime | None]
    """When that report came, by broker's clock."""

    def hear(self, agent_id: UUID, now: datetime) -> bool:
        """A run of its agent reports; False when its successor is known and this is a late word.

        Which run is the present one is told by the order in which they were first heard, never by
        the node's clock.
        """
        if agent_id == self.agent_id:
            return True
        if agent_id in self.retired_agents and now - self.agent_since < LATE:
            return False
        others = [one for one in self.retired_agents if one != agent_id]
        self.retired_agents = [*others, self.agent_id][-RETIRED_KEPT:]
        self.agent_id, self.agent_since = agent_id, now
        self.sent_at = None
        return True
