"""Follows every incident from the host that is down to the last desktop that is back.

Done by the copy that decides, twice a second, from the rows alone: a copy that is killed at any
point leaves nothing behind that the next one does not find. A fence whose outcome nobody wrote
down is done again; that changes nothing about a host that is off.

Rows are locked in one order everywhere: host, then incident.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from roost_common import log
from roost_common.clock import Clock
from roost_common.contracts.alert import Severity
from roost_common.contracts.host import FencedBy, Health
from roost_common.contracts.incident import IncidentState, Resolution
from roost_common.loops import Loop
from roost_common.outbox import Transaction, UnitOfWork
from roost_ha_monitor import alerting, incident, metrics
from roost_ha_monitor.alerts import UNFENCED, Wanted
from roost_ha_monitor.ears import Ears
from roost_ha_monitor.fencing.devices import Devices
from roost_ha_monitor.fencing.plan import NothingWorked, Proven
from roost_ha_monitor.fencing.round import Rounds
from roost_ha_monitor.granting import Granting
from roost_ha_monitor.incident import Decision, Facts, Move
from roost_ha_monitor.journal import IncidentJournal
from roost_ha_monitor.leading import Leading
from roost_ha_monitor.model import Host, Incident
from roost_ha_monitor.node_tasks import NodeTasks
from roost_ha_monitor.recovering import Recovering
from roost_ha_monitor.repository import Armings, FenceDevices, Hosts, Incidents

logger = log.get_logger(__name__)

FOLLOW_S: Final = 0.5
KEEP_ALERTS_S: Final = 5.0


class Following:
    """Moves incidents on while this copy leads."""

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        leading: Leading,
        clock: Clock,
        *,
        ears: Ears,
        granting: Granting,
        devices: Devices,
        rounds: Rounds,
        tasks: NodeTasks,
        fence_at_most: float,
    ) -> None:
        self._unit = unit_of_work
        self._leading = leading
        self._ears = ears
        self._granting = granting
        self._devices = devices
        self._rounds = rounds
        self._tasks = tasks
        self._clock = clock
        self._fence_at_most = fence_at_most
        self._recovering = Recovering(unit_of_work, clock)
        self._loop = Loop("incidents", self.follow, FOLLOW_S)

    @property
    def loops(self) -> list[Loop]:
        """What is to run."""
        return [self._loop, Loop("incident-alerts", self.keep_alerts, KEEP_ALERTS_S)]

    def wake(self) -> None:
        """Look at once."""
        self._loop.wake()

    async def follow(self) -> None:
        """Move every incident on by one step."""
        if not self._acts():
            return
        async with self._unit() as transaction:
            open_ones = await Incidents(transaction.session).open_ones()
            hosts = await Hosts(transaction.session).all_known() if open_ones else []
        metrics.count_incidents(each.state for each in open_ones)
        unfenced = [each for each in open_ones if each.unfenced]
        hold = self._hold(unfenced, hosts)
        for each in unfenced:
            if not self._tasks.busy(each.node):
                await self._move(each.id, each.node, hold)
        for each in open_ones:
            if not each.unfenced:
                await self._recovering.settle(each.id)

    async def keep_alerts(self) -> None:
        """An alert for every host that has desktops which were given up."""
        if self._acts():
            await self._recovering.keep_alerts()

    def _acts(self) -> bool:
        """Whether this copy decides, and hears: who is deaf cannot know that a host is back."""
        return (
            self._leading.since is not None
            and self._ears.observing_since(self._clock.monotonic()) is not None
        )

    async def _move(self, incident_id: UUID, node: str, hold: str) -> None:
        now = self._clock.now()
        async with self._unit() as transaction:
            host = (await Hosts(transaction.session).lock_all([node])).get(node)
            row = await Incidents(transaction.session).lock(incident_id)
            if host is None or not row.unfenced or not self._acts():
                return
            facts = Facts(
                now=now,
                beats=host.health is not Health.DOWN,
                anew=self._runs_anew(node, row),
                devices=len(await FenceDevices(transaction.session).of(node)),
                lease_left_s=self._granting.lease_left_s(node, host.written),
                disarmed=await Armings(transaction.session).disarmed(),
                held_back=hold,
                spared=host.spared(now),
                maintained=host.maintained,
            )
            decision = incident.decide(row.standing, facts)
            await self._carry_out(transaction, row, decision, facts, now)
        if decision.move is Move.FENCE:
            self._tasks.start(node, partial(self._fence, incident_id, node))

    def _hold(self, unfenced: Sequence[Incident], hosts: Sequence[Host]) -> str:
        forced = {each.node for each in unfenced if each.forced_by}
        aside = {host.node for host in hosts if host.maintained}
        unfenced = [each for each in unfenced if each.node not in aside]
        watched = [
            host
            for host in hosts
            if host.health not in (None, Health.OFF) and host.node not in aside
        ]
        # Rows alone may tell of a time before this copy began.
        beating = sum(
            host.health in (Health.UP, Health.RECOVERED) and self._ears.beats(host.node)
            for host in watched
            if host.node not in forced
        )
        return incident.hold(len(unfenced), len(watched), beating, self._fence_at_most)

    def _runs_anew(self, node: str, row: Incident) -> bool:
        pulse = self._ears.pulses.get(node)
        return pulse is not None and row.agent_id is not None and pulse.agent_id != row.agent_id

    async def _carry_out(
        self,
        transaction: Transaction,
        row: Incident,
        decision: Decision,
        facts: Facts,
        now: datetime,
    ) -> None:
        match decision.move:
            case Move.LEASE_IS_OVER:
                await fenced(transaction, row, FencedBy.LEASE, now, decision.detail)
            case Move.FALSE_ALARM:
                how = Resolution.CAME_BACK if facts.anew else Resolution.FALSE_ALARM
                transaction.emit(row.resolve(how, now, decision.detail))
                await alerting.clear(transaction, (UNFENCED, row.node), now)
                logger.info("incident.not-fenced", node=row.node, incident=str(row.id), why=how)
            case _:
                await stands(transaction, row, decision.state, decision.detail, now)

    async def _fence(self, incident_id: UUID, node: str) -> None:
        """One round, in a task of its own."""
        devices = await self._devices.of(node)
        journal = IncidentJournal(self._unit, self._clock, self._leading, incident_id, node)
        ending = await self._rounds.off(devices, journal)
        now = self._clock.now()
        async with self._unit() as transaction:
            await Hosts(transaction.session).lock_all([node])
            incidents = Incidents(transaction.session)
            row = await incidents.lock(incident_id)
            if isinstance(ending, Proven):
                words = "It was switched off, and says that it is off."
                await incidents.end(journal.attempt_id, now, words, fenced=True)
                metrics.FENCINGS.labels("done").inc()
                if row.unfenced:
                    words = f"{devices[ending.position].agent} switched it off."
                    await fenced(transaction, row, FencedBy.DEVICE, now, words)
            elif isinstance(ending, NothingWorked):
                row.round_failed(now)
        self.wake()


async def fenced(
    transaction: Transaction, row: Incident, by: FencedBy, now: datetime, detail: str
) -> None:
    """It is sure: say so, in the same transaction. Raises `Conflict` where it is over."""
    for event in row.fence(by, now, detail):
        transaction.emit(event)
    await alerting.clear(transaction, (UNFENCED, row.node), now)
    logger.info("host.fenced", node=row.node, by=by, incident=str(row.id))


async def stands(
    transaction: Transaction, row: Incident, state: IncidentState, detail: str, now: datetime
) -> None:
    """An incident that is not fenced stands there; a person is called where one is needed."""
    changed = row.stand(state, detail)
    if changed is None:
        return
    transaction.emit(changed)
    logger.info("incident.changed", node=row.node, state=state, incident=str(row.id))
    wanted = None
    if state is IncidentState.AWAITING_CONFIRMATION:
        message = (
            f"Nothing has made sure that host {row.node} is off: its desktops are not restarted. "
            "Its incident says why; confirm it when you know that it is off."
        )
        wanted = Wanted(UNFENCED, row.node, Severity.ALERT, message)
    await alerting.set_one(transaction, (UNFENCED, row.node), wanted, now)
