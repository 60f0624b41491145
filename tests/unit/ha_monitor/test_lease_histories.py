"""Generated histories of one host with a lease: nothing it has is ever free too early.

The host beats, is granted, is cut off, is started again, loses its agent; beats and grants are
late or lost; ha-monitor's copies take turns and go deaf. Whatever happens, when a copy counts the
lease as over, the host has ended what is restarted elsewhere.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost_common.contracts.host import Health, HostBeat, LeaseGranted
from roost_ha_monitor.detector import Policy, Pulse, State, hear, step
from roost_ha_monitor.incident import Facts, Move, Standing, decide
from roost_ha_monitor.lease_policy import may_arm
from roost_ha_monitor.lease_watch import Written, due
from roost_host_agent.lease import Lease, Verdict

pytestmark = pytest.mark.long

LEASE_S, MARGIN_S = 12.0, 4.0
TICK = 0.5
FRESH_S = 2.5
POLICY = Policy()
EPOCH = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


class Machine:
    """A host with its agent's own lease, and a guard that ends its desktops."""

    def __init__(self) -> None:
        self.run = 0
        self.runs_desktops = True
        self._sequence = 0
        self._lease = Lease(self.agent_id, LEASE_S)

    @property
    def agent_id(self) -> UUID:
        return UUID(int=self.run + 1)

    def beat(self, now: float) -> HostBeat:
        self._sequence += 1
        armed = self._lease.armed
        self._lease.sent(self._sequence, now, armed=armed, witness=None)
        return HostBeat(
            node="kvm1",
            agent_id=self.agent_id,
            sequence=self._sequence,
            sent_at=EPOCH + timedelta(seconds=now),
            lease_s=LEASE_S,
            lease_armed=armed,
        )

    def granted(self, grant: LeaseGranted, now: float) -> None:
        self._lease.granted(grant, now)

    def restart_agent(self) -> None:
        """Its desktops run on, and the guard goes on with the lease of the run before."""
        self.run, self._sequence = self.run + 1, 0
        self._lease = Lease(self.agent_id, LEASE_S, inherited=self._lease.until)

    def tick(self, now: float) -> None:
        if self._lease.step(now, None) is Verdict.EXPIRED:
            self.runs_desktops = False


@dataclass
class Copy:
    """One copy of ha-monitor: what it hears, and since when it leads."""

    pulse: Pulse | None = None
    state: State = field(default_factory=State)
    hears_since: float | None = 0.0
    leads_since: float | None = None
    granted: tuple[UUID, int] | None = None


@dataclass
class Row:
    """What both copies share."""

    armed: bool = False
    agent_id: UUID | None = None
    armed_sequence: int = 0


def shuffle(copies: list[Copy], choices: random.Random, now: float) -> None:
    """Now and then another copy leads, or one hears nothing for a while."""
    if choices.random() < 0.02:
        old, new = copies if copies[0].leads_since is not None else copies[::-1]
        old.leads_since, new.leads_since = None, now
        new.state = State(old.state.health, old.state.sequence, now, old.state.probation)
    if choices.random() < 0.02:
        deaf = choices.choice(copies)
        deaf.hears_since = None if deaf.hears_since is not None else now


def play(choices: random.Random, seconds: int, *, disarms: float) -> int:
    """Plays a history; returns how often the lease was counted as over."""
    machine, row = Machine(), Row()
    copies = [Copy(leads_since=0.0), Copy()]
    beats: list[tuple[float, HostBeat]] = []
    grants: list[tuple[float, LeaseGranted]] = []
    cut_until, over, arm = 0.0, 0, True
    now = 0.0
    while now < seconds:
        now += TICK
        machine.tick(now)
        if choices.random() < 0.02:
            cut_until = now + choices.choice([1.0, 5.0, LEASE_S, 3 * LEASE_S])
        if choices.random() < 0.01:
            machine.restart_agent()
        shuffle(copies, choices, now)
        if choices.random() < disarms:
            arm = not arm
        if now % 1 == 0 and now >= cut_until:
            beat = machine.beat(now)
            beats.append((now + choices.choice([0.0, 0.0, 0.5, 2.0]), beat))
        due_beats = [beat for at, beat in beats if at <= now]
        beats = [(at, beat) for at, beat in beats if at > now]
        for copy in copies:
            if copy.hears_since is not None:
                for beat in due_beats:
                    copy.pulse = hear(copy.pulse, beat, now)
        for copy in copies:
            over += act(copy, row, machine, grants, now, arm=arm, late=choices.choice([0, 0, 1, 3]))
        for at, one in [each for each in grants if each[0] <= now]:
            grants.remove((at, one))
            if now >= cut_until:
                machine.granted(one, now)
    return over


def grant(
    copy: Copy,
    pulse: Pulse,
    row: Row,
    grants: list[tuple[float, LeaseGranted]],
    now: float,
    *,
    wanted: bool,
    late: float,
) -> None:
    """The row first, then the grant that it speaks of; as `granting` does it."""
    named = (pulse.agent_id, pulse.sequence)
    leads_since = copy.leads_since
    assert leads_since is not None
    if now - pulse.heard_at >= FRESH_S or pulse.arrived_at <= leads_since or copy.granted == named:
        return
    stays = row.armed and row.agent_id == pulse.agent_id
    row.armed = wanted and may_arm(pulse, armed_already=stays)
    if not stays:
        row.armed_sequence = pulse.sequence
    row.agent_id, copy.granted = pulse.agent_id, named
    one = LeaseGranted(
        node="kvm1", agent_id=pulse.agent_id, sequence=pulse.sequence, armed=row.armed
    )
    grants.append((now + late, one))


def act(
    copy: Copy,
    row: Row,
    machine: Machine,
    grants: list[tuple[float, LeaseGranted]],
    now: float,
    *,
    arm: bool,
    late: float,
) -> int:
    """What a copy does in one tick; 1 where it counts the lease as over."""
    if copy.leads_since is None or copy.hears_since is None:
        return 0
    if copy.pulse is not None and now % 1 == 0:
        grant(copy, copy.pulse, row, grants, now, wanted=arm, late=late)
    at = due(
        copy.pulse,
        Written(row.armed, row.agent_id, row.armed_sequence),
        observing_since=copy.hears_since,
        leading_since=copy.leads_since,
        margin_s=MARGIN_S,
    )
    known = State(
        copy.state.health,
        copy.state.sequence,
        copy.state.since,
        copy.state.probation,
        copy.pulse,
    )
    copy.state, _ = step(
        known, None, now, POLICY, copy.hears_since, lease_over=at is not None and at <= now
    )
    if copy.state.health is not Health.DOWN:
        return 0
    left = None if at is None else at - now
    facts = Facts(EPOCH, beats=False, devices=0, lease_left_s=left)
    if decide(Standing(), facts).move is not Move.LEASE_IS_OVER:
        return 0
    assert not machine.runs_desktops, "free while they run"
    return 1


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), disarms=st.sampled_from([0.0, 0.05, 0.3]))
def test_what_a_lease_frees_has_ended(seed: int, disarms: float) -> None:
    play(random.Random(seed), 200, disarms=disarms)


def test_the_histories_do_free_something() -> None:
    assert sum(play(random.Random(seed), 200, disarms=0.0) > 0 for seed in range(40)) > 5
