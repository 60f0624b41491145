"""The detector's duty: judge every host, write down what changed, and say so.

Done by the copy that holds the lease, four times a second. The rows say what the bus was last
told; memory holds the same, read anew whenever this copy begins to hold the lease or was
overtaken. A change is a row, its event, its alerts, and for a host that is down its incident, in
one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from roost_common import log
from roost_common.clock import Clock
from roost_common.contracts.host import Health
from roost_common.errors import Conflict
from roost_common.loops import Loop
from roost_common.outbox import Transaction, UnitOfWork
from roost_ha_monitor import alerting, alerts, metrics, returning
from roost_ha_monitor.alerts import Key
from roost_ha_monitor.detector import Policy, State, Transition, step
from roost_ha_monitor.ears import Ears
from roost_ha_monitor.granting import Granting
from roost_ha_monitor.leading import Leading
from roost_ha_monitor.model import Host
from roost_ha_monitor.opening import open_incident
from roost_ha_monitor.repository import Alerts, Hosts, PowerOrders
from roost_ha_monitor.returning import Last
from roost_ha_monitor.witness import Witness

logger = log.get_logger(__name__)

TICK_S: Final = 0.25
BEATS_WRITTEN_S: Final = 10.0
"""How old ``last_beat_at`` in the database may be."""

Changes = dict[str, list[Transition]]


class Watch:
    """Judges hosts while this copy holds the lease."""

    def __init__(
        self,
        ears: Ears,
        leading: Leading,
        unit_of_work: UnitOfWork,
        clock: Clock,
        *,
        policy: Policy,
        witness: Witness,
        granting: Granting,
        agent_silent_after_s: float,
        downed: Callable[[], None],
    ) -> None:
        """``downed`` is called once a host is down or has been lost sight of otherwise."""
        self._ears = ears
        self._leading = leading
        self._unit = unit_of_work
        self._clock = clock
        self._policy = policy
        self._witness = witness
        self._granting = granting
        self._agent_silent_after_s = agent_silent_after_s
        self._downed = downed
        self._states: dict[str, State] | None = None
        self._forgotten = 0
        self._planned: set[str] = set()
        self._maintained: set[str] = set()
        self._open: set[Key] = set()
        self._was_deaf = False
        self._spared: Collection[str] = ()
        self._beats = Loop("beats", self.write_beats, BEATS_WRITTEN_S)

    def forget(self) -> None:
        """Somebody else changed a host's row: read them all again before judging."""
        self._states = None
        self._forgotten += 1

    def plan_silence(self, nodes: set[str]) -> None:
        """These hosts, and no others, are being switched off on purpose."""
        self._planned = nodes

    @property
    def loops(self) -> list[Loop]:
        """What is to run."""
        return [Loop("detector", self.tick, TICK_S), self._beats]

    async def tick(self) -> None:
        """Judge every host once. Raises `Unavailable` while the database is away."""
        metrics.LEADER.set(self._leading.held)
        forgotten = self._forgotten
        if self._leading.since is None:
            self._states = None
            self._witness.want({})
            return
        if self._states is None:
            self._states = await self._load()
        now = self._clock.monotonic()
        observing_since = self._ears.observing_since(now)
        self._note_hearing(deaf=observing_since is None)
        if observing_since is None:
            return
        states, changes = self._judge(self._states, now, observing_since)
        states = self._spare(self._states, states, now)
        suspected = [node for node, state in states.items() if state.health is Health.SUSPECTED]
        self._witness.want({node: self._granting.address(node) for node in suspected})
        plan = alerts.plan(states, self._open, now, self._agent_silent_after_s)
        if changes or plan:
            # Whatever goes wrong below, the rows are the truth and are read again.
            self._states = None
            try:
                self._open = await self._record(states, changes, plan, now)
            except Conflict as error:
                logger.warning("detector.overtaken", code=error.code)
                return
            self._beats.wake()
        # Not what was read or written before somebody else's change.
        self._states = states if self._forgotten == forgotten else None
        metrics.count_hosts(state.health for state in states.values())

    async def write_beats(self) -> None:
        """Note in the database when each host last beat, and who has time to come back."""
        if not self._leading.held or self._states is None:
            return
        written = {node for node, state in self._states.items() if state.health is not None}
        beats = [
            (node, at, pulse.libvirt)
            for node, pulse in sorted(self._ears.pulses.items())
            if node in written and (at := self._ears.last_beat_at(node)) is not None
        ]
        now, wall = self._clock.monotonic(), self._clock.now()
        spared = {
            node: until
            for node, state in self._states.items()
            if (until := _as_wall(state.spared_until, now, wall)) is not None
        }
        async with self._unit() as transaction:
            hosts = Hosts(transaction.session)
            # Every row, in one order for everybody, before some of them: no deadlocks.
            if spared or self._spared:
                await hosts.spare(spared)
            if beats:
                await hosts.heard(beats)
            # Another copy may have been told.
            self._maintained = await hosts.maintained()
        self._spared = spared.keys()

    def _spare(
        self, before: Mapping[str, State], states: Mapping[str, State], now: float
    ) -> dict[str, State]:
        """Who is given time to come back has it from now. Who is up again needs none any more."""
        given = returning.given_time(_healths(before), _healths(states))
        until = {
            node: now + self._policy.return_s if node in given else float("-inf")
            for node, state in states.items()
            if node in given or (state.health is Health.UP and self._ears.beats(node))
        }
        return {
            node: replace(state, spared_until=until.get(node, state.spared_until))
            for node, state in states.items()
        }

    def _judge(
        self, before: Mapping[str, State], now: float, observing_since: float
    ) -> tuple[dict[str, State], Changes]:
        states: dict[str, State] = {}
        changes: Changes = {}
        for node in sorted(before.keys() | self._ears.pulses.keys()):
            known = replace(
                before.get(node, State()),
                pulse=self._ears.pulses.get(node),
                planned=node in self._planned,
                maintained=node in self._maintained,
            )
            states[node], made = self._step(node, known, now, observing_since)
            if made:
                changes[node] = made
        return states, changes

    def _step(
        self, node: str, known: State, now: float, observing_since: float
    ) -> tuple[State, list[Transition]]:
        evidence, lease_over = None, False
        if known.health is not None:
            evidence = self._witness.evidence(node, self._granting.address(node))
            lease_left_s = self._granting.lease_left_s(node)
            lease_over = lease_left_s is not None and lease_left_s <= 0
        return step(
            known,
            None,
            now,
            self._policy,
            observing_since,
            evidence=evidence,
            lease_over=lease_over,
        )

    async def _load(self) -> dict[str, State]:
        # The quiet time of a host that recovered starts again: the copy before may have missed
        # a break that nobody wrote down.
        now, wall = self._clock.monotonic(), self._clock.now()
        async with self._unit() as transaction:
            hosts = Hosts(transaction.session)
            rows = await hosts.all_known()
            last = {host.node: Last(host.health, host.last_beat_at) for host in rows}
            spared = await hosts.lock_all(returning.expected(last, self._ears.pulses, wall))
            for host in spared.values():
                host.spared_until = wall + timedelta(seconds=self._policy.return_s)
            known = await Alerts(transaction.session).open_keys()
            self._planned = await PowerOrders(transaction.session).going_off()
        self._open = {key for key in known if key[0] in alerts.OF_STATES}
        self._spared = [host.node for host in rows if host.spared_until is not None]
        self._maintained = {host.node for host in rows if host.maintained}
        logger.info("detector.loaded", hosts=len(rows), alerts=len(self._open), spared=len(spared))
        return {host.node: self._state(host, now, wall) for host in rows}

    def _state(self, host: Host, now: float, wall: datetime) -> State:
        """A row as the detector's state; ``now`` and ``wall`` are the same moment."""
        spared_until = float("-inf")
        if host.spared_until is not None and host.spared(wall):
            # Never for longer than that, whatever the clock said of who wrote it.
            left_s = (host.spared_until - wall).total_seconds()
            spared_until = now + min(left_s, self._policy.return_s)
        return State(
            host.health,
            host.sequence,
            now,
            host.probation,
            waking=host.waking,
            spared_until=spared_until,
        )

    async def _record(
        self, states: Mapping[str, State], changes: Changes, plan: alerts.Plan, now: float
    ) -> set[Key]:
        """Write and say it all, or nothing; returns which alerts are open then."""
        wall = self._clock.now()
        async with self._unit() as transaction:
            about = {alert.object for alert in plan.to_raise}
            rows = await Hosts(transaction.session).lock_all(changes.keys() | about)
            for node in about:
                _check_current(node, rows.get(node), states[node], changes=node in changes)
            await self._record_health(transaction, rows, states, changes, wall=wall, now=now)
            await alerting.carry_out(transaction, plan, wall)
        for node, transitions in changes.items():
            for change in transitions:
                logger.info("host.health", node=node, health=change.health, reason=change.reason)
                metrics.TRANSITIONS.labels(change.health).inc()
        return (self._open - set(plan.to_clear)) | {alert.key for alert in plan.to_raise}

    async def _record_health(
        self,
        transaction: Transaction,
        rows: Mapping[str, Host],
        states: Mapping[str, State],
        changes: Changes,
        *,
        wall: datetime,
        now: float,
    ) -> None:
        hosts = Hosts(transaction.session)
        for node, transitions in changes.items():
            host = rows.get(node) or await hosts.lock_or_add(node, wall)
            host.last_beat_at = self._ears.last_beat_at(node) or host.last_beat_at
            pulse = states[node].pulse
            if pulse is not None and (not host.agent_id or host.agent_id in pulse.retired):
                host.agent_id = pulse.agent_id
            # Before its incident is looked at.
            host.spared_until = _as_wall(states[node].spared_until, now, wall)
            for change in transitions:
                since = wall - timedelta(seconds=now - change.at)
                probation = states[node].probation
                fact = host.change(
                    change.health, change.sequence, since, change.reason, probation=probation
                )
                transaction.emit(fact)
                if change.health is Health.DOWN:
                    await open_incident(transaction, host, wall)
                    transaction.after_commit(self._downed)

    def _note_hearing(self, *, deaf: bool) -> None:
        metrics.DEAF.set(deaf)
        if deaf != self._was_deaf:
            logger.warning("detector.deaf") if deaf else logger.info("detector.hears-again")
            self._was_deaf = deaf


def _check_current(node: str, row: Host | None, state: State, *, changes: bool) -> None:
    """Raises `Conflict` (``ha.overtaken``) when an alert would tell of what is not so any more:
    somebody took the host out of service, changed it or removed it. A change of its health finds
    the latter out by itself."""
    same = row is not None and row.health is not None and row.sequence == state.sequence
    aside = row is not None and row.maintained and not state.maintained
    if aside or not (same or changes):
        raise Conflict("ha.overtaken", "Somebody else changed {node} first.", node=node)


def _healths(states: Mapping[str, State]) -> dict[str, Health | None]:
    return {node: state.health for node, state in states.items()}


def _as_wall(until: float, now: float, wall: datetime) -> datetime | None:
    """A time to come as wall-clock time; ``now`` and ``wall`` are the same moment."""
    return wall + timedelta(seconds=until - now) if until > now else None
