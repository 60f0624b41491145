"""What is taken off a host that was fenced, and told of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from roost_common import log
from roost_common.contracts.base import Delivery
from roost_common.contracts.host import HostDesktopsLost, HostFenced, LostDesktop
from roost_common.errors import Unavailable
from roost_common.outbox import Transaction, UnitOfWork
from roost_inventory import metrics
from roost_inventory.changes import published
from roost_inventory.fence import Fence, Verdict, loss
from roost_inventory.model import Desktop
from roost_inventory.repository import Desktops, Hosts

logger = log.get_logger(__name__)


class Losses:
    """Handler of ``host.fenced.v1``."""

    def __init__(self, unit_of_work: UnitOfWork, wake: Callable[[], None]) -> None:
        self._unit = unit_of_work
        self._wake = wake

    async def fenced(self, delivery: Delivery, event: HostFenced) -> None:
        """Free the host of what surely does not run there; the loop finds each another place.

        One transaction: whoever follows the incident learns of all of them at once. A host that
        nobody knows any more had none.
        """
        async with self._unit.handling(delivery) as transaction:
            if transaction is None:
                return
            # Desktops are locked before hosts, everywhere.
            desktops = Desktops(transaction.session)
            locked = await desktops.lock_many(await desktops.ids_on(event.node))
            lost, kept = await self._take_off(transaction, event, locked)
            transaction.emit(
                HostDesktopsLost(
                    node=event.node,
                    incident_id=event.incident_id,
                    by=event.by,
                    desktops=tuple(lost),
                    kept=kept,
                )
            )
            transaction.after_commit(self._wake)
        logger.warning(
            "host.desktops-lost",
            host=event.node,
            by=event.by.value,
            desktops=len(lost),
            restarted=sum(one.restart for one in lost),
            kept=kept,
        )

    async def _take_off(
        self, transaction: Transaction, event: HostFenced, locked: Sequence[Desktop]
    ) -> tuple[list[LostDesktop], int]:
        """What it lost, and how many more it may still run."""
        host = await Hosts(transaction.session).lock_by_name(event.node)
        if host is None:
            return [], 0
        if set(await Desktops(transaction.session).ids_on(event.node)) - {one.id for one in locked}:
            # Placed while this one waited for the host's lock: all of it again.
            raise Unavailable(
                "host.desktops-changed", "{host} was given a desktop.", host=host.name
            )
        fence = Fence(
            event.agent_id, event.by, event.scope, event.at, host.agent_id, host.agent_since
        )
        host.note_fenced(event.agent_id)
        now = self._unit.clock.now()
        verdicts = [(one, one.verdict_on(event.node, fence)) for one in locked]
        # One that is being moved may run on its other node: that one is asked first. The incident
        # waits for it as for the rest, for it is not over before it runs, wherever that is.
        moving = [one for one in locked if one.migration is not None]
        doubtful = [
            one
            for one in moving
            if one.note_fenced(fence, event.node, event.incident_id, now)
            and loss(one.assigned()) is Verdict.RESTART
        ]
        gone = [(one, what) for one, what in verdicts if one.migration is None and what.gone]
        with published(transaction, *(one for one, _ in gone)):
            for one, what in gone:
                one.lose_host(what, now)
        for _, what in gone:
            metrics.LOST.labels(what.name.lower().replace("_", "-")).inc()
        lost = [
            *(_lost(one, what) for one, what in gone),
            *(_lost(one, Verdict.RESTART) for one in doubtful),
        ]
        return lost, sum(what is Verdict.DOUBTFUL for _, what in verdicts)


def _lost(desktop: Desktop, what: Verdict) -> LostDesktop:
    return LostDesktop(
        desktop_id=desktop.id,
        desktop_name=desktop.name,
        revision=desktop.revision,
        restart=what is Verdict.RESTART,
        priority=desktop.priority,
    )
