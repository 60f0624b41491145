"""The largest guests that placement accepts, published for those who are asked elsewhere.

Level-triggered: whatever changes the limits (a host that comes, grows or is removed, another
policy of overcommitment), the next look sees it. No host's row says so by itself.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from roost_common import log
from roost_common.contracts.host import PlacementLimitsChanged
from roost_common.outbox import UnitOfWork
from roost_inventory.placement import largest_guests
from roost_inventory.repository import Hosts, Limitations
from roost_inventory.settings import Settings

logger = log.get_logger(__name__)

LOOK_EVERY_S: Final = 2.0
SAY_AGAIN: Final = timedelta(minutes=1)
"""How long a lost event goes unnoticed."""


class Limits:
    """One pass of the loop; copies take turns at the row."""

    def __init__(self, unit_of_work: UnitOfWork, settings: Settings) -> None:
        self._unit = unit_of_work
        self._overcommit = settings.overcommit
        self._said = False

    async def step(self) -> None:
        """Say what the limits are: when they are new, when this process is, and now and then."""
        now = self._unit.clock.now()
        async with self._unit() as transaction:
            said = await Limitations(transaction.session).lock(now)
            # After the lock: it sees what its last holder saw, or more.
            hosts = await Hosts(transaction.session).candidates()
            largest = largest_guests(hosts, overcommit=self._overcommit)
            changed = said.note(largest)
            if changed:
                logger.info("placement.limits-changed", largest=[str(one) for one in largest or ()])
            if changed or not self._said or now - said.said_at >= SAY_AGAIN:
                said.said_at = now
                transaction.emit(
                    PlacementLimitsChanged(revision=said.revision, largest=said.largest)
                )
        self._said = True
