"""What a round through fence devices writes into its incident."""

from __future__ import annotations

from uuid import UUID

from roost_common.clock import Clock
from roost_common.contracts.host import Health
from roost_common.outbox import UnitOfWork
from roost_ha_monitor.fencing.fence_agents import Device
from roost_ha_monitor.fencing.round import Journal
from roost_ha_monitor.incident import aside
from roost_ha_monitor.leading import Leading
from roost_ha_monitor.model import FencingAttempt
from roost_ha_monitor.repository import Armings, Hosts, Incidents


class IncidentJournal(Journal):
    """Every attempt is a row before it is made."""

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        clock: Clock,
        leading: Leading,
        incident_id: UUID,
        node: str,
    ) -> None:
        self.attempt_id = 0
        """The last one that began."""
        self._unit = unit_of_work
        self._clock = clock
        self._leading = leading
        self._incident_id = incident_id
        self._node = node

    async def unwanted(self) -> bool:
        """Another copy leads, the host beats or is in maintenance, a person was faster, or nothing
        may be fenced."""
        if not self._leading.held:
            return True
        async with self._unit() as transaction:
            incident = await Incidents(transaction.session).get(self._incident_id)
            if not incident.unfenced:
                return True
            if incident.forced_by is not None:
                return False
            hosts = await Hosts(transaction.session).lock_all([self._node])
            host = hosts.get(self._node)
            if host is None or host.health is not Health.DOWN:
                return True
            disarmed = await Armings(transaction.session).disarmed()
            return bool(aside(disarmed=disarmed, maintained=host.maintained))

    async def begin(self, device: Device) -> None:
        attempt = FencingAttempt(
            incident_id=self._incident_id,
            position=device.position,
            agent=device.agent,
            started_at=self._clock.now(),
        )
        async with self._unit() as transaction:
            self.attempt_id = await Incidents(transaction.session).begin(attempt)

    async def end(self, device: Device, outcome: str) -> None:
        async with self._unit() as transaction:
            await Incidents(transaction.session).end(
                self.attempt_id, self._clock.now(), outcome, fenced=False
            )
