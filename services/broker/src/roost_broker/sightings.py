"""SPICE clients that nodes see: they make sessions active and disconnected.

Level-triggered: an event is the fast way, the next report says the same and makes good what was
lost. Runs of a desktop are told apart by ``boot_id``. Of two observations that one run of an agent
made the newer one counts; those of an earlier run of the agent count no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from roost_broker.model import Host, Session
from roost_broker.repository.nodes import Nodes
from roost_broker.repository.sessions import Sessions
from roost_common import log
from roost_common.contracts.desktop import DomainObservation, DomainObserved, DomainState
from roost_common.contracts.host import HostReport
from roost_common.contracts.session import SessionConnected, SessionState
from roost_common.outbox import Transaction, UnitOfWork

logger = log.get_logger(__name__)

WRITTEN_EVERY: Final = timedelta(seconds=3)
"""That a node reported is written no more often; overdue sessions wait for it."""


class Sightings:
    """What nodes see, compared with what sessions say."""

    def __init__(self, unit_of_work: UnitOfWork) -> None:
        self._unit = unit_of_work

    async def observed(self, transaction: Transaction, event: DomainObserved) -> None:
        """One desktop changed."""
        domain = event.domain
        if domain.boot_id is None or domain.state is not DomainState.RUNNING:
            return
        sessions = await Sessions(transaction.session).lock_by_boot([domain.boot_id])
        if not sessions:
            return
        # Under the locks: then no report of a later run has been compared before.
        host = await Nodes(transaction.session).get(event.node)
        if event.agent_id is not None and (host is None or host.agent_id != event.agent_id):
            # Events wait in a queue, reports do not: the run that reports is the present one, and
            # what it says before its first report is said by that one again.
            return
        if host is not None and host.sent_at is not None and domain.observed_at < host.sent_at:
            return  # a report taken in since said it all
        for session in sessions:
            self._compare(transaction, session, domain, event.agent_id)

    async def reported(self, report: HostReport) -> None:
        """A node told of all its desktops."""
        now = self._unit.clock.now()
        async with self._unit() as transaction:
            host = await Nodes(transaction.session).get(report.node)
            if host is not None and host.agent_id == report.agent_id:
                await self._take_in(transaction, host, report, now)
                return
        # A transaction of its own: what is compared under the locks of sessions finds the present
        # run decided.
        async with self._unit() as transaction:
            heard = await Nodes(transaction.session).hear(report.node, report.agent_id, now)
        if heard:
            await self.reported(report)

    async def _take_in(
        self, transaction: Transaction, host: Host, report: HostReport, now: datetime
    ) -> None:
        if host.sent_at is not None and report.sent_at <= host.sent_at:
            return
        runs = {
            domain.boot_id: domain
            for domain in report.domains
            if domain.boot_id is not None and domain.state is DomainState.RUNNING
        }
        whole = await self._compare_all(transaction, report, runs) if runs else True
        first = host.sent_at is None
        due = host.reported_at is None or now - host.reported_at >= WRITTEN_EVERY
        if report.complete and whole and (first or due):
            await Nodes(transaction.session).reported(report, now)

    async def _compare_all(
        self,
        transaction: Transaction,
        report: HostReport,
        runs: Mapping[UUID, DomainObservation],
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
        host = await Nodes(transaction.session).get(report.node)
        if host is None or host.agent_id != report.agent_id:
            return False  # a later run has reported meanwhile
        for session in locked:
            self._compare(transaction, session, runs[session.boot_id], report.agent_id)
        return len(locked) == len(changed)

    def _compare(
        self,
        transaction: Transaction,
        session: Session,
        domain: DomainObservation,
        agent_id: UUID | None,
    ) -> None:
        address = domain.clients[-1].address if domain.clients else None
        now = self._unit.clock.now()
        event = session.observed(address, domain.observed_at, now, agent_id)
        if event is not None:
            transaction.emit(event)
            connected = isinstance(event, SessionConnected)
            logger.info(
                "session.connected" if connected else "session.disconnected",
                session=str(session.id),
                user=session.user_name,
            )
