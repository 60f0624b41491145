"""A node's report: the node itself, and the whole truth about the desktops on it.

A report of two hundred desktops costs one query to compare, and writes only what changed. It is
telemetry: there is no inbox, because the next report says the same, and an older one is told by
the run of the agent and, within one run, by the node's own times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from functools import partial
from uuid import UUID

from roost_common import log
from roost_common.contracts.base import Delivery
from roost_common.contracts.desktop import DomainObservation, DomainState, Power
from roost_common.contracts.host import HostApproved, HostEnrolled, HostReport
from roost_common.outbox import Transaction, UnitOfWork
from roost_inventory.changes import emit, published
from roost_inventory.model import Administrative, Desktop, Host
from roost_inventory.observations import take_in
from roost_inventory.repository import Desktops, Healths, Hosts, Readings, SeenRow
from roost_inventory.settings import Settings
from roost_inventory.witness import Witness

logger = log.get_logger(__name__)

WAKE_ON_NEW_ROOM = 1000
"""How many that wait for room are tried again when a host comes or grows."""


class Reports:
    """Handler of ``host.report.v1``."""

    def __init__(
        self, unit_of_work: UnitOfWork, settings: Settings, wake: Callable[[], None]
    ) -> None:
        self._unit = unit_of_work
        self._auto_approve = settings.auto_approve
        self._interval = timedelta(seconds=settings.readings_interval_s)
        self._wake = wake
        self._strangers: dict[str, frozenset[UUID]] = {}
        """Domains nobody ordered, by node: said once, not with every report."""

    async def reported(self, delivery: Delivery, report: HostReport) -> None:
        """Enrol the node, or take in what is new."""
        now = self._unit.clock.now()
        async with self._unit(delivery.envelope) as transaction:
            host = await Hosts(transaction.session).by_name(report.node)
            if host is None:
                await self._enrol(transaction, report, now)
                return
            if host.agent_id == report.agent_id:
                clear = False
                # While the node is not trusted, what it says of desktops is not either.
                if host.administrative is not Administrative.PENDING:
                    full = now - host.reported_at >= self._interval
                    clear = await self._take_in(
                        transaction, report, host.agent_since, now, readings=full
                    )
                if self._is_news(host, report, now) or (host.fenced and clear):
                    await self._update(transaction, report, now, clear=clear)
                return
        if await self._heard_anew(report, now):
            await self.reported(delivery, report)

    # --- the node itself ----------------------------------------------------------------------

    async def _enrol(self, transaction: Transaction, report: HostReport, now: datetime) -> None:
        health = await Healths(transaction.session).of(report.node)
        host = Host.enrolled(report, health, now)
        if not await Hosts(transaction.session).add(host):
            return  # another copy was faster; the next report goes on from there
        transaction.emit(HostEnrolled(node=host.name))
        logger.info("host.enrolled", host=host.name)
        if any(fnmatchcase(host.name, pattern) for pattern in self._auto_approve):
            host.approve(now)
            transaction.emit(HostApproved(node=host.name, decided_at=host.decided_at))
            await self._new_room(transaction, now)

    async def _heard_anew(self, report: HostReport, now: datetime) -> bool:
        """Another run of the agent reports; False when it is a late word of an earlier one.

        A transaction of its own, because desktops are locked before hosts: what is taken in under
        the locks of desktops finds the present run decided.
        """
        async with self._unit() as transaction:
            host = await Hosts(transaction.session).lock_by_name(report.node)
            if host is None or not host.hear(report.agent_id, now):
                return False
        async with self._unit() as transaction:
            # Commands to the earlier run are void: what still waits for one is told again.
            await Desktops(transaction.session).touch_on_host(report.node, now)
            transaction.after_commit(self._wake)
        logger.info("host.agent-changed", host=report.node, agent=str(report.agent_id))
        return True

    def _is_news(self, host: Host, report: HostReport, now: datetime) -> bool:
        return (
            host.address != report.address
            or host.capabilities != report.capabilities
            or now - host.reported_at >= self._interval
        )

    async def _update(
        self, transaction: Transaction, report: HostReport, now: datetime, *, clear: bool
    ) -> None:
        host = await Hosts(transaction.session).lock_by_name(report.node)
        if host is None or host.agent_id != report.agent_id:
            return
        grown = host.capabilities != report.capabilities
        host.note_report(report, now)
        cleared = clear and host.note_clear(report.agent_id)
        if cleared:
            logger.info("host.clear", host=host.name)
        if (grown or cleared) and host.usable:
            await self._new_room(transaction, now)

    async def _new_room(self, transaction: Transaction, now: datetime) -> None:
        await Desktops(transaction.session).wake_waiting(WAKE_ON_NEW_ROOM, now)
        transaction.after_commit(self._wake)

    # --- its desktops -------------------------------------------------------------------------

    async def _take_in(
        self,
        transaction: Transaction,
        report: HostReport,
        agent_since: datetime,
        now: datetime,
        *,
        readings: bool,
    ) -> bool:
        """True when the node surely has nothing that belongs elsewhere."""
        desktops = Desktops(transaction.session)
        named = {one.desktop_id: one for one in report.domains}
        rows = await desktops.seen_on(report.node, named.keys())
        self._note_strangers(report.node, frozenset(named.keys() - {row.id for row in rows}))
        news = [row.id for row in rows if is_news(row, report, named.get(row.id))]
        if news:
            await self._apply(
                transaction, news, report, named=named, agent_since=agent_since, now=now
            )
        await self._write_readings(transaction, rows, report, now, everything=readings)
        return report.complete and all(report.node in (row.host, row.migrating_to) for row in rows)

    def _note_strangers(self, node: str, strangers: frozenset[UUID]) -> None:
        """A domain with Roost's mark that is in no record here is left alone, and told of."""
        new = strangers - self._strangers.get(node, frozenset())
        self._strangers[node] = strangers
        for desktop in sorted(new):
            logger.warning("domain.unknown", node=node, desktop=str(desktop))

    async def _apply(
        self,
        transaction: Transaction,
        ids: Sequence[UUID],
        report: HostReport,
        *,
        named: dict[UUID, DomainObservation],
        agent_since: datetime,
        now: datetime,
    ) -> None:
        locked = await Desktops(transaction.session).lock_many(ids)
        if await Hosts(transaction.session).agent_of(report.node) != report.agent_id:
            return  # while this one waited for the locks, a later run has reported
        by = Witness(report.node, report.agent_id)
        for desktop in locked:
            seen = named.get(desktop.id)
            with published(transaction, desktop):
                if seen is not None:
                    news = take_in(desktop, by, seen, now, partial(emit, transaction))
                else:
                    news = take_in_absence(desktop, report, agent_since, now)
            if news:
                transaction.after_commit(self._wake)

    @staticmethod
    async def _write_readings(
        transaction: Transaction,
        rows: Sequence[SeenRow],
        report: HostReport,
        now: datetime,
        *,
        everything: bool,
    ) -> None:
        ours = {row.id for row in rows if row.host == report.node}
        samples = [
            one
            for one in report.domains
            if one.desktop_id in ours and not (one.guest is None and one.stats is None)
        ]
        readings = Readings(transaction.session)
        if not everything:
            # A guest that has just begun to answer is not kept waiting for its turn.
            samples = [one for one in samples if one.guest is not None]
            if samples:
                known = await readings.with_guest({one.desktop_id for one in samples})
                samples = [one for one in samples if one.desktop_id not in known]
        await readings.write(samples, now)


def take_in_absence(
    desktop: Desktop, report: HostReport, agent_since: datetime, now: datetime
) -> bool:
    """What it means that a complete report lacks a desktop; True when the loop has to look."""
    by = Witness(report.node, report.agent_id)
    if not desktop.hear_absence(by, report.sent_at, agent_since, now):
        return False
    desktop.touch(now)
    return True


def is_news(  # noqa: PLR0911 - one line for each reason
    row: SeenRow, report: HostReport, seen: DomainObservation | None
) -> bool:
    """Whether a desktop is worth locking: the report says of it what is not known yet. Pure."""
    if row.migrating_to is not None and report.node in (row.host, row.migrating_to):
        return seen is not None or report.complete
    if row.host != report.node:
        return seen is not None and seen.state is not DomainState.ABSENT
    if seen is None:
        if not report.complete:
            return False
        if row.told is Power.ON:
            return row.seen_state not in (None, DomainState.ABSENT)
        return not (
            row.seen_state is DomainState.ABSENT and row.seen_generation >= row.told_generation
        )
    same_run = Witness(row.seen_host, row.seen_agent).same_run(
        Witness(report.node, report.agent_id)
    )
    if same_run and row.seen_at is not None and seen.observed_at <= row.seen_at:
        return False
    told = (seen.state, seen.generation, seen.problem)
    if told != (row.seen_state, row.seen_generation, row.seen_problem):
        return True
    up = seen.state is not DomainState.SHUTOFF
    return up and (seen.boot_id, seen.spice) != (row.boot_id, row.spice)
