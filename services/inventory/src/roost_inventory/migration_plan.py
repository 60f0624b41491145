"""Where a desktop that is being moved is, and what to do until that is known. Pure.

While a guest moves it exists on two nodes, and either may die at any moment. Nobody's word alone
counts (decision 10): it has moved when the target has it and the source has not, it has stayed
when the source has it, will not send it any more, and the target has not. A node has nothing when
it says so, or is fenced. Neither of them has it: then it was lost, and runs anew like any other.

The generation makes the target's word a proof: each migration has one of its own, which nothing
but its arrival can bring there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import DomainState
from roost_inventory.reconcile import TELL_AGAIN_S, after

STALE: Final = timedelta(seconds=15)
"""Longer than a report is on its way: what is heard this long after something was known was seen
after it."""
LAST_WORD: Final = timedelta(seconds=20)
"""What has arrived runs at once, and is seen: a target that lacks it this long after its source
had it last will not have it."""
SILENCE: Final = timedelta(minutes=1)
"""A source that was told to give a migration up, and says in this time neither that it has nor
that it is at it, knows of none."""


@dataclass(frozen=True)
class Word:
    """What a node said last of the desktop since the migration began."""

    state: DomainState
    heard_at: datetime
    """By inventory's clock; when a source is free of it, when that was first heard."""
    generation: int = 0
    leaving: bool = False
    """It is on its way from there."""

    @property
    def has_it(self) -> bool:
        """Whether there is a domain, whatever it does."""
        return self.state is not DomainState.ABSENT


@dataclass(frozen=True, kw_only=True)
class Course:
    """All that is known of a migration under way."""

    generation: int
    """Its own: the target has it when it has been moved."""
    deadline_at: datetime
    wanted: bool = True
    """Nobody has cancelled it, and the desktop is to run on as it is."""
    reachable: bool = True
    """Whether the source counts as alive."""
    void: bool = False
    """It was told to a run of the source's agent that is over."""

    source: Word | None = None
    target: Word | None = None
    source_fenced_at: datetime | None = None
    """When it became known that the source was fenced, and this desktop does not run there."""
    target_fenced_at: datetime | None = None

    ended_at: datetime | None = None
    """When the source's word came that it is over."""
    ended_by: Problem | None = None
    """Why it was not moved, as the source says; None where it says that it was."""
    cancelled_at: datetime | None = None
    """When the source was first told to give it up."""
    asked_at: datetime | None = None
    asks: int = 0


class End(Enum):
    """How a migration ends, for sure."""

    MOVED = auto()
    STAYED = auto()
    LOST = auto()
    """Neither node has it."""


class Action(Enum):
    """What the source is to be told now."""

    TELL = auto()
    CANCEL = auto()


@dataclass(frozen=True)
class Step:
    """The end, or what to tell the source, or when to look again if nothing happens before."""

    end: End | None = None
    action: Action | None = None
    check_at: datetime | None = None


def plan(course: Course, now: datetime) -> Step:
    """The next step; to be asked again after each word of either node."""
    end = _end(course)
    if end is not None:
        return Step(end=end)
    if course.ended_at is not None or _source_is_free(course):
        return Step()  # only the nodes' words are still missing
    if is_given_up(course, now):
        return _say(course, now, Action.CANCEL)
    if course.source is not None and course.source.leaving:
        return Step(check_at=course.deadline_at)
    step = _say(course, now, Action.TELL)
    if step.action is not None:
        return step
    return Step(check_at=min(course.deadline_at, step.check_at or course.deadline_at))


def is_given_up(course: Course, now: datetime) -> bool:
    """Whether the desktop is to stay where it is, if it still can."""
    return (
        not course.wanted
        or course.cancelled_at is not None
        or course.target_fenced_at is not None
        or now >= course.deadline_at
    )


def _end(course: Course) -> End | None:
    target, fenced = course.target, course.target_fenced_at
    arrived = (
        target is not None
        and (fenced is None or target.heard_at > fenced)
        and target.has_it
        and target.generation >= course.generation
    )
    if _source_is_free(course):
        if arrived:
            return End.MOVED
        return End.LOST if _never_arrived(course) else None
    if arrived:
        return End.MOVED if _is_left_behind(course) else None
    return End.STAYED if _stays(course) else None


def _source_is_free(course: Course) -> bool:
    says_so = course.source is not None and not course.source.has_it
    return course.source_fenced_at is not None or says_so


def _never_arrived(course: Course) -> bool:
    """The source is free of it; whether the target is, too.

    The target's fence proves it where the source was free before: what the source sends later
    arrives at the same machine, started again.
    """
    since = course.source_fenced_at
    if since is None:
        since = course.source.heard_at if course.source is not None else None
    if since is None:
        return False
    if course.target_fenced_at is not None and since <= course.target_fenced_at:
        return True
    return _lacks(course.target, since + LAST_WORD)


def _stays(course: Course) -> bool:
    """Whether the source has it for good."""
    over = over_at(course)
    if over is None or course.source is None or course.source.leaving:
        return False
    if course.source.heard_at <= over:
        return False
    return course.target_fenced_at is not None or _lacks(course.target, over)


def _is_left_behind(course: Course) -> bool:
    """Whether what the source has is an empty shell.

    A libvirtd that restarts in the very last moment of a migration does not dare to end it: the
    guest runs at its target, and what is paused at the source is never continued.
    """
    over, source, target = over_at(course), course.source, course.target
    if over is None or source is None or target is None or source.leaving:
        return False
    paused = source.state is DomainState.PAUSED and source.heard_at > over
    return paused and target.state is DomainState.RUNNING and target.heard_at > over


def over_at(course: Course) -> datetime | None:
    """From when on what the nodes say is about the time after the migration."""
    if course.ended_at is not None:
        # A source that says it was moved ought not to have it: this must not be a word of before.
        return course.ended_at if course.ended_by is not None else course.ended_at + STALE
    return None if course.cancelled_at is None else course.cancelled_at + SILENCE


def _lacks(word: Word | None, since: datetime) -> bool:
    return word is not None and not word.has_it and word.heard_at > since


def _say(course: Course, now: datetime, action: Action) -> Step:
    first = action is Action.CANCEL and course.cancelled_at is None
    if not course.reachable and course.asks and not first:
        return Step()  # the command waits in the node's queue
    if first or not course.asks or course.asked_at is None or (course.void and course.reachable):
        return Step(action=action)
    again = course.asked_at + after(TELL_AGAIN_S, course.asks)
    return Step(action=action) if now >= again else Step(check_at=again)
