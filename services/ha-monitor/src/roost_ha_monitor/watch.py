"""The detector's duty: judge every host, write down what changed, and say so.

Done by the copy that holds the lease, four times a second. The rows say what the bus was last
told; memory holds the same, read anew whenever this copy begins to hold the lease or was
overtaken. A change is a row, its event and its alerts in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from roost_common import log
from roost_common.clock import Clock
from roost_common.errors import Conflict
from roost_common.lease import Lease
from roost_common.loops import Loop
from roost_common.outbox import Transaction, UnitOfWork
from roost_ha_monitor import alerts, metrics
from roost_ha_monitor.alerts import Key
from roost_ha_monitor.detector import Policy, State, Transition, step
from roost_ha_monitor.ears import Ears
from roost_ha_monitor.model import Host
from roost_ha_monitor.notifications.announce import announce
from roost_ha_monitor.repository import Alerts, Hosts

logger = log.get_logger(__name__)

TICK_S: Final = 0.25
BEATS_WRITTEN_S: Final = 10.0
"""How old ``last_beat_at`` in the database may be."""

Changes = dict[str, list[Transition]]


class Watch:
    """Judges hosts while this copy holds the lease."""

    def __init__(
        self, ears: Ears, lease: Lease, unit_of_work: UnitOfWork, policy: Policy, clock: Clock
    ) -> None:
        self._ears = ears
        self._lease = lease
        self._unit = unit_of_work
        self._policy = policy
        self._clock = clock
        self._states: dict[str, State] | None = None
        self._open: set[Key] = set()
        self._was_deaf = False
        self._beats = Loop("beats", self.write_beats, BEATS_WRITTEN_S)

    @property
    def loops(self) -> list[Loop]:
        """What is to run."""
        return [Loop("detector", self.tick, TICK_S), self._beats]

    async def tick(self) -> None:
        """Judge every host once. Raises `Unavailable` while the database is away."""
        metrics.LEADER.set(self._lease.held)
        if not self._lease.held:
            self._states = None
            return
        if self._states is None:
            self._states = await self._load()
        now = self._clock.monotonic()
        observing_since = self._ears.observing_since(now)
        self._note_hearing(deaf=observing_since is None)
        if observing_since is None:
            return
        states, changes = self._judge(self._states, now, observing_since)
        plan = alerts.plan(states, self._open)
        if changes or plan:
            # Whatever goes wrong below, the rows are the truth and are read again.
            self._states = None
            try:
                self._open = await self._record(states, changes, plan, now)
            except Conflict as error:
                logger.warning("detector.overtaken", code=error.code)
                return
            self._beats.wake()
        self._states = states
        metrics.count_hosts(state.health for state in states.values())

    async def write_beats(self) -> None:
        """Note in the database when each host last beat."""
        if not self._lease.held or self._states is None:
            return
        written = {node for node, state in self._states.items() if state.health is not None}
        beats = [
            (node, at, pulse.libvirt)
            for node, pulse in self._ears.pulses.items()
            if node in written and (at := self._ears.last_beat_at(node)) is not None
        ]
        if beats:
            async with self._unit() as transaction:
                await Hosts(transaction.session).heard(beats)

    def _judge(
        self, before: Mapping[str, State], now: float, observing_since: float
    ) -> tuple[dict[str, State], Changes]:
        states: dict[str, State] = {}
        changes: Changes = {}
        for node in sorted(before.keys() | self._ears.pulses.keys()):
            known = replace(before.get(node, State()), pulse=self._ears.pulses.get(node))
            states[node], made = step(known, None, now, self._policy, observing_since)
            if made:
                changes[node] = made
        return states, changes

    async def _load(self) -> dict[str, State]:
        # The quiet time of a host that recovered starts again: the copy before may have missed
        # a break that nobody wrote down.
        now = self._clock.monotonic()
        async with self._unit() as transaction:
            rows = await Hosts(transaction.session).all_known()
            self._open = await Alerts(transaction.session).open_keys()
        logger.info("detector.loaded", hosts=len(rows), alerts=len(self._open))
        return {host.node: State(host.health, host.sequence, now, host.probation) for host in rows}

    async def _record(
        self, states: Mapping[str, State], changes: Changes, plan: alerts.Plan, now: float
    ) -> set[Key]:
        """Write and say it all, or nothing; returns which alerts are open then."""
        wall = self._clock.now()
        async with self._unit() as transaction:
            await self._record_health(transaction, states, changes, wall, now)
            await _record_alerts(transaction, plan, wall)
        for node, transitions in changes.items():
            for change in transitions:
                logger.info("host.health", node=node, health=change.health, reason=change.reason)
                metrics.TRANSITIONS.labels(change.health).inc()
        return (self._open - set(plan.to_clear)) | {alert.key for alert in plan.to_raise}

    async def _record_health(
        self,
        transaction: Transaction,
        states: Mapping[str, State],
        changes: Changes,
        wall: datetime,
        now: float,
    ) -> None:
        hosts = Hosts(transaction.session)
        rows = await hosts.lock_all(changes)
        for node, transitions in changes.items():
            if (host := rows.get(node)) is None:
                host = Host(node=node, health=None, sequence=0, since=wall, reason="")
                hosts.add(host)
            host.last_beat_at = self._ears.last_beat_at(node) or host.last_beat_at
            for change in transitions:
                since = wall - timedelta(seconds=now - change.at)
                probation = states[node].probation
                fact = host.change(
                    change.health, change.sequence, since, change.reason, probation=probation
                )
                transaction.emit(fact)

    def _note_hearing(self, *, deaf: bool) -> None:
        metrics.DEAF.set(deaf)
        if deaf != self._was_deaf:
            logger.warning("detector.deaf") if deaf else logger.info("detector.hears-again")
            self._was_deaf = deaf


async def _record_alerts(transaction: Transaction, plan: alerts.Plan, wall: datetime) -> None:
    repository = Alerts(transaction.session)
    for wanted in plan.to_raise:
        raised = await repository.open(wanted, wall)
        if raised is not None:
            await announce(transaction, raised.raised())
    for key in plan.to_clear:
        over = await repository.lock_open(key)
        if over is not None:
            await announce(transaction, over.clear(wall, "It is over."))
