"""The failure detector of one host: a pure state machine over its beats.

::

             first beat            silent                 silent longer
    (none) ─────────────► up ─────────────► suspected ──────────────────► down
                          ▲ ▲                  │  ▲                         │ beats again
             quiet time   │ └──── beats ───────┘  │ silent                  ▼
                          └──────────────────────────────────────────── recovered

A host that falls silent while it is recovered is suspected like any other, but returns to
recovered: it counts as up only after a whole quiet time.

Silence alone makes nobody down where there is a second, independent path to ask (`witness`): while
that says that the machine lives, the host stays suspected. Unless its own lease is sure to have
ended (`lease_watch`): then the desktops that are restarted elsewhere run there no more, whatever
else lives.

A host that is switched off on purpose is *off* until it beats, and recovered then. That is written
by who switches it (`powering`), never judged here; while it is under way, silence is expected.

All times are seconds of *this process's* monotonic clock. A node's own clock is used for one
thing alone: how far it moved between two of its beats (`hear`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from roost_common.contracts.host import Health, HostBeat

PACE_TOLERANCE_S: Final = 0.5
"""Half a beat: two beats that arrive no more than this apart from how they were sent came live."""
EVIDENCE_LIFE_S: Final = 5.0
"""How old an answer of the second path may be: several rounds of `witness`."""
RETIRED_KEPT: Final = 4
"""Earlier agents of a node that are remembered, so that their late beats count for nothing."""


@dataclass(frozen=True)
class Policy:
    """How long silence may last, in seconds since a host was last heard."""

    suspect_after_s: float = 2.5
    """Two beats missed and half a second for the network: one lost sample suspects nobody."""
    down_after_s: float = 4.5
    """A failure is to be known within 5 s of the last beat; what is left of that pays for the
    detector's own tick (0.25 s), the transaction and the bus."""
    quiet_s: float = 10.0
    """How long a host that was down must beat before it counts as up."""
    boot_s: float = 600.0
    """How long a host that was switched on may take until its first beat. Servers with much
    memory and many adapters take minutes for their self-test alone."""
    return_s: float = 300.0
    """How long hosts may take to come back after all of them, or nobody who watched them, was
    there. As long as oVirt's engine fences nobody after its start (DisableFenceAtStartupInSec)."""


@dataclass(frozen=True)
class Evidence:
    """What a second, independent path says of a host that is silent on the bus."""

    asked_at: float = float("-inf")
    """When the last round of questions that is over began."""
    answered: str = ""
    """What answered in it, in words; empty where nothing did."""


@dataclass(frozen=True)
class Pulse:
    """What is known of a node from its beats alone."""

    agent_id: UUID
    sequence: int
    sent_at: float
    """The node's own clock, in seconds since the epoch."""
    arrived_at: float
    heard_at: float
    """When the node is known to have lived: never later than ``arrived_at``."""
    libvirt: bool
    retired: tuple[UUID, ...] = ()
    address: str = ""
    lease_s: float = 0.0
    lease_armed: bool = False
    witness: UUID | None = None


@dataclass(frozen=True)
class State:
    """A host as the detector sees it."""

    health: Health | None = None
    """None: not watched until it beats."""
    sequence: int = 0
    """Of the last change."""
    since: float = float("-inf")
    probation: bool = False
    """It was down and has not been quiet for long enough since."""
    pulse: Pulse | None = None
    vouched: bool = False
    """It was said that it is only suspected because something answers on the second path."""
    planned: bool = False
    """It is being switched off on purpose: its silence is expected."""
    maintained: bool = False
    """It is in maintenance: it is judged like the others, and alarms nobody."""
    waking: bool = False
    """It is off and was switched on."""
    spared_until: float = float("-inf")
    """Until then it has time to come back: one that is suspected is not down yet, and on one that
    is down no device is used (`returning` says who is given it)."""


@dataclass(frozen=True)
class Transition:
    """One change of a host's health; ``sequence`` grows by one with each."""

    health: Health
    sequence: int
    at: float
    reason: str


def hear(pulse: Pulse | None, beat: HostBeat, now: float) -> Pulse:
    """What is known after ``beat`` arrived at ``now``.

    A beat that came before (its sequence did not grow, or its agent has been replaced) changes
    nothing. A beat that waited on its way, in a queue or in an agent that had lost the bus, is
    evidence of the past: unless it arrived at the pace at which it was sent, the host was heard
    only as much later as the node's clock moved. Only differences of that clock count, and only
    from one beat to the next, so a clock that is wrong, drifts or is set costs one beat at most.
    """
    sent_at = beat.sent_at.timestamp()
    fresh = Pulse(
        agent_id=beat.agent_id,
        sequence=beat.sequence,
        sent_at=sent_at,
        arrived_at=now,
        heard_at=now,
        libvirt=beat.libvirt,
        address=beat.address,
        lease_s=beat.lease_s,
        lease_armed=beat.lease_armed,
        witness=beat.witness,
    )
    if pulse is None:
        return fresh
    if beat.agent_id in pulse.retired:
        return pulse
    if beat.agent_id != pulse.agent_id:
        return replace(fresh, retired=(*pulse.retired, pulse.agent_id)[-RETIRED_KEPT:])
    if beat.sequence <= pulse.sequence:
        return pulse
    sent_apart = sent_at - pulse.sent_at
    live = abs((now - pulse.arrived_at) - sent_apart) < PACE_TOLERANCE_S
    heard_at = now if live else min(now, pulse.heard_at + max(0.0, sent_apart))
    return replace(fresh, heard_at=heard_at, retired=pulse.retired)


def step(
    state: State,
    beat: HostBeat | None,
    now: float,
    policy: Policy,
    observing_since: float | None,
    *,
    evidence: Evidence | None = None,
    lease_over: bool = False,
) -> tuple[State, list[Transition]]:
    """The state after ``beat`` (or after nothing) at ``now``, and what changed on the way.

    ``observing_since`` is when this process last began to hear the bus, None while it does not:
    silence counts from there at the earliest, so that nobody is suspected for what this process
    could not hear. See `hearing`. ``evidence`` is the second path's, None where there is no such
    path to this host; ``lease_over``: the host's own lease is sure to have ended.
    """
    if beat is not None:
        state = replace(state, pulse=hear(state.pulse, beat, now))
    transitions: list[Transition] = []
    while (
        change := _judge(
            state,
            now,
            policy,
            observing_since=observing_since,
            evidence=evidence,
            lease_over=lease_over,
        )
    ) is not None:
        health, reason = change
        transitions.append(Transition(health, state.sequence + 1, now, reason))
        state = replace(
            state,
            health=health,
            sequence=state.sequence + 1,
            since=state.since if health is state.health else now,
            probation=health in (Health.DOWN, Health.RECOVERED)
            or (state.probation and health is not Health.UP),
            vouched=health is state.health,
            waking=False,
        )
    return state, transitions


def _judge(
    state: State,
    now: float,
    policy: Policy,
    *,
    observing_since: float | None,
    evidence: Evidence | None,
    lease_over: bool,
) -> tuple[Health, str] | None:
    """The next health and why, or None when it stays."""
    heard_at = state.pulse.heard_at if state.pulse is not None else float("-inf")
    beats = now - heard_at < policy.suspect_after_s
    silence = 0.0 if observing_since is None else now - max(heard_at, observing_since)
    change: tuple[Health, str] | None = None
    match state.health:
        case None if beats:
            change = Health.UP, "It beats."
        case Health.UP | Health.RECOVERED if (
            silence >= policy.suspect_after_s and not state.planned
        ):
            change = Health.SUSPECTED, f"No beat for {policy.suspect_after_s:g} s."
        case Health.SUSPECTED if beats:
            back = Health.RECOVERED if state.probation else Health.UP
            change = back, "It beats again."
        case Health.SUSPECTED if silence >= policy.down_after_s and now >= state.spared_until:
            change = _weigh(
                state, now, policy, heard_at=heard_at, evidence=evidence, lease_over=lease_over
            )
        case Health.DOWN if beats:
            change = Health.RECOVERED, "It beats again after having been down."
        case Health.RECOVERED if beats and now - state.since >= policy.quiet_s:
            change = Health.UP, f"It has beaten for {policy.quiet_s:g} s without a break."
        case Health.OFF if beats:
            change = Health.RECOVERED, "It beats: it was switched on."
        case Health.OFF if state.waking and now - state.since >= policy.boot_s:
            change = Health.DOWN, f"It was switched on {policy.boot_s:g} s ago and does not beat."
    return change


def _weigh(
    state: State,
    now: float,
    policy: Policy,
    *,
    heard_at: float,
    evidence: Evidence | None,
    lease_over: bool,
) -> tuple[Health, str] | None:
    """What becomes of a suspected host that has been silent for long enough to be down."""
    silent = f"No beat for {policy.down_after_s:g} s"
    if lease_over:
        return Health.DOWN, "No beat for so long that its own lease has ended."
    if evidence is None:
        return Health.DOWN, f"{silent}."
    asked = evidence.asked_at > heard_at and now - evidence.asked_at <= EVIDENCE_LIFE_S
    if asked and not evidence.answered:
        return Health.DOWN, f"{silent}, and nothing answers on the second path."
    if asked and not state.vouched:
        return Health.SUSPECTED, f"{silent}, but {evidence.answered}."
    return None
