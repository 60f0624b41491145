"""SPICE clients that nodes see: they make sessions active and disconnected.

Level-triggered: an event is the fast way, the next report says the same and makes good what was
lost. Runs are told apart by ``boot_id``, and of two observations the newer one counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID

from roost_broker.model import Session
from roost_broker.repository.pools import Pools
from roost_broker.repository.sessions import Sessions
from roost_common import log
from roost_common.contracts.desktop import DomainObservation, DomainState
from roost_common.contracts.host import HostReport
from roost_common.contracts.session import SessionConnected, SessionState
from roost_common.outbox import Transaction, UnitOfWork

logger = log.get_logger(__name__)

WRITTEN_EVERY: Final = timedelta(seconds=3)
"""A node's ``reported_at`` is written no more often; overdue sessions wait for it."""


class Sightings:
    """What nodes see, compared with what sessions say."""

    def __init__(self, unit_of_work: UnitOfWork) -> None:
        self._unit = unit_of_work

    async def observed(
        self, transaction: Transaction, node: str, domain: DomainObservation
    ) -> None:
        """One desktop changed."""
        if domain.boot_id is None or domain.state is not DomainState.RUNNING:
            return
        last = await Pools(transaction.session).reported_at(node)
        if last is not None and domain.observed_at < last:
            return  # a report taken in since said it all
        sessions = await Sessions(transaction.session).lock_by_boot([domain.boot_id])
        for session in sessions:
            self._compare(transaction, session, domain)

    async def reported(self, report: HostReport) -> None:
        """A node told of all its desktops."""
        runs = {
            domain.boot_id: domain
            for domain in report.domains
            if domain.boot_id is not None and domain.state is DomainState.RUNNING
        }
        async with self._unit() as transaction:
            pools = Pools(transaction.session)
            last = await pools.reported_at(report.node)
            if last is not None and report.sent_at <= last:
                return
            whole = await self._compare_all(transaction, runs) if runs else True
            due = last is None or report.sent_at - last >= WRITTEN_EVERY
            if report.complete and whole and due:
                await pools.reported(report)

    async def _compare_all(
        self, transaction: Transaction, runs: Mapping[UUID, DomainObservation]
    ) -> bool:
        """False when a session was locked and is left to the next report."""
        sessions = Sessions(transaction.session)
        known = await sessions.by_boot(list(runs))
        changed = [
            boot_id
            for boot_id, (_, state) in known.items()
            if (state == SessionState.ACTIVE) != bool(runs[boot_id].clients)
        ]
        if not changed:
            return True
        locked = await sessions.lock_by_boot(changed, skip_locked=True)
        for session in locked:
            self._compare(transaction, session, runs[session.boot_id])
        return len(locked) == len(changed)

    def _compare(
        self, transaction: Transaction, session: Session, domain: DomainObservation
    ) -> None:
        address = domain.clients[-1].address if domain.clients else None
        event = session.observed(address, domain.observed_at, self._unit.clock.now())
        if event is not None:
            transaction.emit(event)
            connected = isinstance(event, SessionConnected)
            logger.info(
                "session.connected" if connected else "session.disconnected",
                session=str(session.id),
                user=session.user_name,
            )
