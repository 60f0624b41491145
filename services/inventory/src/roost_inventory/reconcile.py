"""What to do next for one desktop: a pure function of what should be, what is, and the time.

Level-triggered: the answer depends on the present situation alone, never on which message brought
it about, so that a lost, repeated or late message delays and never corrupts.

A desktop on a host goes through one circle, and there is no short cut in it::

    no host ──Place──▶ told on ──Release──▶ told off ──Detach──▶ no host

`Detach` needs the proof that the domain is absent, and only a desktop without a host is placed:
so no second host is told `on` before the first has been seen without the desktop. A crash, a
refusal of the node, a guest that shut itself down and a re-image all take the same circle.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from roost_common.contracts.desktop import DesktopState, DomainState, Power, StopMode

TELL_AGAIN_S: Final = (10.0, 20.0, 30.0)
"""When a command without visible effect is sent again; the last step repeats. A node that starts
fifty desktops at once needs some of that time."""
ASK_DISK_AGAIN_S: Final = (15.0, 30.0, 60.0)
"""The same for imaging, which may have a thousand overlays to make."""
PLACE_AGAIN_S: Final = (2.0, 5.0, 10.0, 15.0)
"""While there is no room; whatever makes room wakes those who wait earlier."""
NEVER_FITS_AGAIN_S: Final = 60.0
"""While no known host could ever carry it, or imaging says that asking again cannot help."""
FAIL_AGAIN_S: Final = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0)
"""After the n-th crash or refusal in a row."""
LOCKED_AGAIN_S: Final = (5.0, 15.0, 60.0, 120.0, 300.0)
"""The same while the lock of its image says that a copy runs: haste helps nobody."""
GIVE_UP: Final = 10
"""Failures in a row after which it is left alone until somebody orders something."""
CRASH_LOOP: Final = 3
"""Crashes in a row from which on a person is told."""
STABLE: Final = timedelta(seconds=60)
"""A desktop that ran this long has not failed to start: what it does next is counted anew."""

UP: Final = frozenset({DomainState.RUNNING, DomainState.PAUSED})
"""A paused guest keeps its memory, its screen and its users."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """All that the decision depends on."""

    power: Power
    stop: StopMode = StopMode.POWEROFF
    """How it is to be stopped when ``power`` is off."""
    deleting: bool = False
    deleted: bool = False

    host: str | None = None
    """The node it is assigned to; the next fields speak of that assignment."""
    reachable: bool = True
    """Whether the host counts as alive."""
    told: Power = Power.OFF
    """What the node was told last."""
    told_stop: StopMode = StopMode.POWEROFF
    told_generation: int = 0
    void: bool = False
    """It was told to a run of the node's agent that is over: nobody will follow that command."""
    applied: bool = False
    """Whether the node has been seen with this assignment's generation."""
    seen: DomainState | None = None
    """None until the node has said anything about this assignment."""
    seen_generation: int = 0
    refused: bool = False
    """The node said why it cannot do it."""

    disk_wanted: int = 1
    disk_ready: int = 0
    disk_gone: bool = False

    asked_at: datetime | None = None
    """When the node, imaging or placement was last asked for what is missing."""
    asks: int = 0
    retry_at: datetime | None = None
    """Not to be tried before this time."""
    failures: int = 0
    """Crashes and refusals in a row."""


class Action(Enum):
    """One thing to do."""

    PLACE = auto()
    """Choose a host, reserve room on it, and tell it `on`."""
    RELEASE = auto()
    """From now on its host is told `off` (with a new generation)."""
    RELEASE_HARD = auto()
    """The same, and its power is cut at once."""
    TELL = auto()
    """Tell its node what should be, once more."""
    DETACH = auto()
    """The domain is gone from its host: the host is free of it."""
    MAKE_DISK = auto()
    DROP_DISK = auto()
    FINISH = auto()
    """Nothing is left of it."""


@dataclass(frozen=True)
class Step:
    """The next action, if there is one, and when to look again if nothing happens before."""

    action: Action | None = None
    check_at: datetime | None = None


IDLE: Final = Step()


def plan(s: Situation, now: datetime) -> Step:  # noqa: PLR0911 - one line for each place in the circle
    """The next step. To be asked again after each action until none is left."""
    if s.deleted:
        return IDLE
    if s.host is not None:
        return _told_on(s, now) if s.told is Power.ON else _told_off(s, now)
    if s.deleting:
        if s.disk_gone:
            return Step(Action.FINISH)
        return _not_before(s.retry_at, now) or _ask(s, now, Action.DROP_DISK, ASK_DISK_AGAIN_S)
    if s.disk_ready != s.disk_wanted:
        return _not_before(s.retry_at, now) or _ask(s, now, Action.MAKE_DISK, ASK_DISK_AGAIN_S)
    if s.power is Power.OFF or s.failures >= GIVE_UP:
        return IDLE
    return _not_before(s.retry_at, now) or Step(Action.PLACE)


def _told_on(s: Situation, now: datetime) -> Step:
    if s.deleting or s.disk_ready != s.disk_wanted:
        return Step(Action.RELEASE_HARD)
    if s.power is Power.OFF:
        return Step(Action.RELEASE)
    if s.seen in UP and s.applied:
        return IDLE
    if s.refused or (s.applied and s.seen is not None):
        # It stopped by itself, or could not start: first the node forgets it.
        return Step(Action.RELEASE_HARD)
    return _tell(s, now)


def _told_off(s: Situation, now: datetime) -> Step:
    if s.seen is DomainState.ABSENT and s.seen_generation >= s.told_generation:
        return Step(Action.DETACH)
    hard = s.deleting or s.disk_ready != s.disk_wanted
    hard = hard or (s.power is Power.OFF and s.stop is StopMode.POWEROFF)
    if hard and s.told_stop is StopMode.SHUTDOWN:
        return Step(Action.RELEASE_HARD)
    return _tell(s, now)


def _tell(s: Situation, now: datetime) -> Step:
    if not s.reachable and s.asks:
        # The command waits in the node's queue; more of them would only pile up there.
        return IDLE
    if s.void and s.reachable:
        return Step(Action.TELL)
    return _ask(s, now, Action.TELL, TELL_AGAIN_S)


def _ask(s: Situation, now: datetime, action: Action, steps: tuple[float, ...]) -> Step:
    if s.asked_at is None or s.asks == 0:
        return Step(action)
    return _not_before(s.asked_at + after(steps, s.asks), now) or Step(action)


def _not_before(when: datetime | None, now: datetime) -> Step | None:
    return Step(check_at=when) if when is not None and now < when else None


def after(steps: tuple[float, ...], count: int) -> timedelta:
    """How long to wait after the ``count``-th time (from 1); the last step repeats."""
    return timedelta(seconds=steps[min(max(count, 1), len(steps)) - 1])


def derive(s: Situation) -> DesktopState:  # noqa: PLR0911 - one line for each state
    """The state a person sees, from the same facts."""
    if s.deleted:
        return DesktopState.DELETED
    if s.deleting:
        return DesktopState.DELETING
    if s.host is not None and not s.reachable:
        return DesktopState.UNKNOWN
    up = s.host is not None and s.applied and s.seen in UP
    if up:
        stays = s.told is s.power is Power.ON and s.disk_ready == s.disk_wanted
        return DesktopState.RUNNING if stays else DesktopState.STOPPING
    if s.host is not None and s.told is Power.OFF and not s.applied and not s.refused:
        # Told on and off again before the node did anything: it may just be starting.
        return DesktopState.STOPPING
    if s.disk_ready != s.disk_wanted:
        return DesktopState.PROVISIONING
    return DesktopState.STARTING if s.power is Power.ON else DesktopState.STOPPED
