"""What a node saw of one desktop."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from roost_common import log
from roost_common.contracts.base import Delivery
from roost_common.contracts.desktop import DomainObservation, DomainObserved, DomainState
from roost_common.outbox import Transaction, UnitOfWork
from roost_inventory.advance import Emit, eviction_command
from roost_inventory.changes import emit, published
from roost_inventory.model import Desktop
from roost_inventory.repository import Desktops, Hosts, Readings
from roost_inventory.witness import Witness

logger = log.get_logger(__name__)


class Observations:
    """Handler of ``domain.observed.v1``."""

    def __init__(self, unit_of_work: UnitOfWork, wake: Callable[[], None]) -> None:
        self._unit = unit_of_work
        self._wake = wake

    async def observed(self, delivery: Delivery, event: DomainObserved) -> None:
        """Take it in where it is news of the assignment; a copy elsewhere is taken away."""
        async with self._unit.handling(delivery) as transaction:
            if transaction is None:
                return
            seen, now = event.domain, self._unit.clock.now()
            desktop = await Desktops(transaction.session).lock(seen.desktop_id)
            if desktop is None:
                logger.warning("domain.unknown", node=event.node, desktop=str(seen.desktop_id))
                return
            if not await self._is_present(transaction, event):
                logger.info("domain.observed-late", node=event.node, desktop=str(desktop.id))
                return
            by = Witness(event.node, event.agent_id)
            with published(transaction, desktop):
                if take_in(desktop, by, seen, now, partial(emit, transaction)):
                    transaction.after_commit(self._wake)
            if seen.guest is not None and desktop.host == event.node:
                await Readings(transaction.session).write([seen], now)

    @staticmethod
    async def _is_present(transaction: Transaction, event: DomainObserved) -> bool:
        """Whether the run of the agent that says it is the one that reports.

        Events wait in a queue for as long as nobody takes them, reports do not: so a run is known
        by its reports, and what it says before the first of them is said by that one again. To be
        asked with the desktop locked: then no report of a later run has been taken in before.
        """
        if event.agent_id is None:
            return True
        return await Hosts(transaction.session).agent_of(event.node) == event.agent_id


def take_in(
    desktop: Desktop, by: Witness, seen: DomainObservation, now: datetime, say: Emit
) -> bool:
    """What one observation means for a desktop; True when the loop has to look at it.

    A copy where it has no business is taken away.
    """
    if is_stray(desktop, by, seen):
        logger.warning("domain.stray", node=by.node, desktop=str(desktop.id), host=desktop.host)
        say(eviction_command(desktop, by.agent_id), by.node)
        return False
    before = desktop.situation()
    heard = desktop.hear(by, seen, now)
    if desktop.situation() == before and not (heard and desktop.migration is not None):
        return False
    desktop.touch(now)
    return True


def is_stray(desktop: Desktop, by: Witness, seen: DomainObservation) -> bool:
    """Whether a copy is where it has no business, by something newer than what is known."""
    if desktop.knows(by.node) or seen.state is DomainState.ABSENT:
        return False
    return not desktop.is_older(by, seen.observed_at)
