"""What is to be done about a host that is down, from what is known of it. Pure.

::

    FENCING ──── fenced ──────────────► RECOVERING ── every desktop back or given up ──► RESOLVED
      │ ▲ nothing works                     ▲                                               ▲
      ▼ │ lease can be counted on           │ device, lease or person                       │
    AWAITING_CONFIRMATION ──────────────────┘                                               │
      └──────────── the host beats again before it was fenced: a false alarm ───────────────┘
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from roost_common.contracts.incident import IncidentState

RETRIES: Final = tuple(timedelta(seconds=s) for s in (10, 20, 40, 60))
"""Pauses between rounds through the devices, the last one repeated: management boards restart
within a minute, and a switch that was mended should not wait long."""


class Move(Enum):
    """What to do next."""

    WAIT = auto()
    FENCE = auto()
    """Go through the host's devices once."""
    LEASE_IS_OVER = auto()
    """Count it as fenced by its own lease."""
    ASK = auto()
    """Nothing can make sure: a person is needed."""
    FALSE_ALARM = auto()


@dataclass(frozen=True)
class Standing:
    """What the incident's row says; it is not fenced yet."""

    forced: bool = False
    """An administrator wants the host fenced, whether it beats or not."""
    rounds: int = 0
    """Rounds through the devices without success."""
    retry_at: datetime | None = None


@dataclass(frozen=True)
class Facts:
    """What is known of the host and the site now."""

    now: datetime
    beats: bool
    """It has been heard since it was down, or was never down."""
    devices: int
    lease_left_s: float | None
    """Until its own lease is sure to be over; None where that cannot be counted on."""
    disarmed: bool = False
    held_back: str = ""
    """Why no device may be used now, in words; empty: one may."""
    spared: bool = False
    """It has time to come back before a device is used: the site is just starting, or all hosts
    were silent at once."""
    maintained: bool = False
    """It is in maintenance: it has no desktops."""
    anew: bool = False
    """By another run of its agent than the one that fell silent."""


@dataclass(frozen=True)
class Decision:
    """What to do, and what to tell about it."""

    move: Move
    state: IncidentState
    detail: str


def decide(standing: Standing, facts: Facts) -> Decision:
    """The next move of an incident whose host is not fenced, and nothing is under way for it."""
    fencing = IncidentState.FENCING
    if facts.beats and not (standing.forced and standing.rounds == 0):
        why = "It beats again and was not fenced."
        if facts.anew:
            why = "It was started anew before it was fenced; what it had lost is restarted."
        return Decision(Move.FALSE_ALARM, IncidentState.RESOLVED, why)
    why = aside(disarmed=facts.disarmed, maintained=facts.maintained)
    if why and not standing.forced:
        return Decision(Move.WAIT, fencing, why)
    may = standing.forced or not (facts.held_back or facts.spared)
    if facts.devices and may and _round_due(standing, facts):
        state = IncidentState.AWAITING_CONFIRMATION if standing.rounds else fencing
        return Decision(Move.FENCE, state, "It is being switched off.")
    if facts.lease_left_s is not None:
        if facts.lease_left_s <= 0:
            return Decision(Move.LEASE_IS_OVER, fencing, "Its own lease is over.")
        return Decision(Move.WAIT, fencing, "Its own lease is waited for.")
    return Decision(Move.ASK, IncidentState.AWAITING_CONFIRMATION, _why_ask(standing, facts))


def hold(unfenced: int, watched: int, beating: int, at_most: float) -> str:
    """What speaks against using devices while so many hosts are not fenced; empty: nothing does.

    Where nobody is left to take their desktops, switching hosts off helps nobody, and all of them
    at once are more likely one network: the managers' own. Above ``at_most``, a share of the hosts
    that are watched, the same is held likely.
    """
    if not beating:
        return (
            "No host is left that beats and takes desktops: nothing could be restarted; is it the "
            "network?"
        )
    if unfenced > 1 and unfenced > at_most * watched:
        return (
            f"{unfenced} of {watched} hosts are down at once, more than are fenced by themselves."
        )
    return ""


def retry_at(rounds: int, now: datetime) -> datetime:
    """When to go through the devices again after ``rounds`` without success."""
    return now + RETRIES[min(rounds, len(RETRIES)) - 1]


def _round_due(standing: Standing, facts: Facts) -> bool:
    if standing.retry_at is None:
        return True
    # Further away than any pause: the clock of who wrote it was ahead.
    left = standing.retry_at - facts.now
    return left <= timedelta() or left > RETRIES[-1]


def aside(*, disarmed: bool, maintained: bool) -> str:
    """Why nothing is to be done about a host, in words; empty: something is."""
    if disarmed:
        return "High availability is disarmed: nothing is fenced."
    if maintained:
        # Somebody works on it: to switch it off in the middle of that helps nobody.
        return "It is in maintenance and has no desktops: it is left alone."
    return ""


def _why_ask(standing: Standing, facts: Facts) -> str:
    if facts.held_back:
        return facts.held_back
    if facts.devices and facts.spared:
        return "The site starts, or all hosts were silent at once: it is given time to come back."
    if facts.devices:
        which = "its fence device" if facts.devices == 1 else f"any of its {facts.devices} devices"
        return f"It could not be switched off through {which}; it is tried again."
    return "It has no fence device, and its own lease cannot be counted on."
