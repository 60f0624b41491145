"""What a node saw of one desktop."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from roost_common import log
from roost_common.contracts.base import Delivery
from roost_common.contracts.desktop import DomainObservation, DomainObserved, DomainState
from roost_common.outbox import UnitOfWork
from roost_inventory.advance import Emit, eviction_command
from roost_inventory.changes import emit, published
from roost_inventory.model import Desktop
from roost_inventory.repository import Desktops, Readings

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
            with published(transaction, desktop):
                if take_in(desktop, event.node, seen, now, partial(emit, transaction)):
                    transaction.after_commit(self._wake)
            if seen.guest is not None and desktop.host == event.node:
                await Readings(transaction.session).write([seen], now)


def take_in(desktop: Desktop, node: str, seen: DomainObservation, now: datetime, say: Emit) -> bool:
    """What one observation means for a desktop; True when the loop has to look at it.

    A copy where it has no business is taken away.
    """
    if is_stray(desktop, node, seen):
        logger.warning("domain.stray", node=node, desktop=str(desktop.id), host=desktop.host)
        say(eviction_command(desktop), node)
        return False
    before = desktop.situation()
    desktop.observe(node, seen, now)
    if desktop.situation() == before:
        return False
    desktop.touch(now)
    return True


def is_stray(desktop: Desktop, node: str, seen: DomainObservation) -> bool:
    """Whether a copy is where it has no business, by something newer than what is known."""
    if desktop.host == node or seen.state is DomainState.ABSENT:
        return False
    return not desktop.is_older(node, seen.observed_at)
