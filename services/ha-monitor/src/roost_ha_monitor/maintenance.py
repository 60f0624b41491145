"""What inventory says about hosts that people work on: no desktop is there, and none is missed."""

from __future__ import annotations

from collections.abc import Callable

from roost_common import log
from roost_common.contracts.base import Delivery
from roost_common.contracts.host import (
    HostActivated,
    HostApproved,
    HostDecided,
    HostMaintenance,
)
from roost_common.outbox import UnitOfWork
from roost_ha_monitor.repository import Hosts

logger = log.get_logger(__name__)


class Maintenance:
    """Handlers of inventory's decisions, which come in any order; any copy takes them."""

    def __init__(self, unit_of_work: UnitOfWork, changed: Callable[[], None]) -> None:
        self._unit = unit_of_work
        self._changed = changed

    async def began(self, delivery: Delivery, fact: HostMaintenance) -> None:
        """Its silence alarms nobody, and it is not fenced, until it is activated."""
        await self._note(delivery, fact, maintained=True)

    async def ended(self, delivery: Delivery, fact: HostActivated | HostApproved) -> None:
        """It is watched as any other; what is open about it goes on."""
        await self._note(delivery, fact, maintained=False)

    async def _note(self, delivery: Delivery, fact: HostDecided, *, maintained: bool) -> None:
        envelope = delivery.envelope
        async with self._unit(envelope) as transaction:
            # A later word is told by its time: no inbox is needed.
            host = await Hosts(transaction.session).lock_or_add(fact.node, envelope.time)
            if host.decided(fact.decided_at or envelope.time, maintained=maintained):
                transaction.after_commit(self._changed)
                logger.info("host.maintenance", node=fact.node, maintained=maintained)
