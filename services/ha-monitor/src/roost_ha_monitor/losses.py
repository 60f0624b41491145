"""What inventory says: which desktops a fenced host had, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable

from roost_common import log
from roost_common.contracts.base import Delivery
from roost_common.contracts.desktop import DesktopFact
from roost_common.contracts.host import HostDesktopsLost
from roost_common.contracts.incident import IncidentState
from roost_common.errors import NotFound
from roost_common.outbox import UnitOfWork
from roost_ha_monitor.repository import Desktops, Incidents

logger = log.get_logger(__name__)


class Losses:
    """Handlers of inventory's events; any copy takes them, the one that decides concludes."""

    def __init__(self, unit_of_work: UnitOfWork, wake: Callable[[], None]) -> None:
        self._unit = unit_of_work
        self._wake = wake

    async def lost(self, delivery: Delivery, fact: HostDesktopsLost) -> None:
        """These desktops were on the host."""
        async with self._unit.handling(delivery) as transaction:
            if transaction is None:
                return
            incidents = Incidents(transaction.session)
            try:
                incident = await incidents.lock(fact.incident_id)
            except NotFound:
                logger.warning("incident.unknown", incident=str(fact.incident_id))
                return
            if incident.state is not IncidentState.RECOVERING:
                return
            await incidents.lose(incident.id, fact.desktops)
            # A surer fence may have been asked for since: its answer is still to come.
            if fact.kept is not None and fact.by in (None, incident.fenced_by):
                incident.lost_known, incident.kept = True, fact.kept
            transaction.after_commit(self._wake)

    async def seen(self, delivery: Delivery, fact: DesktopFact) -> None:
        """Inventory's view of a desktop; one that came before changes nothing, without an inbox."""
        async with self._unit(delivery.envelope) as transaction:
            await Desktops(transaction.session).see(fact.desktop, delivery.envelope.time)
            transaction.after_commit(self._wake)
