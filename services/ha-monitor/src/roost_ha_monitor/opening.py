"""An incident begins: a host is down, or an administrator wants it fenced."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

from roost_common import log
from roost_common.outbox import Transaction
from roost_ha_monitor.model import Host, Incident
from roost_ha_monitor.repository import Incidents

logger = log.get_logger(__name__)


async def open_incident(
    transaction: Transaction, host: Host, now: datetime, *, forced_by: str | None = None
) -> Incident | None:
    """A new incident of a host whose row is locked.

    None where one is open already, or where this run of its agent was fenced and has not been
    heard since: then its silence is the fence's.
    """
    incidents = Incidents(transaction.session)
    if await incidents.unfenced(host.node) is not None:
        return None
    heard_at = host.last_beat_at
    if not forced_by and await incidents.fenced_since(host.node, host.agent_id, heard_at):
        return None
    incident = Incident(
        id=uuid4(),
        node=host.node,
        noticed_at=now,
        last_heard_at=heard_at,
        agent_id=host.agent_id,
        forced_by=forced_by,
    )
    incidents.add(incident)
    await transaction.session.flush()
    transaction.emit(incident.opened())
    logger.info("incident.opened", node=host.node, incident=str(incident.id))
    return incident
