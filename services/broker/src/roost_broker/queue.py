"""Places in the queue for a pool's desktops, and what a launch is told. Pure.

A launch in place *n* may take a desktop when at least *n* are free: the oldest come first, and
nobody has to be handed anything. Who waits learns the place and when to ask again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from roost_common.contracts.base import Problem

SOONEST_MS: Final = 500
LATEST_MS: Final = 15_000
ATTENTIVE_S: Final = 30.0
"""Who has not asked for this long, twice the longest pause, is passed over until the next time."""
PER_PLACE_MS: Final = 50
"""So that a thousand who wait ask no more than a few hundred times a second together."""


class Outlook(StrEnum):
    """What a launch can expect."""

    FREE = "free"
    """A desktop is there for this place."""
    STARTING = "starting"
    """One is on its way for this place."""
    QUEUED = "queued"
    """One will be made for this place."""
    EXHAUSTED = "exhausted"
    """The pool has as many as it may, and others have them."""
    TROUBLED = "troubled"
    """What should come for this place cannot."""


@dataclass(frozen=True)
class Picture:
    """A pool's desktops, counted by phase."""

    max: int
    free: int = 0
    coming: int = 0
    assigned: int = 0
    troubled: int = 0
    leaving: int = 0
    problem: Problem | None = None
    """Of one of the troubled."""
    blocked: Problem | None = None
    """What another desktop would meet as well: none is made for now."""

    @property
    def total(self) -> int:
        """All that exist or soon will."""
        return self.free + self.coming + self.assigned + self.troubled

    @property
    def room(self) -> int:
        """How many more can be made now; those that leave make room soon."""
        return 0 if self.blocked else max(0, self.max - self.total)


def outlook(place: int, picture: Picture) -> Outlook:
    """What the launch in this ``place`` (the first is 1) can expect."""
    if place <= picture.free:
        return Outlook.FREE
    if place <= picture.free + picture.coming:
        return Outlook.STARTING
    if place <= picture.free + picture.coming + picture.room:
        return Outlook.QUEUED
    if reason(picture) is not None:
        return Outlook.TROUBLED
    return Outlook.EXHAUSTED


def reason(picture: Picture) -> Problem | None:
    """What keeps the pool from having more desktops, if anything but its size does."""
    return picture.blocked or picture.problem


def retry_after_ms(place: int) -> int:
    """When to ask again, by place: those in front soon, those behind later."""
    return min(max(SOONEST_MS, PER_PLACE_MS * place), LATEST_MS)
