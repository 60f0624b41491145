"""What became of a desktop that was on a host that was fenced. Pure.

Told from inventory's views alone, in whatever order they come: the highest revision at which it
was seen running, and the newest view of all.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from roost_common.contracts.desktop import DesktopState, Power
from roost_common.contracts.incident import Resolution

GIVEN_UP_CODE: Final = "desktop.given-up"
"""Problem of a desktop that inventory has stopped trying to start."""


class Fate(StrEnum):
    """Of one desktop of an incident."""

    WAITING = "waiting"
    BACK = "back"
    GIVEN_UP = "given-up"
    LEFT = "left"
    """Its policy is not to be restarted."""


@dataclass(frozen=True)
class Seen:
    """What inventory has said of a desktop."""

    revision: int
    state: DesktopState
    power: Power
    running_revision: int
    """The highest at which it ran; 0: never."""
    problem_code: str = ""
    problem: str = ""


def tell(lost_revision: int, *, restart: bool, seen: Seen | None) -> tuple[Fate, str]:
    """Its fate and why; ``lost_revision`` is that of the view that says it is gone."""
    if not restart:
        return Fate.LEFT, "Its policy is not to be restarted."
    if seen is None or seen.revision <= lost_revision:
        return Fate.WAITING, ""
    if seen.running_revision > lost_revision:
        return Fate.BACK, ""
    return _given_up(seen)


def _given_up(seen: Seen) -> tuple[Fate, str]:
    if seen.state in (DesktopState.DELETED, DesktopState.DELETING):
        return Fate.GIVEN_UP, "It was deleted."
    if seen.power is Power.OFF:
        return Fate.GIVEN_UP, "It was switched off."
    given_up = seen.problem_code == GIVEN_UP_CODE
    return Fate.GIVEN_UP if given_up else Fate.WAITING, seen.problem


def resolution(fates: Collection[Fate]) -> Resolution | None:
    """How an incident ends with these; None while one of them is waited for."""
    if Fate.WAITING in fates:
        return None
    return Resolution.PARTLY if Fate.GIVEN_UP in fates else Resolution.RECOVERED
